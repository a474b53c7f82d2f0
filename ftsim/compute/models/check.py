"""Checks of a model folder or an adapter folder, and of what can be done with it: tried out, not guessed."""

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from emulator.backend import BackendError, BaseModel, LoraSpec, ModelSpec
from ftsim.compute.checkpoints import peft
from ftsim.compute.checkpoints.source import (
    TEMPLATES,
    is_tied,
    open_model,
    quantisation,
    saved_twice,
    says_tied,
    weight_files,
)
from ftsim.compute.sampler.forward import Forward
from ftsim.compute.sampler.held import split_otherwise, tokenizer_of
from ftsim.compute.sampler.precision import widen
from ftsim.compute.standins.tokenizer import StandInTokenizer
from ftsim.compute.trainer.trainer import TorchTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Facts = dict[str, str]


def check(folder: Path) -> Facts:
    """Facts about a folder by what they are about, in the order to read them; raises `BackendError` for no folder."""
    if not folder.is_dir():
        raise BackendError(f"{folder} is no folder")
    logger = logging.getLogger("ftsim")
    before = logger.level
    logger.setLevel(logging.ERROR)  # what is logged stands in the answer
    try:
        return _adapter(folder) if (folder / peft.CONFIG).exists() else _whole(folder)
    finally:
        logger.setLevel(before)


def _whole(folder: Path) -> Facts:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BackendError(f"{folder} is no model folder: its config.json cannot be read ({error})") from None
    facts = {"architecture": ", ".join(config.get("architectures") or ["not named"])}
    facts |= _files(folder) | {"tokenizer": _tokenizer(folder)}
    try:
        model = open_model(folder, torch.float32)
    except BackendError as error:
        return facts | {"opened": f"no: {error.message}"}
    return facts | _model(model) | _abilities(folder, model)


def _files(folder: Path) -> Facts:
    try:
        files = weight_files(folder)
    except BackendError as error:
        return {"weights": error.message}
    kinds: Counter[str] = Counter()
    for path in files:
        with safe_open(path, framework="pt") as file:
            kinds.update(file.get_slice(name).get_dtype() for name in file.keys())  # noqa: SIM118
    twice = saved_twice(folder)
    named = sorted(path.stem for path in (folder / TEMPLATES).glob("*.jinja"))
    default = (folder / "chat_template.jinja").exists() or "chat_template" in _text(folder / "tokenizer_config.json")
    return {
        "weights": files[0].name if len(files) == 1 else f"{len(files)} files, {files[0].name} first",
        **({"saved twice": twice} if twice else {}),
        "types": ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common()),
        "quantised": quantisation(folder) or "no",
        "chat templates": ", ".join([*(["default"] if default else []), *named]) or "none",
    }


def _tokenizer(folder: Path) -> str:
    try:
        opened = tokenizer_of(folder)
    except BackendError as error:
        return f"none: {error.message}"
    if isinstance(opened, StandInTokenizer):
        return "that of a shipped family"
    return split_otherwise(folder, opened) or f"{type(opened).__name__}, {len(opened)} tokens"


def _model(model: "PreTrainedModel") -> Facts:
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    untied = "untied, though config.json ties it: other programs may leave it out" if says_tied(model) else "untied"
    return {
        "opened as": f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} weights",
        "context": f"{config.max_position_embeddings} tokens" + (f", windows of {window}" if window else ""),
        "output layer": "tied to the embeddings: LoRA leaves it out" if is_tied(model) else untied,
    }


def _abilities(folder: Path, model: "PreTrainedModel") -> Facts:
    answers = {
        "full training": _tried(lambda: _step(folder, 0)),
        "LoRA training": _tried(lambda: _step(folder, 4)),
    }
    forward = Forward(widen(model))
    with torch.inference_mode():
        alone = forward.why_alone()
    answers["serving"] = f"yes, one row at a time: {alone}" if alone else "yes, rows together"
    answers["hot-load"] = "full weights and deltas of this model, adapters of its modules"
    return answers


def _step(folder: Path, rank: int) -> None:
    trainer = TorchTrainer(lambda _: folder, lora_rank=rank)
    trainer.create_model(ModelSpec("m", BaseModel(folder.name), LoraSpec(rank) if rank else None))
    targets = {"data": [2, 3, 4], "dtype": "int64", "shape": [3]}
    datum = {"model_input": {"chunks": [{"tokens": [1, 2, 3]}]}, "loss_fn_inputs": {"target_tokens": targets}}
    trainer.forward_backward("m", {"data": [datum], "loss_fn": "cross_entropy"})


def _adapter(folder: Path) -> Facts:
    config = peft.read_config(folder)
    tensors = peft.read_tensors(folder)
    facts = {
        "adapter": f"LoRA of rank {config['r']}, alpha {config.get('lora_alpha')}",
        "base": str(config.get("base_model_name_or_path") or "not named"),
        "modules": ", ".join(
            map(str, _listed(config.get("target_modules")) + _listed(config.get("target_parameters")))
        ),
        "tensors": f"{len(tensors)}, {sum(value.numel() for value in tensors.values()):,} weights",
    }
    if any(folder.glob("model*.safetensors")):
        facts["beside it"] = "a whole model, onto which transformers puts the adapter, also where it is merged already"
    return facts | {
        "serving": "over its base, through peft",
        "training on": _tried(lambda: peft.refuse_untrainable(folder.name, config)),
    }


def _listed(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _tried(what: Callable[[], None]) -> str:
    try:
        what()
    except BackendError as error:
        return f"no: {error.message}"
    return "yes"


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""
