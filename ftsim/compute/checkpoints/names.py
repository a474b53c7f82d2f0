"""The names under which a model's tensors stand in files: those of its folder, not those inside the library."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ftsim.compute.standins.model import StandIn


def tensors_of(model: Any, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Weights under the names that Hugging Face files use; tied tensors once.

    `state` holds parameters and buffers under their names in the model, where that has only parts of them.
    """
    if isinstance(model, StandIn):
        return model.stored_tensors(state)
    from transformers.core_model_loading import revert_weight_conversion

    state = {name: value.detach() for name, value in (state or model.state_dict()).items()}
    for tied in getattr(model, "all_tied_weights_keys", None) or ():
        state.pop(tied, None)
    if getattr(model, "_weight_conversions", True):
        state = revert_weight_conversion(model, state)
    return {name: value.contiguous() for name, value in state.items()}


def folder_prefix(model: Any) -> tuple[str, str]:
    """The beginning of modules' names, inside the library and in the folder, e.g. `model.` and `model.language_model.`.

    They differ where a text model was opened from the folder of a model that also sees or hears.
    """
    if isinstance(model, StandIn):
        return "model.", "model."
    embeddings = model.get_input_embeddings().weight
    inside = next((name for name, value in model.named_parameters() if value is embeddings), "")
    leaf = ".".join(inside.rsplit(".", 2)[-2:])
    stored = [name for name in tensors_of(model) if name.endswith(leaf)]
    if len(stored) != 1:
        return "", ""
    return inside.removesuffix(leaf), stored[0].removesuffix(leaf)
