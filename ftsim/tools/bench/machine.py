"""The property test of the platform: how fast its runs are."""

import logging
import time
from collections.abc import Iterator

from ftsim.tools.bench.measure import Result
from ftsim.tools.bench.stand import Stand

RUNS, STEPS = 12, 25


def machine_runs(stand: Stand) -> Iterator[Result]:
    """Runs per second of `PlatformMachine`, each up to 25 calls of the SDK on a real trainer and their checks."""
    from hypothesis import settings
    from hypothesis.stateful import run_state_machine_as_test

    from ftsim.testing import profiles
    from ftsim.testing.platform import PlatformMachine

    runs = 0

    class Counted(PlatformMachine):
        def __init__(self) -> None:
            nonlocal runs
            runs += 1
            super().__init__()

    chosen = settings(profiles.PROFILES["dev"], stateful_step_count=STEPS)
    logging.getLogger("hypothesis").setLevel(logging.ERROR)
    run_state_machine_as_test(Counted, settings=settings(chosen, max_examples=2))
    runs, began = 0, time.perf_counter()
    run_state_machine_as_test(Counted, settings=settings(chosen, max_examples=RUNS))
    seconds = time.perf_counter() - began
    yield Result("machine_runs", runs / seconds, "/s", None, more_is_better=True, parts={"runs": runs})
