"""A file as a user types it: the emulator annotated, subclassed, asked for its class; its parts with their types."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ftsim
from emulator.core.kinds import CheckpointKind, promotable
from emulator.quirks.engine import Quirks


class OurPlatform(ftsim.Emulator):
    """The emulator of our tests, always with our key."""

    def __init__(self, folder: Path) -> None:
        super().__init__(backend="light", state_dir=folder, api_key="fw-ours", seed=7)

    def owner(self) -> str:
        return f"accounts/{self.account}"


@contextmanager
def platform(folder: Path) -> Iterator[OurPlatform]:
    with OurPlatform(folder) as emulator:
        started: OurPlatform = emulator
        yield started


def bad_day(emulator: ftsim.Emulator) -> Quirks:
    emulator.quirks.set("http.fail", 503, endpoint="promote", times=1)
    return emulator.quirks


def promotable_rows(emulator: ftsim.Emulator) -> list[str]:
    kinds: list[tuple[str, CheckpointKind]] = [(row.id, row.kind) for row in emulator.world.checkpoints]
    return [name for name, kind in kinds if promotable(kind)]


def main(folder: Path) -> tuple[str, list[str]]:
    with platform(folder) as emulator:
        variables: dict[str, str] = emulator.env()
        assert variables["FIREWORKS_API_KEY"] == "fw-ours"
        emulator.clock.advance(60.0)
        bad_day(emulator)
        assert isinstance(emulator, ftsim.Emulator)
        saved: Path = emulator.snapshot()
        assert saved.exists()
        return emulator.owner(), promotable_rows(emulator)
