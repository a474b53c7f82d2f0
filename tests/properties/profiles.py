"""Hypothesis profiles: `dev` (seconds, repeatable), `ci` (hundreds of machine runs), `mutants` (small, no shrinking).

HYPOTHESIS_PROFILE chooses one; without it `dev` is used.
"""

import os

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

VARIABLE = "HYPOTHESIS_PROFILE"
BATCH = 10
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
PROFILES = {
    "dev": settings(
        max_examples=50,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=_SLOW,
    ),
    "ci": settings(
        max_examples=300, stateful_step_count=30, deadline=None, print_blob=True, suppress_health_check=_SLOW
    ),
    "mutants": settings(
        max_examples=40,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        report_multiple_bugs=False,
        suppress_health_check=_SLOW,
    ),
}


def load() -> str:
    """Register the profiles and load the one in HYPOTHESIS_PROFILE; raises InvalidArgument for a name that is none."""
    for name, profile in PROFILES.items():
        settings.register_profile(name, profile)
    settings.load_profile(chosen())
    return chosen()


def chosen() -> str:
    return os.environ.get(VARIABLE, "dev")


def batches(*, dev: int, ci: int) -> range:
    """Batches of machine runs to parametrise a test with: small ones with their own seeds vary more than one."""
    return range({"dev": dev, "ci": ci, "mutants": dev}[chosen()])


def sized(*, dev: int, ci: int) -> settings:
    """Settings of a property of its own size: under `ci` so many examples, not the same every time."""
    return settings(PROFILES[chosen()], max_examples={"dev": dev, "ci": ci, "mutants": dev}[chosen()])


def run_machine(machine: type[RuleBasedStateMachine], batch: int, *, runs: int = BATCH, steps: int = 25) -> None:
    """Run a state machine `runs` times. Under `ci` it is not the same every time, and a failure is shortened."""
    plan = settings(PROFILES[chosen()], max_examples=runs, stateful_step_count=steps)

    copy = type(machine.__name__, (machine,), {})
    run_state_machine_as_test(copy if chosen() == "ci" else seed(batch)(copy), settings=plan)
