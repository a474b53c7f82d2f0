"""`ftsim open`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ftsim.cli.console import ApiKey, AsJson, StateDir, Url, fail, tell


def open_console(
    printed: Annotated[bool, typer.Option("--print", help="Print the link; open no browser.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Open the web console of an emulator in a browser.

    Of the emulator at --url, else of the one of the state folder; where none runs, one does until Ctrl-C. The link is
    good once."""
    from ftsim.cli.service import emulator_of

    if url is not None:
        show(url, api_key or "", printed, as_json)
        return
    running = runs(state_dir)
    with emulator_of(state_dir) as (address, key):
        show(address, key, printed, as_json)
        if not running and not as_json:
            print("the emulator runs until Ctrl-C", flush=True)
        if not running:
            wait()


def runs(state_dir: Path | None) -> bool:
    """Say whether an emulator serves the state folder already."""
    from ftsim.process.attendance import Attendance, default_state_dir
    from ftsim.process.run import _answers

    root = (state_dir or default_state_dir()).expanduser().resolve()
    record = Attendance(root).server() if root.is_dir() else None
    return record is not None and _answers(record)


def show(url: str, api_key: str, printed: bool, as_json: bool = False) -> None:
    """Print the link, and open it in a browser unless it is only to be `printed`."""
    import webbrowser

    from emulator.state.server_record import ServerRecord
    from ftsim.process.run import console_link

    link = console_link(ServerRecord(url.rstrip("/"), 0, api_key, ""))
    if not link:
        fail(f"{url} gives no link: only an emulator has a console, and only its own key opens it")
    tell({"url": link}, as_json, link)
    sys.stdout.flush()
    if not (printed or as_json) and not webbrowser.open(link):
        typer.echo("ftsim: no browser can be opened here: follow the link", err=True)


def wait() -> None:
    """Wait for Ctrl-C."""
    import threading

    threading.Event().wait()
