"""Base models: resource name -> a tiny real architecture with shipped pre-trained weights.

Names and facts are those of `emulator.core.catalogue`. `base_folder` hands out a complete Hugging Face folder that
`transformers` opens without ftsim. Names of one family share weights; what differs between them is the context length
and the tokenizer id they are known by.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache as memoise
from pathlib import Path
from typing import Any

from emulator.core import catalogue as table
from ftsim.compute.assets import FOLDER, MARKERS
from ftsim.compute.models import vision
from ftsim.compute.models.families import PLACES, Family, family_of
from ftsim.compute.models.once import write_once

PREFIX = table.PREFIX
SHIPPED_FILES = ("config.json", "model.safetensors")


class UnknownModelError(LookupError):
    """The catalogue has no such base model; the message names those it has."""


@dataclass(frozen=True)
class Facts:
    """The catalogue's facts about a base model, as far as they decide what is computed."""

    name: str
    """Full resource name."""
    architecture: str
    """The model type in config.json, e.g. `qwen3_moe`."""
    tokenizer_id: str
    """Hugging Face name of its tokenizer, e.g. `Qwen/Qwen3-8B`; its own name where none is known."""
    context_length: int
    """Tokens: what it serves or is trained with, whichever is longer."""

    @property
    def moe(self) -> bool:
        return self.weights != "qwen3"

    @property
    def sees(self) -> bool:
        """True where the model takes images."""
        return self.architecture == vision.ARCHITECTURE

    @property
    def weights(self) -> str:
        """Folder of the shipped weights that read text, e.g. `qwen3_moe`."""
        return vision.TEXT if self.sees else self.architecture

    @property
    def model_type(self) -> str:
        return self.architecture

    @property
    def parameter_count(self) -> int:
        """Number of weights that were shipped."""
        return _parameter_count(self.weights)


def names() -> tuple[str, ...]:
    """Resource names of the catalogue, in its order; names of its families are served besides."""
    return tuple(table.table().models)


def known(name: str) -> bool:
    """Tell whether `base_folder` can serve this resource name."""
    return table.find(name) is not None


def facts(name: str) -> Facts:
    """Look up what the catalogue declares about `name`; raises `UnknownModelError`."""
    found = table.find(name)
    if found is None:
        raise UnknownModelError(f"ftsim: there is no base model {name!r}: {table.why_unknown(name)}")
    longest = max(found.context_length, found.training_context_length, _longest_shapes().get(name, 0))
    return Facts(name, found.stand_in, found.tokenizer or name, longest)


@memoise
def _longest_shapes() -> dict[str, int]:
    """The longest training shape of each model, in tokens."""
    longest: dict[str, int] = {}
    for shape in table.table().shapes.values():
        longest[shape.base_model] = max(shape.max_context_length, longest.get(shape.base_model, 0))
    return longest


def base_folder(name: str, cache: Path) -> Path:
    """A complete Hugging Face folder of `name` under `cache`, float32, written once; raises `UnknownModelError`.

    Safe when several processes ask at once.
    """
    about = facts(name)
    short = name.removeprefix(PREFIX).replace("/", "_")
    target = Path(cache) / f"{short}-{about.context_length}-{_assets_digest(about.weights, _learned_markers(about))}"
    return write_once(target, lambda folder: _write(about, folder))


def _write(about: Facts, folder: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    from ftsim.compute.models import tokenizer

    shipped = load_file(FOLDER / about.weights / "model.safetensors")
    tensors = {key: value.astype(np.float32) for key, value in shipped.items()}
    if (learned := _learned_markers(about)).exists():
        for part, place in (("embedding", "model.embed_tokens.weight"), ("output", "lm_head.weight")):
            tensors[place][-PLACES:] = load_file(learned)[part]
    if about.sees:
        tensors = vision.tensors(tensors)
        _write_json(folder / "preprocessor_config.json", vision.processor_config())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    _write_json(folder / "config.json", model_config(about))
    _write_json(folder / "generation_config.json", generation_config(family_of(about.name)))
    tokenizer.write_folder(folder, about.context_length, family_of(about.name))


def _learned_markers(about: Facts) -> Path:
    """Rows of the family's markers, for the weights that stand in; there are none where they are Qwen3's."""
    return MARKERS / f"{about.weights}-{family_of(about.name).rows}.safetensors"


def model_config(about: Facts) -> dict[str, Any]:
    """The content of `config.json`."""
    from ftsim.compute.models import tokenizer

    family = family_of(about.name)
    marked = {"bos_token_id": family.bos, "eos_token_id": family.end}
    ids = {key: None if token is None else tokenizer.special_id(token, family) for key, token in marked.items()}
    settings = {**shipped_config(about.weights), **ids, "max_position_embeddings": about.context_length}
    if not about.sees:
        return settings
    return vision.config(settings, {token: tokenizer.special_id(token, family) for token in family.special})


def generation_config(family: Family) -> dict[str, Any]:
    """The content of `generation_config.json`: sample, and stop where the family's answers end."""
    from ftsim.compute.models import tokenizer

    return {
        "do_sample": True,
        "eos_token_id": [tokenizer.special_id(token, family) for token in family.ends],
        "pad_token_id": tokenizer.special_id(family.padding, family),
        "temperature": 1.0,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@memoise
def _shipped_text(architecture: str) -> str:
    return (FOLDER / architecture / "config.json").read_text(encoding="utf-8")


def shipped_config(architecture: str) -> dict[str, Any]:
    """`config.json` as shipped for an architecture."""
    content: dict[str, Any] = json.loads(_shipped_text(architecture))
    return content


@memoise
def _parameter_count(architecture: str) -> int:
    from safetensors import safe_open

    total = 0
    with safe_open(FOLDER / architecture / "model.safetensors", framework="numpy") as weights:
        for key in weights.keys():  # noqa: SIM118
            count = 1
            for size in weights.get_slice(key).get_shape():
                count *= size
            total += count
    return total


@memoise
def _assets_digest(architecture: str, learned: Path) -> str:
    from ftsim.compute.models import tokenizer

    digest = hashlib.sha256()
    shipped = [FOLDER / architecture / file for file in SHIPPED_FILES] + ([learned] if learned.exists() else [])
    for path in (*shipped, *tokenizer.sources(), Path(__file__), Path(vision.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
