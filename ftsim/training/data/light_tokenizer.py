"""The small tokenizers that ftsim wrote, read with `tokenizers` and Jinja: transformers takes seconds to import.

Texts to tokens and back, and conversations to text, are done here. All else is asked of the tokenizer that transformers
opens, and once that is there, everything is. Any other tokenizer is transformers' from the beginning.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template
    from tokenizers import AddedToken, Tokenizer

TOKENIZERS = "FTSIM_TOKENIZERS"
"""Names the hub's cache that ftsim wrote, whose tokenizers and templates are its own."""
_NAMED = ("bos_token", "eos_token", "pad_token")
_THOUGHTS = frozenset({"reasoning", "thinking"})
"""Names of a thought that transformers also gives the name which templates know."""
_ARGUMENTS = frozenset(
    {
        "documents", "chat_template", "continue_final_message", "padding", "truncation", "max_length",
        "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "processor_kwargs",
    }
)  # fmt: skip
"""What rendering by transformers takes besides the variables of the template."""


class LightTokenizer:
    """The tokenizer that `whole` opens, as far as recipes use it."""

    def __init__(self, backend: "Tokenizer", settings: Mapping[str, Any], whole: Callable[[], Any]) -> None:
        own = {"backend": backend, "settings": settings, "open": whole, "whole": None}
        vars(self).update({f"_{name}": value for name, value in own.items()})

    def encode(self, text: str, add_special_tokens: bool = True, **settings: Any) -> list[int]:
        """Token ids of a text."""
        if settings or self._whole is not None or not isinstance(text, str):
            return list(self._library().encode(text, add_special_tokens=add_special_tokens, **settings))
        return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, token_ids: Any, skip_special_tokens: bool = False, **settings: Any) -> Any:
        """The text of these tokens."""
        if settings or self._whole is not None or not isinstance(token_ids, list | tuple):
            return self._library().decode(token_ids, skip_special_tokens=skip_special_tokens, **settings)
        if not all(isinstance(token, int) for token in token_ids):
            return self._library().decode(token_ids, skip_special_tokens=skip_special_tokens)
        return self._backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def apply_chat_template(self, conversation: Any, tools: Any = None, **settings: Any) -> Any:
        """A list of conversations as texts; whatever else is asked of transformers."""
        variables = {name: settings[name] for name in settings.keys() - {"tokenize", "add_generation_prompt"}}
        if self._whole is not None or settings.get("tokenize", True) or not _renders(conversation, tools, variables):
            return self._library().apply_chat_template(conversation, tools=tools, **settings)
        template = _compiled(self._settings["chat_template"])
        special = {name: self._settings[name] for name in _NAMED if self._settings.get(name) is not None}
        generation = bool(settings.get("add_generation_prompt", False))
        return [
            template.render(
                messages=chat, tools=tools, documents=None, add_generation_prompt=generation, **special | variables
            )
            for chat in conversation
        ]

    @property
    def chat_template(self) -> Any:
        """The source of the chat template."""
        return self._settings["chat_template"] if self._whole is None else self._whole.chat_template

    @property
    def eos_token(self) -> Any:
        """The token that ends a text."""
        return self._settings["eos_token"] if self._whole is None else self._whole.eos_token

    @property
    def eos_token_id(self) -> Any:
        """The id of `eos_token`."""
        return self._backend.token_to_id(self.eos_token) if self._whole is None else self._whole.eos_token_id

    @property
    def added_tokens_decoder(self) -> "dict[int, AddedToken]":
        """Tokens that are looked for in a text before it is taken apart, by id."""
        if self._whole is not None:
            return dict(self._whole.added_tokens_decoder)
        return dict(self._backend.get_added_tokens_decoder())

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of the tokens that are part of no text."""
        if self._whole is not None:
            return list(self._whole.all_special_ids)
        names = [self._settings.get(name) for name in _NAMED] + self._settings["additional_special_tokens"]
        return [self._backend.token_to_id(name) for name in dict.fromkeys(names) if name is not None]

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True)) if self._whole is None else len(self._whole)

    def __call__(self, *texts: Any, **settings: Any) -> Any:
        return self._library()(*texts, **settings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_open" not in vars(self):
            raise AttributeError(name)
        return getattr(self._library(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._library(), name, value)

    def _library(self) -> Any:
        if self._whole is None:
            vars(self)["_whole"] = self._open()
        return self._whole


def opened(name: str, revision: str | None, whole: Callable[[], Any]) -> LightTokenizer | None:
    """The tokenizer that ftsim wrote for a name of the hub; None where there is none, or where the hub is another."""
    cache_folder = os.environ.get(TOKENIZERS)
    if not cache_folder or (cache_folder, True) != _hub():
        return None
    of_name = Path(cache_folder) / f"models--{name.replace('/', '--')}"
    try:
        commit = revision or (of_name / "refs" / "main").read_text(encoding="ascii")
        folder = of_name / "snapshots" / commit
        settings = json.loads((folder / "tokenizer_config.json").read_bytes())
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        from tokenizers import Tokenizer

        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except (OSError, ValueError, ImportError):
        return None
    return LightTokenizer(backend, settings | {"chat_template": template}, whole)


def _hub() -> tuple[str | None, bool]:
    """Returns where the hub library looks in this process, and True where it looks nowhere else."""
    if constants := sys.modules.get("huggingface_hub.constants"):  # it reads the environment once
        return constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE
    return os.environ.get("HF_HUB_CACHE"), os.environ.get("HF_HUB_OFFLINE") == "1"


def _renders(conversation: Any, tools: Any, variables: Mapping[str, Any]) -> bool:
    """Says whether this is a list of conversations of plain messages, which need nothing that transformers adds."""
    if not isinstance(conversation, list) or not all(isinstance(chat, list) for chat in conversation):
        return False
    messages = [message for chat in conversation for message in chat]
    if not all(type(one) is dict and not _THOUGHTS & one.keys() for one in messages):
        return False
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in variables.values())
    return plain and not variables.keys() & _ARGUMENTS and (tools is None or all(type(one) is dict for one in tools))


@cache
def _compiled(source: str) -> "Template":
    """A template as transformers compiles it."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: object, **settings: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False} | settings)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    return environment.from_string(source)
