"""The pleasant default: an emulator that computes with torch."""

from pathlib import Path
from typing import Any, ClassVar

from emulator.backend import Backend
from emulator.server import BackendName, Emulator as Server
from ftsim.extras import require


class Emulator(Server):
    """`emulator.Emulator` with real models unless another backend is given; torch is imported at the first trainer.

        with ftsim.Emulator() as emu:
            os.environ.update(emu.env())

    `backend` is "torch", "light" (neither a model nor torch, see docs/testing-kit.md) or a backend of your own; the
    other settings are those of `emulator.Emulator`. Raises MissingExtraError where torch is wanted and not installed.
    """

    DEFAULT_BACKEND: ClassVar[BackendName] = "torch"

    def stop(self) -> None:
        super().stop()
        if self._owns_backend and (close := getattr(self._backend, "close", None)) is not None:
            close()

    @classmethod
    def named_backend(cls, name: BackendName, state_dir: Path | None, **how: Any) -> Backend:
        """The backend behind a name; a state folder also keeps the files of the base models."""
        if name != "torch":
            return super().named_backend(name, state_dir, **how)
        require("train", "real models")
        from ftsim.compute.backend import TorchBackend

        folder = None if state_dir is None else state_dir / "base-models"
        return TorchBackend(folder, **how)
