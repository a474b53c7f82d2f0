"""`ftsim quirk on | off | list` and `ftsim clock`: what an emulator that runs can be told."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftsim.cli.console import ApiKey, AsJson, StateDir, Url, print_wide

if TYPE_CHECKING:
    from emulator.quirks.profiles import QuirkSpec

app = typer.Typer(no_args_is_help=True, help="Turn failures of production on and off, in an emulator that runs.")


@app.callback()
def _quirk() -> None:
    """Turn failures of production on and off, in an emulator that runs."""


@app.command("on")
def on(
    quirks: Annotated[
        list[str],
        typer.Argument(metavar="NAME=VALUE...", help="name=value[@selector=id][,times=n], see docs/quirks.md."),
    ],
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Turn quirks on."""
    from emulator.quirks import profiles
    from emulator.quirks.table import QUIRKS
    from ftsim.cli.service import connect

    specs = [profiles.parse(text, {quirk.name: quirk for quirk in QUIRKS}) for text in quirks]
    with connect(url, api_key, state_dir) as service:
        told = [service.send("POST", "/_ftsim/quirks", body(spec)) for spec in specs]
    _tell(told, as_json)


def body(spec: "QuirkSpec") -> dict[str, Any]:
    """A quirk as the control API takes it."""
    budget = {key: int(amount) if key == "times" else amount for key, amount in spec.budget.items()}
    return {"name": spec.name, "value": spec.value, "where": dict(spec.where), **budget}


@app.command("off")
def off(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="All of them by default.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Turn quirks off, and show those that stay on."""
    from emulator.quirks.engine import unknown_quirk
    from emulator.quirks.table import QUIRKS
    from ftsim.cli.service import connect

    table = [quirk.name for quirk in QUIRKS]
    for name in names or ():
        if name not in table:
            raise unknown_quirk(name, table)
    with connect(url, api_key, state_dir) as service:
        for query in [{"name": name} for name in names or ()] or [{}]:
            service.send("DELETE", "/_ftsim/quirks", query=query)
        told = service.get("/_ftsim/quirks")["active"]
    _tell(told, as_json)


@app.command("list")
def list_quirks(
    everything: Annotated[bool, typer.Option("--all", help="All that there are, not only those turned on.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """List the quirks that are on."""
    from ftsim.cli.service import connect

    with connect(url, api_key, state_dir) as service:
        told = service.get("/_ftsim/quirks")
    if not everything:
        _tell(told["active"], as_json)
    elif as_json:
        print(json.dumps(told, indent=1))
    else:
        for quirk in told["table"]:
            print(f"{quirk['name']:<36} {quirk['doc']}")


def _tell(active: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"active": active}, indent=1))
        return
    if not active:
        print("no quirk is on")
        return
    from rich.text import Text

    from ftsim.inspect.tables import columns

    drawn = columns("quirk", "value", "where", "left", "until")
    for one in active:
        where = " ".join(f"{key}={value}" for key, value in one["where"].items())
        left = "-" if one["left"] is None else str(one["left"])
        cells = (one["name"], json.dumps(one["value"]), where or "everywhere", left, one["until"] or "-")
        drawn.add_row(*map(Text, cells))
    print_wide(drawn)


def clock(
    seconds: Annotated[
        float, typer.Argument(metavar="[SECONDS]", min=0, help="How far to move the emulator's time forward.")
    ] = 0.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Show the time of an emulator, or move it forward: what expires, expires."""
    from ftsim.cli.service import connect

    with connect(url, api_key, state_dir) as service:
        told = service.send("POST", "/_ftsim/clock", {"advance_s": seconds})
    print(json.dumps(told, indent=1) if as_json else told["time"])
