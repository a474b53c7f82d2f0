"""`ftsim state verify | recover | gc | prune | migrate`: care for a state folder while no emulator uses it."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ftsim.cli.console import AsJson, StateDir, fail, tell

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and leave it.")]
Database = Annotated[
    str | None, typer.Option(envvar="FTSIM_DATABASE", help="Look after the state on this server instead of a folder.")
]
Place = Annotated[str | None, typer.Option("--blobs", envvar="FTSIM_BLOBS", help="With --database: where blobs are.")]
Hours = Annotated[float, typer.Option(min=0, help="With --database: for how long nobody wrote to what is deleted.")]
Days = Annotated[float, typer.Option(min=0, help="How long ago, at least, by the wall clock.")]


def add_to(app: typer.Typer) -> None:
    """Make the commands here part of `ftsim state`."""
    for name, command in (
        ("verify", verify),
        ("recover", recover),
        ("gc", gc),
        ("prune", prune),
        ("migrate", migrate),
    ):
        app.command(name)(command)


def verify(as_json: AsJson = False, state_dir: StateDir = None, database: Database = None, blobs: Place = None) -> None:
    """Read every file of every checkpoint and model, also while an emulator runs; exit status 1 for a damaged one."""
    from emulator.state import upkeep

    with _refusals():
        if servers := _servers(database, blobs):
            from emulator.state import server_upkeep

            found = server_upkeep.verify(*servers)
        else:
            found = upkeep.verify(_root(state_dir))
    lines = list(found.damaged)
    if found.unknown:
        then = "`ftsim state gc` deletes once a day has passed" if servers else "the next start moves to lost+found"
        lines.append(f"{len(found.unknown)} things without a row, which {then}: {found.unknown[0]}")
    if found.lost:
        lines.append(f"lost+found holds {found.lost} files: look at them, then `ftsim state gc`")
    verdict = f"{len(found.damaged)} damaged" if found.damaged else "all as they were saved"
    tell(asdict(found), as_json, *lines, f"{found.rows} checkpoints and models, {found.files} files: {verdict}")
    raise SystemExit(1 if found.damaged else 0)


def recover(as_json: AsJson = False, state_dir: StateDir = None) -> None:
    """Make rows anew from the blobs when metadata.sqlite is gone; jobs and sessions that have none are lost."""
    from emulator.state import upkeep

    with _refusals():
        counts = upkeep.recover(_root(state_dir))
    line = "recovered: " + ", ".join(f"{count} {kind}s" for kind, count in sorted(counts.items()))
    tell({"recovered": dict(counts)}, as_json, line)


def gc(
    as_json: AsJson = False,
    state_dir: StateDir = None,
    database: Database = None,
    blobs: Place = None,
    hours: Hours = 24,
) -> None:
    """Delete lost+found, and what saves and deletions that were cut short left."""
    from emulator.state import upkeep

    with _refusals():
        if servers := _servers(database, blobs):
            from emulator.state import server_upkeep

            keys, freed = server_upkeep.gc(*servers, hours)
            line = f"deleted {len(keys)} things without a row, {freed} bytes"
            tell({"keys": keys, "bytes": freed}, as_json, *keys, line)
            return
        files, size = upkeep.gc(_root(state_dir))
    tell({"files": files, "bytes": size}, as_json, f"deleted {files} files, {size} bytes")


def prune(state_dir: StateDir = None, days: Days = 30, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Delete what is left of jobs and sessions that were deleted, and old journals and snapshots."""
    from emulator.state import upkeep

    with _refusals():
        pruned = upkeep.prune(_root(state_dir), days, dry=dry_run)
    names = (*pruned.owners, *map(str, pruned.files))
    what = f"{len(pruned.owners)} jobs and sessions with {pruned.rows} checkpoints, {len(pruned.files)} files"
    told = asdict(pruned) | {"deleted": not dry_run}
    tell(told, as_json, *names, f"{'would delete' if dry_run else 'deleted'} {what}")


def migrate(as_json: AsJson = False, state_dir: StateDir = None) -> None:
    """Bring a folder of an older format to this version's; a copy of the old metadata stays beside it."""
    from emulator.state import upkeep

    with _refusals():
        passed = upkeep.migrate(_root(state_dir))
    line = f"format {passed[-1]}" + (f", from {passed[0]}" if len(passed) > 1 else ": nothing to do")
    tell({"formats": list(passed)}, as_json, line)


def _servers(database: str | None, blobs: str | None) -> tuple[str, str] | None:
    """The places of rows and blobs, if on servers; raises InvalidArgument for half of it, or a missing extra."""
    from emulator.state.homes import servers_of

    found = servers_of(database, blobs, "none is needed here", 0)
    return None if found is None else (found.database, found.blobs)


def _root(state_dir: Path | None) -> Path:
    from ftsim.process.attendance import default_state_dir

    root = (state_dir or default_state_dir()).expanduser().resolve()
    if not root.is_dir():
        fail(f"there is no folder {root}: give --state-dir")
    return root


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Print one line, not a traceback, for what the folder or its user forbids."""
    from emulator.core.errors import PlatformError

    try:
        yield
    except PlatformError as error:
        fail(error.message)
    except OSError as error:
        fail(f"the state folder cannot be used: {error.strerror or error}")
