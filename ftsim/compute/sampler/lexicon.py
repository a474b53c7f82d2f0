"""What a model's token ids say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from emulator.backend import GeneratedToken
from ftsim.compute.sampler.speech import UNFINISHED, spelt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Lexicon:
    """A tokenizer's decoding, with single tokens remembered: looking one up is cheaper than decoding it."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._pieces: dict[int, tuple[str, bytes | None]] = {}

    def named(self, token: GeneratedToken) -> GeneratedToken:
        """The token with its text, and with its bytes where they are no whole characters."""
        text, raw = self._piece(token.token_id)
        return replace(token, text=text, raw=raw)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of these tokens together, special ones included."""
        return self._piece(tokens[0])[0] if len(tokens) == 1 else self._decode(tokens)

    def _piece(self, token: int) -> tuple[str, bytes | None]:
        if token not in self._pieces:
            text = self._decode([token])
            spelling = str(self._tokenizer.convert_ids_to_tokens(token)) if UNFINISHED in text else ""
            self._pieces[token] = text, (spelt(spelling) if spelling else None)
        return self._pieces[token]

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))
