"""The tokenizer of a stand-in's folder by `tokenizers` alone; for chat templates transformers opens it once more."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ftsim.compute import libraries
from ftsim.compute.models.families import FAMILIES, Family, chat_template
from ftsim.compute.models.tokenizer import config, vocabulary_text
from ftsim.compute.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OTHERS = (
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "tiktoken.model",
    "chat_template.json", "additional_chat_templates",
)  # fmt: skip
"""Files that decide about a tokenizer besides, in folders that we did not write."""


class StandInTokenizer:
    """As far as a replica uses it, the tokenizer that transformers opens."""

    def __init__(self, folder: Path, family: Family) -> None:
        from tokenizers import Tokenizer

        self._folder = folder
        self._family = family
        self.backend_tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.eos_token_id: int | None = self.backend_tokenizer.token_to_id(family.end)

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        return list(self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of these tokens."""
        return str(self.backend_tokenizer.decode(list(tokens), skip_special_tokens=skip_special_tokens))

    def get_vocab(self) -> dict[str, int]:
        """Token ids by their spelling."""
        return dict(self.backend_tokenizer.get_vocab(with_added_tokens=True))

    def convert_ids_to_tokens(self, token: int) -> str | None:
        """The spelling of a token."""
        found: str | None = self.backend_tokenizer.id_to_token(token)
        return found

    @property
    def chat_template(self) -> str:
        """The source of the folder's chat template."""
        return chat_template(self._family.name)

    def get_chat_template(self, name: str | None, tools: object) -> str:
        """The source of the template that these tools ask for: there is one."""
        return self.chat_template

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], **settings: Any) -> Any:
        """Render a conversation, by transformers."""
        return self._of_library.apply_chat_template([dict(message) for message in messages], **settings)

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """Special tokens by their part, as templates see them."""
        return dict(self._of_library.special_tokens_map)

    @cached_property
    def _of_library(self) -> "PreTrainedTokenizerBase":
        libraries.load()
        from transformers import AutoTokenizer

        with quiet():
            return cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(self._folder))


def open_tokenizer(folder: Path) -> StandInTokenizer | None:
    """The tokenizer of a folder whose tokenizer files are those of a shipped family; None for every other folder."""
    try:
        family = _family(folder)
        return None if family is None else StandInTokenizer(folder, family)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _family(folder: Path) -> Family | None:
    if any((folder / name).exists() for name in _OTHERS):
        return None
    settings = json.loads((folder / "tokenizer_config.json").read_bytes())
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    words = (folder / "tokenizer.json").read_text(encoding="utf-8")
    for name, family in FAMILIES.items():
        if template == chat_template(name) and settings == config(settings["model_max_length"], family):
            return family if words == vocabulary_text(family) else None
    return None
