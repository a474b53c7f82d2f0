"""`ftsim checkpoints`."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from emulator.core.clock import parse_rfc3339
from ftsim.cli.console import ApiKey, AsJson, JobArgument, StateDir, Url, fail, print_wide
from ftsim.inspect.listing import oldest_first
from ftsim.inspect.tables import columns, describe, human_age, table


def checkpoints(
    job: JobArgument = None,
    deployment: Annotated[
        str | None,
        typer.Option(help="Instead: every snapshot that this deployment's replicas loaded or refused (emulator only)."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """List the checkpoints of a job, or what a deployment has loaded."""
    from ftsim.cli.service import connect
    from ftsim.inspect.owners import find

    if job is not None and deployment is not None:
        fail("of what? give a JOB, or --deployment ID", 2)
    if deployment is not None:
        with connect(url, api_key, state_dir) as service:
            told = service.get(f"/_ftsim/deployments/{str(deployment).rsplit('/', 1)[-1]}/snapshots")
        show_ledger(str(deployment), told, as_json=as_json)
        return
    with connect(url, api_key, state_dir) as service:
        name = find(service, job)
        rows, now = service.rows(name)
    job = job or name.rsplit("/", 1)[-1]
    described = [describe(row, time.time() if now is None else now) for row in oldest_first(rows)]
    if as_json:
        print(json.dumps({"job": job, "checkpoints": described}, indent=1))
    elif described:
        show(described)
    else:
        print(f"{job} has no checkpoints")


def show_ledger(deployment: str, told: Mapping[str, Any], *, as_json: bool) -> None:
    """The hot-load ledger of a deployment, oldest first: one line for each replica and load."""
    if as_json:
        print(json.dumps({"deployment": deployment, "snapshots": told["snapshots"]}, indent=1))
        return
    if not told["snapshots"]:
        print(f"{deployment} has loaded nothing")
        return
    from rich.text import Text

    drawn = columns("snapshot", "kind", "replica", "age", "delta of", "refused because")
    for entry in told["snapshots"]:
        age = told["now"] - parse_rfc3339(entry["time"]) / 1_000_000
        kind = entry["kind"].removeprefix("CHECKPOINT_TYPE_")
        drawn.add_row(
            entry["identity"], kind, entry["replica"], human_age(age), entry["previous"] or "", Text(entry["error"])
        )
    print_wide(drawn)


def show(described: Sequence[dict[str, Any]]) -> None:
    """Print rows as a table."""
    print_wide(table(described))
