"""The command `ftsim`. Each command is a module of `ftsim.cli`; heavy imports happen inside them."""

import os
import sys
from typing import Annotated

import typer
from typer._click.exceptions import NoArgsIsHelpError, UsageError

from ftsim.cli import console
from ftsim.cli.commands import CommandGroup
from ftsim.cli.console import fail

app = typer.Typer(
    name="ftsim",
    cls=CommandGroup,
    help="A local emulator and test harness for the Fireworks Training API.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        try:
            print(f"ftsim {metadata.version('ftsim-emulator')}")
        except metadata.PackageNotFoundError:
            print("ftsim, from a checkout that is not installed")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error too.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    console.show_tracebacks(debug)


def main() -> None:
    """Entry point of the console command; Ctrl-C ends it quietly."""
    from emulator.core import system

    if system.SYSTEM == "win32":
        fail(system.REFUSAL)
    try:
        status = app(standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        if (refusal := _refusal(error)) is None:
            raise
        fail(refusal, getattr(error, "exit_code", 1))
    sys.exit(status if isinstance(status, int) else 0)


def _refusal(error: Exception) -> str | None:
    """The sentence for an error that the person at the keyboard can mend; None for a fault of our own."""
    from emulator.core.errors import PlatformError
    from ftsim.extras import MissingExtraError, explained

    if isinstance(error, UsageError):
        where = error.ctx.command_path if error.ctx else "ftsim"
        return f"{error.format_message().rstrip('.')}; `{where} --help` lists what there is"
    if isinstance(error, ModuleNotFoundError) and not isinstance(error, MissingExtraError):
        return explained(error)
    if isinstance(error, MissingExtraError):
        return str(error)
    if isinstance(error, PlatformError):
        return error.message
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    httpx = sys.modules.get("httpx")  # an error of it can only come from where it was imported
    if httpx is not None and isinstance(error, httpx.InvalidURL | httpx.TransportError):
        asked = getattr(error, "_request", None)
        return f"{asked.url.copy_with(path='/', query=None) if asked else 'the service'} does not answer: {error}"
    return None


if __name__ == "__main__":
    main()
