"""LoRA adapters as PEFT folders: adapter_config.json and adapter_model.safetensors, ours and those made elsewhere.

A replica opens any LoRA through peft's own code, and sees to it that every tensor of the file has arrived; a plain one
over a stand-in needs no peft. A trainer goes on with an adapter of its own shape only: what it cannot hold it refuses
by the name of the setting.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute import libraries
from ftsim.compute.checkpoints.names import folder_prefix
from ftsim.compute.checkpoints.tensors import write
from ftsim.compute.quiet import quiet
from ftsim.compute.standins.adapters import AdaptedStandIn, is_plain
from ftsim.compute.standins.model import StandIn
from ftsim.compute.trainer.live import LiveModel
from ftsim.compute.trainer.lora import ADAPTER

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_ROOT = "base_model.model."
_LAYER = ".base_layer.weight"
"""End of the name under which peft saves the whole output layer, or the embeddings, beside an adapter on them."""
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
_NEVER_FOLDED = {
    "layer_replication": "copies of a layer share their weights",
    "alora_invocation_tokens": "it acts from these tokens on and not before them",
}
_UNTRAINABLE = ("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", *_NEVER_FOLDED)


def tensors_of(live: LiveModel) -> dict[str, Tensor]:
    """The adapter of `live` under the names of its folder, which are those of the base's folder."""
    inside, stored = folder_prefix(live.bare)
    return {_renamed(name, inside, stored): value.contiguous() for name, value in _tensors(live.model).items()}


def save(live: LiveModel, folder: Path, tensors: Mapping[str, Tensor] | None = None) -> None:
    """Write the adapter of `live`, as `tensors_of` gives it or gave it; peft opens the folder over the base model."""
    inside, stored = folder_prefix(live.bare)
    tensors = tensors_of(live) if tensors is None else tensors
    write(folder / WEIGHTS, tensors)
    settings = _settings(live.model)
    settings |= {"inference_mode": True, "base_model_name_or_path": live.spec.base_model.name}
    if inside != stored:  # a leaf name would also adapt modules of a vision tower
        adapted = {name.rpartition(".lora_")[0].removeprefix(_ROOT) for name in tensors if ".experts" not in name}
        settings["target_modules"] = adapted
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    (folder / CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True, default=str) + "\n")


def load(live: LiveModel, folder: Path) -> None:
    """Replace the adapter of `live` and reset its optimizer; raises `BackendError` before anything changed.

    Another scale than this model's (alpha, alpha_pattern, rank-stabilised) is folded into B. Modules that the adapter
    lacks get a zero B.
    """
    if live.spec.lora is None:
        raise BackendError("load_adapter needs a LoRA model; this one is full-parameter")
    config = read_config(folder)
    if config["r"] != live.spec.lora.rank:  # no rank is cut or filled up (FAILURES C10)
        raise BackendError(f"the adapter has rank {config['r']}, this model has {live.spec.lora.rank}")
    refuse_untrainable(folder.name, config)
    named = str(config.get("base_model_name_or_path"))
    if (
        named.startswith("accounts/") and named != live.spec.base_model.name
    ):  # shapes may fit all the same (FAILURES C11)
        raise BackendError(f"the adapter was trained on {named}, this model on {live.spec.base_model.name}")
    own = _settings(live.model)
    _refuse_other_experts(folder.name, config, own)
    given, mine = _inside(read_tensors(folder), live.bare), _tensors(live.model)
    given = {name: value for name, value in given.items() if not _is_the_bases(name, value, live.model)}
    check_fit(given, mine, ranks=bool(config.get("rank_pattern")))
    _refuse_hidden_alpha(folder.name, config, own, given)
    new = {}
    for name, value in mine.items():
        new[name] = given[name] if name in given else torch.zeros_like(value) if "lora_B" in name else value
        if name in given and "lora_B" in name:
            scale = _scaling(config, name) / _scaling(own, name)
            new[name] = given[name] * scale if scale != 1 else given[name]
    _give(live.model, new)
    live.masters.adopt()
    live.forget_optimizer()


def stand_in_with(model: StandIn, folder: Path) -> AdaptedStandIn | None:
    """The adapter in `folder` over a stand-in; None for one that does more than low-rank pairs on it, or does not fit.

    Raises `BackendError` for what is no adapter.
    """
    config = read_config(folder)
    if not is_plain(config):
        return None
    given = read_tensors(folder)
    modules, parameters = config.get("target_modules") or [], config.get("target_parameters") or []
    adapted = AdaptedStandIn(model, config["r"], float(config.get("lora_alpha") or 8), modules, parameters)
    own = adapted.adapter_tensors()
    if not given or given.keys() != own.keys() or any(given[name].shape != own[name].shape for name in own):
        return None
    adapted.load_adapter_tensors(given)
    return adapted


def open_over(model: "PreTrainedModel", folder: Path, scratch: Path) -> "PeftModel":
    """The adapter in `folder` over `model`, through peft; raises `BackendError` unless all of it arrived.

    `scratch` is an empty folder for a copy with names as they are inside the library, where those differ.
    """
    libraries.load()
    from peft import PeftModel, get_peft_model_state_dict

    config, given = read_config(folder), read_tensors(folder)
    _refuse_unfoldable(config)
    inside, stored = folder_prefix(model)
    if inside != stored and any(name.startswith(_ROOT + stored) for name in given):
        given = _inside(given, model)
        modules = config.get("target_modules")
        if isinstance(modules, list):
            config["target_modules"] = [_renamed(_ROOT + name, stored, inside)[len(_ROOT) :] for name in modules]
        write(scratch / WEIGHTS, given)
        (scratch / CONFIG).write_text(json.dumps(config))
        folder = scratch
    try:
        layers = [name.removesuffix(_LAYER) for name in given if name.endswith(_LAYER)]
        bases = {name: model.get_submodule(name.removeprefix(_ROOT)).weight.detach().clone() for name in layers}
        with quiet():
            wrapped: PeftModel = PeftModel.from_pretrained(model, str(folder))
            arrived = get_peft_model_state_dict(wrapped, save_embedding_layers=bool(layers))
    except Exception as error:  # peft and safetensors raise many types for an adapter of another model
        raise BackendError(f"the adapter does not fit this model: {error}") from error
    lost = sorted(n for n, v in given.items() if n not in arrived or not _same(v, arrived[n]))
    missing = sorted(name for name in arrived if name not in given and "lora_" in name)
    if lost or missing:
        what = f"{lost[0]} has no place in it" if lost else f"{missing[0]} is not in the adapter"
        raise BackendError(f"the adapter does not fit this model: {what}")
    for name, base in bases.items():
        moved, change = given[name + _LAYER].to(base) - base, wrapped.get_submodule(name).get_delta_weight(ADAPTER)
        if (moved - change).norm() < moved.norm() / 2:  # peft saves such a layer as it lies there
            raise BackendError(
                f"the adapter was saved while it was merged: {name.removeprefix(_ROOT)} beside it has it already, and "
                "would get it twice; call unmerge_adapter() before save_pretrained"
            )
    return wrapped


def fold(wrapped: "PeftModel") -> "PreTrainedModel":
    """The model with its adapter folded in; raises `BackendError` for one that peft cannot fold in."""
    try:
        with quiet():
            merged: PreTrainedModel = cast("Any", wrapped).merge_and_unload().eval()
    except (NotImplementedError, RuntimeError, ValueError) as error:  # peft has no type of its own for it
        raise BackendError(f"the adapter cannot be folded into this model: {error}") from error
    return merged


def _refuse_unfoldable(config: Mapping[str, Any]) -> None:
    """Refuse an adapter that no weights can stand for, or that peft opens to another model each time."""
    for setting, why in _NEVER_FOLDED.items():
        if config.get(setting):
            raise BackendError(f"{setting}: {why}, and no adapter can be folded in")
    start = str(config.get("init_lora_weights"))
    if start.startswith("pissa_niter"):
        raise BackendError(
            f"init_lora_weights {start!r} took a random part of the base's weights into the adapter, so that it opens "
            "to another model each time: save it with peft's path_initial_model_for_weight_conversion"
        )


def read_config(folder: Path) -> dict[str, Any]:
    """A LoRA adapter's settings; raises `BackendError` when there are none or they ask for another method."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        raise BackendError(f"{folder.name} is not an adapter: it has no readable {CONFIG}") from None
    if not isinstance(config, dict) or type(config.get("r")) is not int or config.get("peft_type", "LORA") != "LORA":
        raise BackendError(f"{folder.name} is not a LoRA adapter")
    return config


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter's file; raises `BackendError`."""
    try:
        return dict(load_file(folder / WEIGHTS))
    except Exception as error:  # safetensors raises its own type
        raise BackendError(f"{folder.name} has no readable {WEIGHTS}: {error}") from error


def check_fit(given: Mapping[str, Tensor], mine: Mapping[str, Tensor], *, ranks: bool = False) -> None:
    """Every given tensor has a place of its shape; raises `BackendError` that says what kind of tensor has none."""
    if not given:
        raise BackendError("the adapter is empty")
    for name, value in given.items():
        if name not in mine:
            raise BackendError(f"the adapter has {name}; {_why_no_place(name)}")
        if value.shape != mine[name].shape:
            why = "; rank_pattern gives it a rank of its own, which this trainer does not have" if ranks else ""
            raise BackendError(
                f"{name} has shape {list(value.shape)}, this model expects {list(mine[name].shape)}{why}"
            )


def _why_no_place(name: str) -> str:
    if "modules_to_save" in name or ".base_layer." in name:
        return "this trainer trains low-rank matrices and no whole module beside them (modules_to_save)"
    if ".experts." in name and name.split(".experts.", 1)[1].split(".")[0].isdigit():
        return "it adapts each expert by itself, this trainer all experts of a layer in one (target_parameters)"
    return "this model trains no such module (train_attn, _mlp, _unembed)"


def refuse_untrainable(name: str, config: Mapping[str, Any]) -> None:
    """Raise `BackendError` for a setting of an adapter that a trainer cannot go on with."""
    setting = next((key for key in _UNTRAINABLE if config.get(key)), None)
    if setting:
        raise BackendError(f"{name} uses {setting}, which this trainer does not have")
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        raise BackendError(
            f"{name} was begun with init_lora_weights {config['init_lora_weights']!r}, which changed the base too: "
            "save it with peft's path_initial_model_for_weight_conversion, so that it fits the unchanged base"
        )


def _is_the_bases(name: str, value: Tensor, model: "PeftModel") -> bool:
    """Tell whether a whole layer that was saved beside its adapter is the base's own, and so brings nothing."""
    if not name.endswith(_LAYER):
        return False
    own = dict(model.named_parameters()).get(name)
    return own is not None and _same(value, own.detach())


def _refuse_other_experts(name: str, config: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse an adapter on other fused weights of experts: its tensors have the names of ours, and other shapes."""
    theirs, ours = (
        sorted({str(one).removesuffix(".weight").rpartition(".")[2] for one in settings.get("target_parameters") or ()})
        for settings in (config, own)
    )
    if theirs and theirs != ours:
        raise BackendError(
            f"{name} adapts {', '.join(theirs)} (target_parameters), this trainer {', '.join(ours) or 'none such'}"
        )


def _refuse_hidden_alpha(
    name: str, config: Mapping[str, Any], own: Mapping[str, Any], given: Mapping[str, Tensor]
) -> None:
    """Refuse an alpha of fused expert weights, whose tensors do not carry their names, unless ours differs alike."""
    mine = own.get("alpha_pattern") or {}
    ratio = float(config.get("lora_alpha") or 8) / float(own["lora_alpha"])
    for pattern, alpha in (config.get("alpha_pattern") or {}).items():
        seen = any(_key({pattern: alpha}, tensor) == pattern for tensor in given)
        if not seen and alpha != mine.get(pattern, 0) * ratio:
            raise BackendError(f"{name} uses an alpha_pattern ({pattern}) that this trainer cannot place")


def _scaling(config: Mapping[str, Any], name: str) -> float:
    """The factor that peft multiplies B A with in the module of tensor `name`."""
    alphas, ranks = config.get("alpha_pattern") or {}, config.get("rank_pattern") or {}
    alpha = float(alphas.get(_key(alphas, name), config.get("lora_alpha") or 8))
    rank = float(ranks.get(_key(ranks, name), config["r"]))
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _key(patterns: Mapping[str, Any], name: str) -> str:
    """The pattern that peft applies to the module of tensor `name`; the module's own name if none."""
    module = name.removeprefix(_ROOT).rpartition(".lora_")[0]
    if not patterns:
        return module
    libraries.load()
    from peft.utils.other import get_pattern_key

    return str(get_pattern_key(patterns.keys(), module))


def _inside(given: dict[str, Tensor], model: "PreTrainedModel") -> dict[str, Tensor]:
    """Tensors under the names inside the library, whichever of the two they had."""
    inside, stored = folder_prefix(model)
    if inside == stored:
        return given
    return {_renamed(name, stored, inside): value for name, value in given.items()}


def _renamed(name: str, begins: str, becomes: str) -> str:
    start = _ROOT + begins
    return _ROOT + becomes + name[len(start) :] if begins != becomes and name.startswith(start) else name


def _same(given: Tensor, arrived: Tensor) -> bool:
    return given.shape == arrived.shape and torch.equal(given.to(arrived.dtype), arrived.cpu())


def _settings(model: Any) -> dict[str, Any]:
    """The settings of a model's adapters, as they are saved."""
    found = model.settings() if isinstance(model, AdaptedStandIn) else model.peft_config[ADAPTER].to_dict()
    return dict(found)


def _give(model: Any, tensors: Mapping[str, Tensor]) -> None:
    """Let a model's adapters have these values."""
    if isinstance(model, AdaptedStandIn):
        model.load_adapter_tensors(tensors)
        return
    from peft import set_peft_model_state_dict

    with quiet():
        set_peft_model_state_dict(model, dict(tensors))


def _tensors(model: Any) -> dict[str, Tensor]:
    if isinstance(model, AdaptedStandIn):
        return model.adapter_tensors()
    from peft import get_peft_model_state_dict

    with quiet():
        return get_peft_model_state_dict(model, save_embedding_layers=False)  # type: ignore[no-any-return]
