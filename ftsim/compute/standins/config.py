"""The settings of a folder whose architecture is that of a shipped stand-in, field by field."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ftsim.compute.models.catalogue import shipped_config

ARCHITECTURES = ("qwen3", "qwen3_moe", "glm4_moe", "deepseek_v3")
_FREE = frozenset(
    {
        "bos_token_id", "eos_token_id", "max_position_embeddings", "dtype", "torch_dtype", "transformers_version",
        "_name_or_path", "use_cache", "initializer_range", "tokenizer_class",
    }
)  # fmt: skip
"""Settings that decide nothing of what is computed: folders that differ in them alone are one architecture."""


class StandInConfig:
    """Settings by their names in config.json, as attributes."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)["values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandInConfig) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]

    def get_text_config(self) -> "StandInConfig":
        """The settings of the part that reads text: all of them."""
        return self


def read_config(folder: Path) -> StandInConfig | None:
    """The settings of a folder that has a stand-in's architecture; None for every other folder."""
    try:
        values = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict) or values.get("model_type") not in ARCHITECTURES:
        return None
    if type(values.get("max_position_embeddings")) is not int:
        return None
    return StandInConfig(values) if _deciding(values) == _shipped(values["model_type"]) else None


def _deciding(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _FREE}


@cache
def _shipped(architecture: str) -> dict[str, Any]:
    return _deciding(shipped_config(architecture))
