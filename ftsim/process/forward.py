"""`ftsim run --fast-forward`: the file of the clock that programs and emulator share, and who is told of it.

The code that runs in every one of these processes is `shims/ftsim_forward` (docs/fast-forward.md).
"""

from pathlib import Path

from emulator.state.server_record import ServerRecord
from ftsim.shared_clock import VARIABLE, package, python_path

OPTION = "--fast-forward"
FILE = "fast-forward"
"""In the state folder; how far time was moved stays in it, so that the next run goes on from there."""
_ROLE = "FTSIM_FAST_FORWARD_ROLE"


def server_variables(state_dir: Path, rest_of_path: str) -> dict[str, str]:
    """Make the clock of a state folder; what the emulator's process is told so that it shares it."""
    file = str(state_dir / FILE)
    package().Table.make(file)
    package().Table(file).arm()
    return {VARIABLE: file, _ROLE: "server", "PYTHONPATH": python_path(rest_of_path)}


def program_variables(state_dir: Path, server: ServerRecord) -> dict[str, str]:
    """Variables that a program is given so that it shares the emulator's clock; nothing where that is the machine's."""
    file = state_dir / FILE
    if not file.is_file():
        return {}
    rows = package().Table(str(file)).rows()
    shares = any(row.pid == server.pid and row.kind == package().SERVER for row in rows)
    return {VARIABLE: str(file)} if shares else {}


def joins(wanted: list[str], state_dir: Path, server: ServerRecord) -> bool:
    """Say whether nothing is wanted of an emulator that runs, or only the clock that it shares already."""
    return not wanted or (wanted == [OPTION] and bool(program_variables(state_dir, server)))
