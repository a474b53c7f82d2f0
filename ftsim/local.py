"""The pleasant default: an emulator that computes with torch."""

from pathlib import Path
from typing import Any

from emulator.backend import Backend
from emulator.server import Emulator as BareEmulator
from ftsim.compute.backend import TorchBackend


def Emulator(  # noqa: N802
    backend: Backend | None = None, *, state_dir: str | Path | None = None, **settings: Any
) -> BareEmulator:
    """`emulator.Emulator` with real models unless another backend is given; torch is imported at the first trainer.

        with ftsim.Emulator() as emu:
            os.environ.update(emu.env())

    `settings` are those of `emulator.Emulator`: seed, host, port, account, api_key, models, catalogue.
    """
    return BareEmulator(backend or TorchBackend(_cache(state_dir)), state_dir=state_dir, **settings)


def _cache(state_dir: str | Path | None) -> Path | None:
    return None if state_dir is None else Path(state_dir).expanduser().resolve() / "base-models"
