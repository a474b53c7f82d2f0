"""From tokens to text: the text and bytes of one token, and the text of a growing row as far as it is certain."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from emulator.backend import GeneratedToken

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_LONGEST_WINDOW = 8


class TokenDecoder:
    """A tokenizer's decoding, with single tokens remembered: looking one up is cheaper than decoding it."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._pieces: dict[int, tuple[str, bytes | None]] = {}

    def named(self, token: GeneratedToken) -> GeneratedToken:
        """The token with its text, and with its bytes where they are no whole characters."""
        text, raw = self.piece(token.token_id)
        return replace(token, text=text, raw=raw)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of these tokens together, special ones included."""
        return self.piece(tokens[0])[0] if len(tokens) == 1 else self._decode(tokens)

    def piece(self, token: int) -> tuple[str, bytes | None]:
        """The text of one token, and its bytes where they are no whole characters."""
        if token not in self._pieces:
            text = self._decode([token])
            spelling = str(self._tokenizer.convert_ids_to_tokens(token)) if UNFINISHED in text else ""
            self._pieces[token] = text, (token_bytes(spelling) if spelling else None)
        return self._pieces[token]

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))


def longest_token(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The most characters of a text that one token stands for.

    A byte-level entry has a letter for each byte, others one for each character; a normalizer may have made one
    character of up to four before.
    """
    own = getattr(tokenizer, "backend_tokenizer", None)
    merged = 1 if own is not None and own.normalizer is None else 4
    return merged * max(map(len, tokenizer.get_vocab()), default=1)


class IncrementalText:
    """Takes tokens, gives text: whole characters, nothing that may begin a stop string, nothing behind one.

    `decode` makes text of token ids; `ends` are tokens that are no text when they come last.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str], ends: Collection[int]) -> None:
        self._decode = decode
        self._stops = stops
        self._ends = ends
        self._silent: list[int] = []
        self._window: list[int] = []
        """The newest tokens, from one that began with a whole character; decoding all of them each time is slow."""
        self._shown = 0
        """Characters of the window that are out of it."""
        self._pending = ""
        self._over = False

    def add(self, token: int) -> str:
        """The text that can be given out now that `token` came."""
        self._silent.append(token)
        if token in self._ends:
            return ""
        for one in self._silent:
            self._pending += self._take(one)
        self._silent = []
        return self._give()

    def _take(self, token: int) -> str:
        """Finished characters that `token` adds. Only the last one can be unfinished, and then decodes to U+FFFD."""
        self._window.append(token)
        text = self._decode(self._window)
        whole = text.removesuffix(UNFINISHED)
        new, self._shown = whole[self._shown :], max(self._shown, len(whole))
        if len(whole) == len(text):
            self._window = [token]  # it stays: some decoders look one token back
            self._shown = len(self._decode(self._window))
        elif len(self._window) > _LONGEST_WINDOW:
            self._window = self._window[-4:]  # no character is longer
            self._shown = len(self._decode(self._window).removesuffix(UNFINISHED))
        return new

    def _give(self) -> str:
        if self._over:
            return ""
        found = [at for stop in self._stops if (at := self._pending.find(stop)) >= 0]
        self._over = bool(found)
        cut = min(found, default=len(self._pending) - self._overlap())
        given, self._pending = self._pending[:cut], self._pending[cut:]
        return given

    def _overlap(self) -> int:
        """The number of last characters that may be the beginning of a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(self._pending)), 0, -1):
            if any(stop.startswith(self._pending[-size:]) for stop in self._stops):
                return size
        return 0


def token_bytes(spelling: str) -> bytes | None:
    """The bytes of a byte-level vocabulary entry, None for an entry of another kind."""
    try:
        return bytes(_BYTES[letter] for letter in spelling)
    except KeyError:
        return None


def _letters() -> dict[str, int]:
    """Letters that stand for bytes in byte-level vocabularies: printable ones for themselves, others moved up."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    moved = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + at): byte for at, byte in enumerate(moved)}


_BYTES = _letters()
