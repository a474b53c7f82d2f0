"""Catalogue of base models: resource name -> a tiny real architecture with shipped pre-trained weights.

`base_folder` hands out a complete Hugging Face folder that `transformers` opens without ftsim. Names of one family
share weights; what differs between them is the context length and the tokenizer id they are known by.
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import cache as memoise
from pathlib import Path
from typing import Any

from ftsim.compute.assets import FOLDER
from ftsim.compute.models.once import write_once

PREFIX = "accounts/fireworks/models/"
SHIPPED_FILES = ("config.json", "model.safetensors")


class UnknownModelError(LookupError):
    """The catalogue has no such base model; the message names those it has."""


@dataclass(frozen=True)
class Facts:
    """What the catalogue declares about a base model."""

    name: str
    """Full resource name."""
    architecture: str
    """Folder of the shipped weights, e.g. `qwen3_moe`."""
    tokenizer_id: str
    """Hugging Face name of its tokenizer, e.g. `Qwen/Qwen3-8B`."""
    context_length: int
    """Tokens."""

    @property
    def moe(self) -> bool:
        return self.architecture != "qwen3"

    @property
    def model_type(self) -> str:
        return str(shipped_config(self.architecture)["model_type"])

    @property
    def parameter_count(self) -> int:
        """Number of weights in the shipped file."""
        return _parameter_count(self.architecture)


_TABLE: tuple[tuple[str, str, str, int], ...] = (
    ("qwen3-0p6b", "qwen3", "Qwen/Qwen3-0.6B", 131072),
    ("qwen3-1p7b", "qwen3", "Qwen/Qwen3-1.7B", 131072),
    ("qwen3-4b", "qwen3", "Qwen/Qwen3-4B", 262144),
    ("qwen3-8b", "qwen3", "Qwen/Qwen3-8B", 262144),
    ("qwen3-embedding-8b", "qwen3", "Qwen/Qwen3-Embedding-8B", 131072),
    ("qwen3p5-9b", "qwen3", "Qwen/Qwen3.5-9B", 262144),
    ("qwen3p6-27b", "qwen3", "Qwen/Qwen3.6-27B", 262144),
    ("qwen3-30b-a3b", "qwen3_moe", "Qwen/Qwen3-30B-A3B", 262144),
    ("qwen3-235b-a22b", "qwen3_moe", "Qwen/Qwen3-235B-A22B", 262144),
    ("kimi-k2-instruct", "deepseek_v3", "moonshotai/Kimi-K2-Instruct", 262144),
    ("kimi-k2-instruct-0905", "deepseek_v3", "moonshotai/Kimi-K2-Instruct-0905", 262144),
    ("kimi-k2-thinking", "deepseek_v3", "moonshotai/Kimi-K2-Thinking", 262144),
    ("kimi-k2p5", "deepseek_v3", "moonshotai/Kimi-K2.5", 262144),
    ("kimi-k2p6", "deepseek_v3", "moonshotai/Kimi-K2.6", 262144),
    ("deepseek-v3", "deepseek_v3", "deepseek-ai/DeepSeek-V3", 163840),
    ("deepseek-v3-0324", "deepseek_v3", "deepseek-ai/DeepSeek-V3-0324", 163840),
    ("deepseek-v3p1", "deepseek_v3", "deepseek-ai/DeepSeek-V3.1", 163840),
    ("deepseek-v3p2", "deepseek_v3", "deepseek-ai/DeepSeek-V3.2", 163840),
    ("glm-5", "glm4_moe", "zai-org/GLM-5", 202752),
    ("glm-5p1", "glm4_moe", "zai-org/GLM-5.1", 202752),
)
_CATALOGUE = {
    PREFIX + short: Facts(PREFIX + short, architecture, tokenizer_id, context)
    for short, architecture, tokenizer_id, context in _TABLE
}
_FAMILIES = (
    (re.compile(r"kimi-k2(p\d+)?(-[a-z0-9]+)*"), "kimi-k2-instruct"),
    (re.compile(r"deepseek-v3(p\d+)?(-[a-z0-9]+)*"), "deepseek-v3"),
    (re.compile(r"glm-5(p\d+)?(-[a-z0-9]+)*"), "glm-5"),
)
"""Names of a family that the table does not list are served as its first member."""


def names() -> tuple[str, ...]:
    """Resource names of the catalogue, in its order."""
    return tuple(_CATALOGUE)


def known(name: str) -> bool:
    """Whether `base_folder` can serve this resource name."""
    return _find(name) is not None


def facts(name: str) -> Facts:
    """What the catalogue declares about `name`; raises `UnknownModelError`."""
    found = _find(name)
    if found is None:
        shorts = ", ".join(known_name.removeprefix(PREFIX) for known_name in names())
        raise UnknownModelError(f"ftsim: there is no base model {name!r}; the catalogue has {PREFIX}{{{shorts}}}")
    return found


def _find(name: str) -> Facts | None:
    if name in _CATALOGUE or not name.startswith(PREFIX):
        return _CATALOGUE.get(name)
    short = name.removeprefix(PREFIX)
    for pattern, member in _FAMILIES:
        if pattern.fullmatch(short):
            like = _CATALOGUE[PREFIX + member]
            return replace(like, name=name)
    return None


def base_folder(name: str, cache: Path) -> Path:
    """A complete Hugging Face folder of `name` under `cache`, float32, written once; raises `UnknownModelError`.

    Safe when several processes ask at once.
    """
    about = facts(name)
    target = Path(cache) / f"{name.removeprefix(PREFIX)}-{_assets_digest(about.architecture)}"
    return write_once(target, lambda folder: _write(about, folder))


def _write(about: Facts, folder: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    from ftsim.compute.models import tokenizer

    shipped = load_file(FOLDER / about.architecture / "model.safetensors")
    tensors = {key: value.astype(np.float32) for key, value in shipped.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    _write_json(folder / "config.json", model_config(about))
    _write_json(folder / "generation_config.json", generation_config())
    tokenizer.write_folder(folder, about.context_length)


def model_config(about: Facts) -> dict[str, Any]:
    """The content of `config.json`."""
    return {**shipped_config(about.architecture), "max_position_embeddings": about.context_length}


def generation_config() -> dict[str, Any]:
    """The content of `generation_config.json`: sample, and stop at the end of a turn or of the text."""
    from ftsim.compute.models import tokenizer

    ids = {token: tokenizer.special_id(token) for token in (tokenizer.IM_END, tokenizer.END_OF_TEXT)}
    return {
        "do_sample": True,
        "eos_token_id": [ids[tokenizer.IM_END], ids[tokenizer.END_OF_TEXT]],
        "pad_token_id": ids[tokenizer.END_OF_TEXT],
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
def _assets_digest(architecture: str) -> str:
    digest = hashlib.sha256()
    files = [FOLDER / architecture / file for file in SHIPPED_FILES]
    for path in (
        *files,
        FOLDER / "tokenizer.json",
        FOLDER / "chat_template.jinja",
        Path(__file__).with_name("tokenizer.py"),
        Path(__file__),
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
