"""The compute side of a trainer in the light backend."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator.backend import BackendError, CheckpointType, LiveModels, ModelInfo, ModelSpec, SavedState
from emulator.light import files
from emulator.light.losses import CROSS_ENTROPY, configured
from emulator.light.model import Datum, LightModel


class LightTrainer(LiveModels[LightModel]):
    """`emulator.backend.Trainer` over models of four numbers; `base` are those that every model starts from."""

    def __init__(self, base: list[float]) -> None:
        super().__init__()
        self._base = base

    def create_model(self, spec: ModelSpec) -> Mapping[str, Any]:
        if spec.projection_head_dim is not None:
            raise BackendError("the light backend has no projection head: use the backend with real models")
        trained = [0.0] * files.SIZE if spec.lora else list(self._base)
        self._models[spec.model_id] = LightModel(spec, list(self._base), trained)
        return {"supports_router_replay": False}

    def info(self, model_id: str) -> ModelInfo:
        model = self._model(model_id)
        base = model.spec.base_model
        return ModelInfo("light", base.name, base.tokenizer or base.name, model.rank)

    def forward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._pass(self._model(model_id), batch, backward=False)

    def forward_backward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._pass(self._trainable(model_id), batch, backward=True)

    def optim_step(
        self, model_id: str, adam_params: Mapping[str, Any], normalization: str | None
    ) -> Mapping[str, float]:
        return self._trainable(model_id).take_step(adam_params, normalization)

    def save_state(self, model_id: str, folder: Path) -> SavedState:
        model = self._trainable(model_id)
        files.write_training(folder, model.state(), model.rank)
        return SavedState(model.step)

    def load_state(self, model_id: str, folder: Path, *, optimizer: bool, keep_optimizer: bool = False) -> None:
        model = self._trainable(model_id)
        state = files.read_training(folder, model.rank)
        model.take_state(state, optimizer=optimizer, keep_optimizer=keep_optimizer)

    def save_sampler(
        self,
        model_id: str,
        folder: Path,
        *,
        identity: str,
        checkpoint_type: CheckpointType = "base",
        export_precision: str | None = None,
    ) -> SavedState:
        model, previous = self._trainable(model_id), None
        base = model.spec.base_model
        if export_precision not in (None, "source", "bf16"):
            raise BackendError(
                f"the light backend has nothing to quantise, export_precision {export_precision!r} neither: use 'bf16' "
                "or 'source', or the backend with models"
            )
        if model.rank and checkpoint_type != "merged_base":
            files.write_adapter(folder, model.rank, model.trained, model.spec.base_model.name)
            return SavedState(model.step)
        if checkpoint_type == "delta":
            if model.saved is None:
                raise BackendError("no snapshot to take a delta against: save one as 'base' first")
            previous, before = model.saved
            files.write_delta(folder, before, model.weights, base.model_type, moe=base.moe)
        else:
            files.write_base(folder, model.weights, base.model_type, moe=base.moe)
        written = list(model.weights)

        def remember() -> None:
            model.saved = (identity, written)

        return SavedState(model.step, previous, remember)

    def load_adapter(self, model_id: str, folder: Path) -> None:
        model = self._trainable(model_id)
        model.trained = files.read_adapter(folder, model.rank)
        model.forget_optimizer()

    def _pass(self, model: LightModel, batch: Mapping[str, Any], *, backward: bool) -> Mapping[str, Any]:
        loss, settings = configured(batch)
        summed = backward or loss is CROSS_ENTROPY  # a forward has the tensors of no other loss
        data = _parse(batch.get("data"), loss.tensors if summed else (), trains=backward)
        outputs, total = model.run(data, loss if summed else CROSS_ENTROPY, settings, backward=backward)
        records = [
            {"logprobs": {"data": logprobs, "dtype": "float32", "shape": list(datum.shape)}}
            for datum, logprobs in zip(data, outputs, strict=True)
        ]
        metrics = {"loss:sum": total} if summed else {}
        return {"loss_fn_output_type": "ArrayRecord", "loss_fn_outputs": records, "metrics": metrics}


def _parse(data: Any, needed: Sequence[str], *, trains: bool) -> list[Datum]:
    if not isinstance(data, list) or not data:
        raise BackendError("'data' must be a list with at least one datum")
    parsed = []
    for index, raw in enumerate(data):
        try:
            parsed.append(Datum.parse(raw, needed, trains=trains))
        except BackendError as error:
            raise BackendError(f"datum {index}: {error.message}") from None
    return parsed
