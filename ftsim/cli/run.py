"""`ftsim run`."""

from pathlib import Path

from ftsim.cli.console import StateDir, fail
from ftsim.cli.program import Program


def run(
    program: Program = None,
    state_dir: StateDir = None,
) -> None:
    """Run a program against the emulator.

    The program is not modified. The emulator of the state folder is started when it does not run, and ends after its
    last program. The program finds FIREWORKS_BASE_URL, FIREWORKS_API_KEY and an offline hub with the tokenizers of the
    catalogue, and `training.*` when no cookbook is installed.
    """
    from ftsim.process.attendance import default_state_dir
    from ftsim.process.run import RunError, exec_program

    try:
        exec_program(program or [], state_dir=_resolved(state_dir or default_state_dir()))
    except RunError as error:
        fail(str(error), 2)


def _resolved(folder: Path) -> Path:
    return folder.expanduser().resolve()
