"""The stand-in that sees: the text weights of `qwen3` under a tower of seeded random weights, as Qwen3-VL has both.

Nothing taught it what a picture shows: the tower is as it was drawn, and training has to find out. Of text alone it
makes what `qwen3` makes, since its rotary angles are the same wherever the three positions of a token are.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a hub without weights is written where NumPy is missing
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

ARCHITECTURE = "qwen3_vl"
TEXT = "qwen3"
"""The shipped weights that read text."""
SEED = 0
_IMAGE, _VIDEO, _BEGIN, _END = "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"
_DEPTH, _HIDDEN, _INNER, _PLACES = 2, 32, 64, 64
_PATCH, _FRAMES, _MERGED = 16, 2, 2
_TEXT_FIELDS = (
    "attention_bias",
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "use_cache",
    "vocab_size",
)


def config(text: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """The content of config.json: `text` are the settings of the weights that read text, `ids` those of its markers."""
    turned = text["head_dim"] // 2
    third = turned // 3
    rope = {**text["rope_parameters"], "mrope_interleaved": True, "mrope_section": [turned - 2 * third, third, third]}
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "dtype": text["dtype"],
        "image_token_id": ids[_IMAGE],
        "model_type": ARCHITECTURE,
        "text_config": {
            **{name: text[name] for name in _TEXT_FIELDS},
            "model_type": "qwen3_vl_text",
            "rope_parameters": rope,
        },
        "tie_word_embeddings": False,
        "video_token_id": ids[_VIDEO],
        "vision_config": _tower(text["hidden_size"]),
        "vision_end_token_id": ids[_END],
        "vision_start_token_id": ids[_BEGIN],
    }


def _tower(out: int) -> dict[str, Any]:
    return {
        "deepstack_visual_indexes": [0],
        "depth": _DEPTH,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": _HIDDEN,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": _INNER,
        "model_type": "qwen3_vl_vision",
        "num_heads": 2,
        "num_position_embeddings": _PLACES,
        "out_hidden_size": out,
        "patch_size": _PATCH,
        "spatial_merge_size": _MERGED,
        "temporal_patch_size": _FRAMES,
    }


def processor_config() -> dict[str, Any]:
    """The content of preprocessor_config.json: patches of 16 pixels, 2 × 2 of them merged into one token."""
    return {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "patch_size": _PATCH,
        "temporal_patch_size": _FRAMES,
        "merge_size": _MERGED,
        "size": {"shortest_edge": 65536, "longest_edge": 16777216},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
    }


def tensors(text: "Mapping[str, Array]") -> "dict[str, Array]":
    """All weights under their names in the folder, given those that read text."""
    import numpy as np

    whole = {name.replace("model.", "model.language_model.", 1): value for name, value in text.items()}
    out = text["model.embed_tokens.weight"].shape[1]
    # This generator's numbers are the same in every release of NumPy; those of newer ones may change.
    draw = np.random.RandomState(SEED)
    for name, shape in _shapes(out).items():
        whole[f"model.visual.{name}"] = _started(draw, name, shape)
    return whole


def _shapes(out: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tower's weights, in the order in which they are drawn."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (_HIDDEN, 3, _FRAMES, _PATCH, _PATCH),
        "patch_embed.proj.bias": (_HIDDEN,),
        "pos_embed.weight": (_PLACES, _HIDDEN),
    }
    for number in range(_DEPTH):
        layer = {
            **_norm("norm1", _HIDDEN),
            **_linear("attn.qkv", _HIDDEN, 3 * _HIDDEN),
            **_linear("attn.proj", _HIDDEN, _HIDDEN),
            **_norm("norm2", _HIDDEN),
            **_linear("mlp.linear_fc1", _HIDDEN, _INNER),
            **_linear("mlp.linear_fc2", _INNER, _HIDDEN),
        }
        shapes |= {f"blocks.{number}.{name}": shape for name, shape in layer.items()}
    wide = _HIDDEN * _MERGED**2
    for merger, normed in (("merger", _HIDDEN), ("deepstack_merger_list.0", wide)):
        made = {
            **_norm("norm", normed),
            **_linear("linear_fc1", wide, wide),
            **_linear("linear_fc2", wide, out),
        }
        shapes |= {f"{merger}.{name}": shape for name, shape in made.items()}
    return shapes


def _linear(name: str, taken: int, given: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (given, taken), f"{name}.bias": (given,)}


def _norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _started(draw: "np.random.RandomState", name: str, shape: tuple[int, ...]) -> "Array":
    """A weight before training: matrices keep the size of what goes through them, norms and biases do nothing yet."""
    import numpy as np

    if len(shape) == 1:
        return np.full(shape, float("norm" in name and name.endswith("weight")), dtype=np.float32)
    scale = 0.1 if name.startswith("pos_embed") else float(np.prod(shape[1:])) ** -0.5
    return (draw.standard_normal(shape) * scale).astype(np.float32)
