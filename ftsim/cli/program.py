"""Commands around a program: `ftsim COMMAND [our options] SCRIPT.py [its words]`."""

from difflib import get_close_matches
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}
Program = Annotated[
    list[str] | None,
    typer.Argument(metavar="SCRIPT.py [ARGS] | -m MODULE [ARGS] | -- COMMAND [ARGS]", show_default=False),
]


class ProgramCommand(TyperCommand):
    """Options of our own come first; from the program on, every word is the program's, `--` included."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = {
            name: not getattr(option, "is_flag", False)
            for option in self.get_params(ctx)
            for name in (*option.opts, *option.secondary_opts)
            if name.startswith("-")
        }
        at = program_begins(args, options)
        if at < len(args) and (name := args[at].partition("=")[0]).startswith("-") and name not in ("-m", "--"):
            near = get_close_matches(name, options, 1)
            ctx.fail(f"no such option: {name}" + (f" (did you mean {near[0]}?)" if near else ""))
        return super().parse_args(ctx, args[:at] + (["--", *args[at:]] if at < len(args) else []))


def program_begins(args: list[str], options: dict[str, bool]) -> int:
    """The place of the first word that is no option of ours; `options` says which of them take a value."""
    at = 0
    while at < len(args):
        name, equals, _ = args[at].partition("=")
        if name not in options:
            break
        at += 2 if options[name] and not equals else 1
    return min(at, len(args))
