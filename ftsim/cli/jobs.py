"""`ftsim jobs`, `ftsim job`, `ftsim preempt` and `ftsim end`."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftsim.cli.console import ApiKey, AsJson, JobArgument, StateDir, Url, fail, print_wide

if TYPE_CHECKING:
    from ftsim.inspect.listing import ListedRow
    from ftsim.inspect.owners import Owner
    from ftsim.inspect.service import Service

_NS = 1_000_000_000


def jobs(as_json: AsJson = False, url: Url = None, api_key: ApiKey = None, state_dir: StateDir = None) -> None:
    """List jobs and training sessions, oldest first.

    State, base model, LoRA rank, the step of the highest checkpoint, how many checkpoints there are and how many of
    them can be promoted, where its log is (or its display name), age."""

    from ftsim.cli.service import connect
    from ftsim.inspect.owners import owners
    from ftsim.inspect.tables import columns, human_age

    with connect(url, api_key, state_dir) as service:
        described = [described_with_rows(service, owner)[0] for owner in owners(service)]
    if as_json:
        print(json.dumps({"jobs": described}, indent=1))
        return
    if not described:
        print("no jobs yet: `ftsim train sft` or `ftsim run SCRIPT.py` makes one")
        return
    drawn = columns("job", "state", "base", "rank", "step", "rows", "promotable", "log_path", "age", numbers=_NUMBERS)
    for one in described:
        drawn.add_row(
            one["id"],
            one["state"],
            one["base_model"].rsplit("/", 1)[-1] or "-",
            _text(one["lora_rank"]),
            _text(one["step"]),
            str(one["rows"]),
            str(one["promotable"]),
            one["log_path"] or one["display_name"] or "-",
            human_age(one["age_s"]),
        )
    print_wide(drawn)


_NUMBERS = ("rank", "step", "rows", "promotable", "age")


def job(
    job: JobArgument = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Show a job or session: what it is, its checkpoints, and what can be done with it next."""
    from ftsim.cli.checkpoints import show
    from ftsim.cli.service import connect, owner_of
    from ftsim.inspect.listing import oldest_first
    from ftsim.inspect.tables import describe

    with connect(url, api_key, state_dir) as service:
        told, rows = described_with_rows(service, owner_of(service, job))
        told["computes"] = service.computes(told["name"])
    shown = [describe(row, time.time()) for row in oldest_first(rows)]
    if as_json:
        print(json.dumps(told | {"checkpoints": shown}, indent=1))
        return
    for key in ("name", "state", "base_model", "lora_rank", "computes", "display_name", "log_path", "step"):
        if told[key] not in (None, ""):
            print(f"{key:<13} {told[key]}")
    print(
        f"{'next':<13} ftsim checkpoints {told['id']}"
        + (f", ftsim promote --job-id {told['id']} --output-model-id MODEL_ID" if told["promotable"] else "")
    )
    if shown:
        print()
        show(shown)


def preempt(
    job: JobArgument = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Take the machine of a job away, as a pool of preemptible machines does (an emulator only)."""
    from ftsim.cli.service import connect
    from ftsim.inspect.owners import find

    with connect(url, api_key, state_dir) as service:
        identifier = find(service, job).rsplit("/", 1)[-1]
        told = service.send("POST", f"/_ftsim/jobs/{identifier}:preempt")
    print(json.dumps(told, indent=1) if as_json else f"{told['name']}: {told['state']}")


def end(
    sessions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SESSION]...", help="Ids or beginnings; all by default."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """End training sessions of programs that are gone: their places on the pool are free again.

    Their live models are lost, and their rows are listed no more; any session still loads their saves by path."""
    from ftsim.cli.service import connect
    from ftsim.inspect.owners import find, owners

    with connect(url, api_key, state_dir) as service:
        names = [one.name for one in owners(service) if one.name.split("/")[2] == "trainingSessions"]
        chosen = [find(service, text) for text in sessions] if sessions else names
        for name in chosen:
            if name not in names:
                fail(f"there is no training session {name!r}; `ftsim jobs` lists them")
        for name in chosen:
            service.send("DELETE", f"/v1/{name}")
    print(json.dumps({"ended": chosen}, indent=1) if as_json else "\n".join(chosen) or "there is no session")


def described_with_rows(service: "Service", owner: "Owner") -> "tuple[dict[str, Any], list[ListedRow]]":
    """A job as plain data, and its rows."""
    from ftsim.inspect.owners import latest_step

    # Of a session that has ended the service lists nothing any more; any session still loads its saves by path.
    rows, now = ([], None) if owner.state == "TRAINING_SESSION_STATE_EXPIRED" else service.rows(owner.name)
    told = {
        "id": owner.id,
        "name": owner.name,
        "state": owner.state.removeprefix("JOB_STATE_").removeprefix("TRAINING_SESSION_STATE_"),
        "base_model": owner.base_model,
        "lora_rank": owner.lora_rank,
        "display_name": owner.display_name,
        "log_path": owner.log_path,
        "step": latest_step(rows),
        "rows": len(rows),
        "promotable": sum(row.promotable for row in rows),
        "age_s": round((now or time.time()) - owner.created / _NS, 3) if owner.created else None,
    }
    return told, rows


def _text(value: object) -> str:
    return "-" if value is None else str(value)
