"""The small files beside full weights: config, tokenizer, generation settings. They come from the base model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
    "chat_template.json", "preprocessor_config.json",
)  # fmt: skip


def read(base: Path) -> dict[str, bytes]:
    """Those of `NAMES` that a Hugging Face folder has."""
    return {name: (base / name).read_bytes() for name in NAMES if (base / name).exists()}


def write(folder: Path, files: Mapping[str, bytes], **config: Any) -> None:
    """Write `files`; `config` entries replace those of config.json."""
    for name, content in files.items():
        (folder / name).write_bytes(content if name != "config.json" else _edited(content, config))


def _edited(content: bytes, changes: Mapping[str, Any]) -> bytes:
    settings = json.loads(content)
    settings.pop("torch_dtype", None)  # the older name of `dtype`
    return (json.dumps(settings | changes, indent=2) + "\n").encode()
