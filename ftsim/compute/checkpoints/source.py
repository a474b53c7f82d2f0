"""A model folder as transformers reads it: which files hold its weights, how it opens, what is saved along.

The one place that opens full weights. What is written of a model later has the names, the small files and the tensors
beside its own that this folder has.
"""

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import safe_open
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute import libraries
from ftsim.compute.images.sight import sees
from ftsim.compute.quiet import quiet
from ftsim.compute.standins.model import open_stand_in

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TEMPLATES = "additional_chat_templates"
NAMES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "tiktoken.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja", "chat_template.json", "preprocessor_config.json", "processor_config.json",
    "video_preprocessor_config.json",
)  # fmt: skip
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The folder a model was opened from, as far as the folders need it that are written of the model."""

    files: Mapping[str, bytes]
    """Config, tokenizer, templates, processors and generation settings, by their path in the folder."""
    dtypes: Mapping[str, torch.dtype]
    """Type of each stored tensor; empty for quantised weights, which are opened in another type than theirs."""
    carried: Mapping[str, Tensor]
    """Stored tensors that the opened model does not have: a vision tower under a text model, extra prediction heads."""

    @classmethod
    def read(cls, folder: Path, model: "PreTrainedModel", own: Collection[str]) -> "Source":
        """Read what lies beside a `model` with tensors of the names in `own`, which was opened from `folder`."""
        quantised = quantisation(folder) is not None
        beside = {name.rpartition(".")[0] for name in own} if quantised else set[str]()
        tied = set(getattr(model, "all_tied_weights_keys", None) or ())
        dtypes: dict[str, torch.dtype] = {}
        carried: dict[str, Tensor] = {}
        for path in weight_files(folder):
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    if name in own:
                        dtypes[name] = _dtype(file.get_slice(name).get_dtype())
                    elif name not in tied and name.rpartition(".")[0] not in beside:
                        carried[name] = file.get_tensor(name)
        files = small_files(folder)
        if says_tied(model) and not is_tied(model):
            files["config.json"] = _untied(files["config.json"])
        return cls(files, {} if quantised else dtypes, carried)

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        settings: dict[str, Any] = json.loads(self.files["config.json"])
        return settings


def small_files(folder: Path) -> dict[str, bytes]:
    """Those of `NAMES` that a folder has, and its named chat templates."""
    templates = sorted((folder / TEMPLATES).glob("*.jinja"))
    found = [folder / name for name in NAMES if (folder / name).exists()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in (*found, *templates)}


def write_small(folder: Path, files: Mapping[str, bytes], **config: Any) -> None:
    """Write `files`; `config` entries replace those of config.json, and the way its weights were quantised goes."""
    for name, content in files.items():
        if "/" in name:
            (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content if name != "config.json" else _edited(content, config))


def _edited(content: bytes, changes: Mapping[str, Any]) -> bytes:
    settings = json.loads(content)
    text = settings.get("text_config")
    for part in (settings, text) if isinstance(text, dict) else (settings,):
        part.pop("torch_dtype", None)  # the older name of `dtype`
        part.pop("quantization_config", None)  # what is written is plain
        if "dtype" in part and "dtype" in changes:
            part["dtype"] = changes["dtype"]
    return (json.dumps(settings | changes, indent=2) + "\n").encode()


def is_tied(model: Any) -> bool:
    """Tell whether a model's output layer has the weights of its embeddings."""
    output = model.get_output_embeddings()
    return output is not None and output.weight is model.get_input_embeddings().weight


def says_tied(model: Any) -> bool:
    """Tell whether the config ties the two; transformers does not do so where the folder has other weights for each."""
    return bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))


def _untied(content: bytes) -> bytes:
    """A config that says what the weights are: other programs leave out an output layer that is said to be tied."""
    settings = json.loads(content)
    text = settings.get("text_config")
    for part in (settings, text) if isinstance(text, dict) else (settings,):
        part["tie_word_embeddings"] = False
    return (json.dumps(settings, indent=2) + "\n").encode()


def weight_files(folder: Path) -> list[Path]:
    """The files transformers opens: one file if there is one, else those of the index; raises `BackendError`."""
    if (folder / WEIGHTS).exists():
        if twice := saved_twice(folder):
            _log.warning("%s holds %s and an index of shards: %s", folder.name, WEIGHTS, twice)
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        there = sorted(path.name for path in folder.glob("*.safetensors"))
        lost = f"there is no {INDEX} that says what is in {there[0]}" if there else "there are no safetensors files"
        raise BackendError(f"{folder.name} does not open as a model: {lost}")
    return _shards(folder)


def _shards(folder: Path) -> list[Path]:
    """The files that the index names; raises `BackendError` for an index, or a file of it, that is not whole."""
    try:
        names = sorted({str(name) for name in json.loads((folder / INDEX).read_bytes())["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BackendError(f"{folder.name}: {INDEX} is not whole: {error}") from None
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors") or not (folder / name).is_file():
            raise BackendError(f"{folder.name}: the index names {name[:120]!r}, which is not there")
    return [folder / name for name in names]


def saved_twice(folder: Path) -> str:
    """Says what is read of a folder with a single file and an index, as two saves leave them; "" for others.

    A later save in shards leaves the single file, which transformers prefers; a later single file deletes the shards.
    """
    if not ((folder / WEIGHTS).exists() and (folder / INDEX).exists()):
        return ""
    read = "the single file is what is read"
    try:
        whole = _shards(folder) != [folder / WEIGHTS]
    except (BackendError, OSError):
        whole = False
    return f"{read}, and its shards are there too: if they were saved later, delete {WEIGHTS}" if whole else read


def quantisation(folder: Path) -> str | None:
    """The quantisation of a folder's weights, e.g. `fp8`; None for plain ones."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        text = config.get("text_config") or {}
        settings = config.get("quantization_config") or text.get("quantization_config")
    except (OSError, ValueError, AttributeError):
        return None
    return None if settings is None else str(settings.get("quant_method") or "an unnamed method")


def open_model(folder: Path, dtype: torch.dtype, *, through_library: bool = False) -> "PreTrainedModel":
    """The architecture and weights of a folder, all in `dtype`; raises `BackendError` when it does not open.

    A folder with the architecture of a shipped stand-in opens as a `StandIn`, which needs torch alone and is used like
    a model of transformers; every other one, or each with `through_library`, opens through transformers. There
    quantised weights are opened as plain ones where that needs no GPU, and what an architecture keeps in float32 beside
    half precision stays in float32.
    """
    files = weight_files(folder)
    if not through_library and (stand_in := open_stand_in(folder, files, dtype)) is not None:
        return cast("PreTrainedModel", stand_in)
    libraries.load()
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    method = quantisation(folder)
    more = _dequantised(folder, method) if method else {}
    try:
        with quiet():
            auto = AutoModelForImageTextToText if _sees(folder) else AutoModelForCausalLM
            model, report = auto.from_pretrained(folder, dtype=dtype, output_loading_info=True, **more)
    except Exception as error:  # whatever is wrong with the files, it is the files
        raise BackendError(f"{folder.name} does not open as a model: {error}") from error
    wrong = sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in report[kind])
    if wrong:
        more_wrong = len(wrong) - 1
        raise BackendError(
            f"{folder.name} does not hold the weights of its architecture: {wrong[0]} and {more_wrong} more"
        )
    if method:
        _settle(model, dtype)
    return cast("PreTrainedModel", model.eval())


def _sees(folder: Path) -> bool:
    try:
        return sees(json.loads((folder / "config.json").read_bytes()))
    except (OSError, ValueError):
        return False


def stays_in_float32(model: Any, name: str) -> bool:
    """Tell whether the architecture keeps a weight in float32 when the others are in half precision."""
    kept = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    return any(part in name for part in kept)


def _dequantised(folder: Path, method: str) -> dict[str, Any]:
    from transformers import FineGrainedFP8Config, Mxfp4Config

    kinds = {"fp8": FineGrainedFP8Config, "mxfp4": Mxfp4Config}
    if method not in kinds:
        raise BackendError(
            f"{folder.name} is quantised with {method}, which needs kernels that are not here: "
            "use a folder with plain weights (bfloat16 or float32)"
        )
    return {"quantization_config": kinds[method](dequantize=True)}


def _settle(model: Any, dtype: torch.dtype) -> None:
    """Give every weight of a dequantised model one type, and forget that it was quantised."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point() and not (dtype != torch.float32 and stays_in_float32(model, name)):
            value.data = value.data.to(dtype)
    model.config.dtype = dtype
    model.hf_quantizer = None
    model._weight_conversions = _plain_conversions(model)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _plain_conversions(model: Any) -> list[Any]:
    """Conversions between names in the files and in the library, plain ones in place of those that dequantised."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter

    used = getattr(model, "_weight_conversions", None) or []
    made = {tuple(one.target_patterns) for one in used if isinstance(one, WeightConverter)}
    plain = get_model_conversion_mapping(model, add_legacy=False)
    renamed = [one for one in used if not isinstance(one, WeightConverter)]
    return renamed + [one for one in plain if isinstance(one, WeightConverter) and tuple(one.target_patterns) in made]


def _dtype(stored: str) -> torch.dtype:
    """The torch type of a safetensors type."""
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    return cast(torch.dtype, getattr(torch, names.get(stored, "float32")))
