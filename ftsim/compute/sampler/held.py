"""A serving copy's own files, the weights in them, its tokenizer and templates, whatever samples from it."""

import hashlib
import json
import logging
import shutil
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from emulator.backend import BackendError, ReplicaClosed
from ftsim.compute import libraries
from ftsim.compute.checkpoints import peft
from ftsim.compute.quiet import quiet
from ftsim.compute.sampler.templates import ChatTemplates
from ftsim.compute.sampler.text import longest_token
from ftsim.compute.sampler.weights import ServedWeights, fingerprint, link_files
from ftsim.compute.standins.tokenizer import open_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_TOKENS = ("<|im_end|>", "<|endoftext|>")
ADAPTER_FILES = (peft.CONFIG, peft.WEIGHTS)
_PROBES = ("2026-11-29 12345", "It's  two\n\nWORDS\tof ", "\u65e5\u672c\u8a9e", "caf\u00e9 e\u0301")
"""Texts at which the usual rules for splitting text part: digits, spaces, capitals, signs without spaces, accents."""
_log = logging.getLogger(__name__)


class ServingCopy(ABC):
    """The half of a replica that computes nothing. `_weights` are as they were saved: what a delta is applied to."""

    def __init__(self, folder: Path, max_context_length: int) -> None:
        """Take the files of `folder` and open them; a context of at most 0 tokens means the model's own."""
        self._asked = max_context_length
        self._place = tempfile.TemporaryDirectory(prefix="ftsim-replica-", ignore_cleanup_errors=True)
        self._count = 0
        self._loading = threading.Lock()
        self._closed = False
        self._adapter: Path | None = None
        try:
            self._weights = ServedWeights(self._take(folder))
            self._open_first()
        except BaseException:
            self._place.cleanup()
            raise

    @abstractmethod
    def _open_first(self) -> None:
        """Open what computes with the weights; raises `BackendError`."""

    @abstractmethod
    def _stop(self) -> None:
        """End what computes; whatever it was asked fails."""

    def close(self) -> None:
        self._templates.close()
        self._stop()  # first: a load may wait for its requests
        with self._loading:
            self._closed = True
            self._place.cleanup()

    def _read_texts(self, own: int) -> int:
        """Get ready for texts of a model whose own context is given; returns what is served. Raises `BackendError`."""
        context = min(own, self._asked) if self._asked > 0 else own
        self._tokenizer = tokenizer_of(self._weights.folder)
        self._most_characters = context * longest_token(self._tokenizer)
        self._templates = ChatTemplates(self._tokenizer, self._most_characters)
        return context

    def encode(self, text: str) -> list[int]:
        return self._tokens(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    @property
    def chat_template(self) -> str:
        return str(self._tokenizer.chat_template or "")

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        settings: Mapping[str, Any] | None = None,
        begun: str = "",
    ) -> list[int]:
        """Prompt tokens of a conversation through the model's chat template; raises `BackendError` when it refuses.

        A template that writes the same with the tools and without them is refused too: the model would not know them.
        """
        text = self._templates.render(messages, tools, settings or {})
        if tools and text == self._templates.render(messages, (), settings or {}):
            raise BackendError(
                "the model's chat template leaves out the tools of a request: send none, or promote a model whose "
                "tokenizer has a template with tools"
            )
        return self._tokens(text + begun, add_special_tokens=False)

    def _tokens(self, text: str, **settings: bool) -> list[int]:
        """Token ids of a text that the context may hold; raises `BackendError` for one that it cannot."""
        if len(text) > self._most_characters:
            raise BackendError(
                f"The prompt is too long: {len(text)} characters, and the context could hold {self._most_characters} "
                "at the longest tokens: send less"
            )
        return [int(token) for token in self._tokenizer.encode(text, **settings)]

    def fingerprint(self) -> str:
        """SHA-256 over the names, types, shapes and bytes of all served tensors, adapter included."""
        with self._alone():
            digest = hashlib.sha256()
            digest.update(self._weights.fingerprint().encode())
            if self._adapter is not None:
                digest.update(fingerprint(self._adapter).encode())
            return digest.hexdigest()

    def _hold(self, weights: ServedWeights, adapter: Path | None) -> None:
        """Hold these from now on, and remove the files of what was held before."""
        gone = {path for path in (self._weights.folder, self._adapter) if path is not None} - {weights.folder, adapter}
        self._weights, self._adapter = weights, adapter
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One load at a time, and none whose files go meanwhile; raises `BackendError` once this is closed."""
        with self._loading:
            if self._closed:
                raise ReplicaClosed()
            yield

    def _fresh(self) -> Path:
        self._count += 1
        folder = Path(self._place.name) / str(self._count)
        try:
            folder.mkdir()
        except OSError as error:
            raise BackendError(f"the weights cannot be stored: {error.strerror or error}", "server") from error
        return folder

    def _take(self, source: Path, names: Sequence[str] = ()) -> Path:
        """A folder of our own with the files of `source`, shared with it where the file system can."""
        folder = self._fresh()
        try:
            link_files(source, folder, names)
        except OSError as error:
            raise BackendError(f"{source.name} cannot be read: {error.strerror or error}", "server") from error
        return folder


def tokenizer_of(folder: Path) -> "PreTrainedTokenizerBase":
    if (own := open_tokenizer(folder)) is not None:
        return cast("PreTrainedTokenizerBase", own)
    libraries.load()
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        raise BackendError(f"{folder.name} holds no tokenizer that opens: {error}") from error
    if other := split_otherwise(folder, tokenizer):
        _log.warning("the tokenizer of a model that is served: %s", other)
    return tokenizer


def split_otherwise(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """A sentence where transformers splits text by rules of a class of its own and not by those of tokenizer.json."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.exists():
        return None
    written = Tokenizer.from_file(str(path))
    written.no_truncation()
    written.no_padding()
    for text in _PROBES:
        if tokenizer.encode(text, add_special_tokens=False) != written.encode(text, add_special_tokens=False).ids:
            kind = type(tokenizer).__name__
            return f"transformers opens it as {kind}, which has other tokens for {text!r} than its tokenizer.json"
    return None


def end_tokens(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Ids that end a turn: those of generation_config.json, the tokenizer's own, and the two ChatML ones."""
    path = folder / "generation_config.json"
    named = json.loads(path.read_text()).get("eos_token_id") if path.exists() else None
    ids = set(named if isinstance(named, list) else [] if named is None else [named])
    vocabulary = tokenizer.get_vocab()
    ids |= {vocabulary[token] for token in END_TOKENS if token in vocabulary}
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return sorted(int(token) for token in ids)
