"""Reads bundles: what became of a failure when it is replayed here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from emulator.backend import Backend
from emulator.core.errors import InvalidArgument
from emulator.journal import file as journal_file
from emulator.journal.file import Saved, versions
from emulator.journal.journal import Exchange
from emulator.platform.archive import Archive
from emulator.platform.differences import ABSENT
from emulator.server import Emulator
from ftsim.inspect.replay import Replay, replay

FAILURE = "failure.txt"
JOURNAL = "journal.jsonl"


@dataclass
class Opened:
    """A bundle opened on this machine. `versions` are (there, here) where they differ."""

    failure: str
    exchanges: list[Exchange]
    versions: dict[str, tuple[str, str]]
    replay: Replay | None = None
    obstacle: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def reproduced(self) -> bool:
        """Say whether everything was asked again and answered alike."""
        return self.replay is not None and self.replay.identical

    @property
    def verdict(self) -> str:
        """The result of the replay in one line."""
        if self.replay is None:
            return f"not replayed: {self.obstacle}"
        counted = f"replayed {self.replay.compared} exchanges"
        if self.reproduced:
            return f"{counted}: the same answers as there"
        differing = f"{len(self.replay.differences)} differences, {len(self.replay.skipped)} not asked"
        return f"{counted}: other answers than there ({differing}, below)"


def open_bundle(file: Path, backend: Backend, began: Path | None = None) -> Opened:
    """Replay a bundle's journal up to the failure, from the state `began` where it did not begin with nothing.

    Raises InvalidArgument for a file that is no bundle.
    """
    archive = Archive.open(file)
    saved = _journal(archive)
    there, here = archive.manifest.get("versions") or {}, versions()
    changed = {
        name: (str(there.get(name, ABSENT)), str(here.get(name, ABSENT)))
        for name in sorted({**there, **here})
        if there.get(name) != here.get(name)
    }
    text = (archive.text(FAILURE) or b"").decode("utf-8", "replace")
    opened = Opened(text, saved.exchanges, changed, counts={kind: len(all_) for kind, all_ in archive.entities.items()})
    try:
        opened.replay = replay(saved, backend, prepare=restored(began))
    except InvalidArgument as refusal:
        opened.obstacle = refusal.message
    return opened


def is_light(file: Path) -> bool:
    """Say whether a bundle was made with the light backend; raises InvalidArgument for a file that is no bundle."""
    return bool(_journal(Archive.open(file)).header.get("light"))


def _journal(archive: Archive) -> Saved:
    lines = archive.text(JOURNAL)
    if lines is None:
        raise InvalidArgument(f"{archive.file.name} has no journal in it: it is a state, restore it")
    return journal_file.read(lines.splitlines(keepends=True))


def restored(state: Path | None) -> Callable[[Emulator], None] | None:
    """A function that puts a saved state into a replay's emulator; raises InvalidArgument for a file that is none."""
    if state is None:
        return None
    Archive.open(state)
    return lambda emulator: emulator.restore(state)
