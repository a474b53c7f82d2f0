"""The light backend sees no images, and says so."""

from pathlib import Path

import pytest

from emulator.backend import BackendError, BaseModel, LoraSpec, ModelSpec
from emulator.light import LightBackend

BASE = BaseModel("accounts/fireworks/models/qwen3-vl-8b-instruct")


@pytest.mark.parametrize("kind", ["image", "image_asset_pointer"])
def test_a_datum_with_an_image_is_refused(tmp_path: Path, kind: str) -> None:
    trainer = LightBackend(tmp_path).open_trainer(BASE, lora_rank=4, max_context_length=0)
    trainer.create_model(ModelSpec("m", BASE, LoraSpec(4)))
    targets = {"data": [1, 2], "dtype": "int64", "shape": [2]}
    chunks = [{"tokens": [1, 2]}, {"type": kind, "data": ""}]
    datum = {"model_input": {"chunks": chunks}, "loss_fn_inputs": {"target_tokens": targets}}
    with pytest.raises(BackendError, match="the light backend sees no images"):
        trainer.forward("m", {"data": [datum], "loss_fn": "cross_entropy"})
