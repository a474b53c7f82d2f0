"""`ftsim state verify | recover | gc | prune | migrate`: care for a state folder while no emulator uses it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ftsim.cli.console import StateDir, fail

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and leave it.")]
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


def verify(state_dir: StateDir = None) -> None:
    """Read every file of every checkpoint and model, also while an emulator runs; exit status 1 for a damaged one."""
    from emulator.state import upkeep

    with _refusals():
        found = upkeep.verify(_root(state_dir))
    for line in found.damaged:
        print(line)
    if found.unknown:
        print(
            f"{len(found.unknown)} things without a row, which the next start moves to lost+found: {found.unknown[0]}"
        )
    if found.lost:
        print(f"lost+found holds {found.lost} files: look at them, then `ftsim state gc`")
    verdict = f"{len(found.damaged)} damaged" if found.damaged else "all as they were saved"
    print(f"{found.rows} checkpoints and models, {found.files} files: {verdict}")
    raise SystemExit(1 if found.damaged else 0)


def recover(state_dir: StateDir = None) -> None:
    """Make rows anew from the blobs when metadata.sqlite is gone; jobs and sessions that have none are lost."""
    from emulator.state import upkeep

    with _refusals():
        counts = upkeep.recover(_root(state_dir))
    print("recovered: " + ", ".join(f"{count} {kind}s" for kind, count in sorted(counts.items())))


def gc(state_dir: StateDir = None) -> None:
    """Delete lost+found, and what deletions that were cut short left."""
    from emulator.state import upkeep

    with _refusals():
        files, size = upkeep.gc(_root(state_dir))
    print(f"deleted {files} files, {size} bytes")


def prune(state_dir: StateDir = None, days: Days = 30, dry_run: DryRun = False) -> None:
    """Delete what is left of jobs and sessions that were deleted, and old journals and snapshots."""
    from emulator.state import upkeep

    with _refusals():
        pruned = upkeep.prune(_root(state_dir), days, dry=dry_run)
    for name in (*pruned.owners, *map(str, pruned.files)):
        print(name)
    what = f"{len(pruned.owners)} jobs and sessions with {pruned.rows} checkpoints, {len(pruned.files)} files"
    print(f"{'would delete' if dry_run else 'deleted'} {what}")


def migrate(state_dir: StateDir = None) -> None:
    """Bring a folder of an older format to this version's; a copy of the old metadata stays beside it."""
    from emulator.state import upkeep

    with _refusals():
        passed = upkeep.migrate(_root(state_dir))
    print(f"format {passed[-1]}" + (f", from {passed[0]}" if len(passed) > 1 else ": nothing to do"))


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
