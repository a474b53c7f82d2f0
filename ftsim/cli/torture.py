"""`ftsim torture`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ftsim.cli.console import AsJson, fail, tell
from ftsim.cli.program import Program


def torture(
    program: Program = None,
    seed: Annotated[int, typer.Option(help="Fixes what happens, and when.")] = 0,
    kills: Annotated[int, typer.Option(help="How often the program is killed.")] = 3,
    failures: Annotated[int, typer.Option(help="How many failures of the service strike, each once.")] = 5,
    folder: Annotated[
        Path | None, typer.Option(help="What the program finds around it; the current folder by default.")
    ] = None,
    as_json: AsJson = False,
    timeout: Annotated[float, typer.Option(help="Seconds that one start of the program may take.")] = 900.0,
) -> None:
    """Run a program through kills and failures, and judge it.

    First left alone, then killed and restarted while calls fail, answers are lost and trainers are preempted. Says
    whether it lost a step, trained rows twice, promoted the wrong checkpoint or left trainers and deployments behind;
    the exit status is 0 when it survived, 1 when it did not, 2 when it could not be run, and 3 when it was not judged
    because no start came back to a save."""
    from ftsim.extras import require

    require("train", "tortured runs")
    from ftsim.compute.backend import TorchBackend
    from ftsim.process.run import RunError
    from ftsim.tools.torture import TortureError, torture as judge

    try:
        verdict = judge(
            program or [],
            backend=TorchBackend,
            seed=seed,
            kills=kills,
            failures=failures,
            folder=folder or Path.cwd(),
            timeout_s=timeout,
        )
    except (TortureError, RunError) as error:
        fail(str(error), 2)
    if as_json:
        tell(asdict(verdict) | {"survived": verdict.survived, "judged": verdict.judged}, True)
        raise SystemExit(3 if not verdict.judged else 0 if verdict.survived else 1)
    print(
        f"{verdict.steps} steps when left alone, in {verdict.alone_s:.1f} s; "
        f"{verdict.starts} starts under {len(verdict.struck)} disturbances, in {verdict.disturbed_s:.1f} s:"
    )
    for line in (*verdict.struck, *verdict.resumed, *verdict.notes):
        print(f"  {line}")
    for problem in verdict.problems:
        print(f"problem: {problem}")
    if not verdict.judged:
        print("not judged: it was killed, and no start came back to a save; does it save and resume?")
        raise SystemExit(3)
    print("survived: it ended as if nothing had happened" if verdict.survived else "not survived")
    raise SystemExit(0 if verdict.survived else 1)
