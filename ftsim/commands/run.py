"""`ftsim run`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ftsim.commands.console import StateDir, fail

SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_WITH_VALUE = ("--state-dir",)


class RunCommand(TyperCommand):
    """Options of our own come first; from the program on, every word is the program's, `--` included."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        at = _program(args)
        return super().parse_args(ctx, args[:at] + (["--", *args[at:]] if at < len(args) else []))


def _program(args: list[str]) -> int:
    """Where the program begins: the first word that is no option of ours."""
    at = 0
    while at < len(args):
        name, equals, _ = args[at].partition("=")
        if name in _WITH_VALUE:
            at += 1 if equals else 2
        elif name in ("-h", "--help"):
            at += 1
        else:
            break
    return min(at, len(args))


def run(
    program: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCRIPT.py [ARGS] | -m MODULE [ARGS] | -- COMMAND [ARGS]", show_default=False),
    ] = None,
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
