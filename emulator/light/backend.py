"""The light backend: `emulator.backend.Backend` without torch."""

import json
import shutil
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

from emulator.backend import BackendError, BaseModel, ModelDescription, Replica, Trainer
from emulator.light import files
from emulator.light.replica import LightReplica
from emulator.light.trainer import LightTrainer


class LightBackend:
    """The factory. `root` keeps the files of base models; a temporary folder when None.

    Every model of the catalogue has the same four weights, zeros, until it is trained.
    """

    headers = (("x-ftsim-backend", "light"),)
    """On every answer, so that no one takes its numbers for a model's."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or self._temporary()
        self._lock = threading.Lock()

    def _temporary(self) -> Path:
        root = Path(tempfile.mkdtemp(prefix="ftsim-light-"))
        weakref.finalize(self, shutil.rmtree, root, ignore_errors=True)
        return root

    def ready(self) -> bool:
        return True

    def warm(self) -> None:
        """Nothing to import."""

    def knows(self, base_model: str) -> bool:
        return True

    def folder(self, base_model: BaseModel) -> Path:
        if base_model.folder is not None:
            return base_model.folder
        if not self.knows(base_model.name):
            raise BackendError(f"unknown model {base_model.name}")
        with self._lock:
            try:
                return self._written(base_model)
            except OSError:  # a state folder that cannot be written to
                self._root = self._temporary()
                return self._written(base_model)

    def _written(self, base_model: BaseModel) -> Path:
        folder = self._root / base_model.name.replace("/", "_")
        if not (folder / "model.safetensors").exists():
            files.write_base(folder, model_type=base_model.model_type, moe=base_model.moe)
        return folder

    def describe(self, folder: Path, base_model: BaseModel | None = None) -> ModelDescription:
        """Read a folder as promotion does; raises BackendError when the light backend did not write it."""
        if (folder / "adapter_config.json").exists():
            if base_model is None:
                raise BackendError("an adapter needs its base model")
            files.read_adapter(folder)
            config = _json(folder / "adapter_config.json")
            about = self.describe(self.folder(base_model))
            return ModelDescription(
                about.model_type,
                about.parameter_count,
                about.context_length,
                about.moe,
                lora_rank=config["r"],
                target_modules=config["target_modules"],
            )
        config = _json(folder / "config.json")
        count = len(files.read_weights(folder))
        return ModelDescription(config["model_type"], count, config["max_position_embeddings"], "num_experts" in config)

    def computes(self, base_model: str) -> str:
        return ""

    def open_trainer(self, base_model: BaseModel, *, lora_rank: int, max_context_length: int) -> Trainer:
        return LightTrainer(files.read_weights(self.folder(base_model)))

    def open_replica(self, base_model: BaseModel, *, max_context_length: int) -> Replica:
        return LightReplica(files.read_weights(self.folder(base_model)), max_context_length or files.CONTEXT)


def _json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BackendError(f"{path.parent.name}: {path.name} does not open: {error}") from error
    return value
