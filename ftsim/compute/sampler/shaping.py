"""Changes that a request makes to the distribution of one row: penalties, biases, and a format that its text must have.

They act in this order, on logits, before temperature, top-k, top-p, min-p and typical-p. `logprob` stays that of the
model's own distribution, `sampling_logprob` is that of the changed one.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from emulator.backend import BackendError, GenerateRequest
from emulator.core.answer_format import Format
from ftsim.compute.sampler.grammar import grammar_of
from ftsim.compute.standins.tokenizer import StandInTokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from transformers import PreTrainedTokenizerBase


class Formats:
    """Makes guides to formats, for one tokenizer, of which llguidance takes a copy when the first one is asked for."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", vocabulary: int, ends: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._size = max(vocabulary, len(tokenizer))
        self._ends = list(ends)
        self._own: LLTokenizer | None = None
        self._markers: dict[str, int] = {}
        self._lock = threading.Lock()

    def guide(self, wanted: Format) -> "Guide":
        """Follow a format from its beginning; raises `BackendError` for one that cannot be followed exactly."""
        from llguidance import LLMatcher

        with self._lock:
            if self._own is None:
                self._own = self._copied()
                self._markers = {
                    text: token
                    for text, token in self._tokenizer.get_vocab().items()
                    if self._own.is_special_token(token)
                }
            grammar = grammar_of(wanted, self._markers)
        failed, told = LLMatcher.validate_grammar_with_warnings(grammar, self._own)
        if failed or told:
            why = "; ".join(told).rpartition("JSON schema: ")[2].partition("\n")[0]
            raise BackendError(f"the JSON schema cannot be followed exactly: {why[:300]}")
        return Guide(LLMatcher(self._own, grammar, log_level=0))

    def _copied(self) -> "LLTokenizer":
        try:
            if isinstance(self._tokenizer, StandInTokenizer):
                from llguidance import LLTokenizer

                text = self._tokenizer.backend_tokenizer.to_str()
                return LLTokenizer(text, n_vocab=self._size, eos_token=self._ends)
            from llguidance.hf import from_tokenizer

            return from_tokenizer(self._tokenizer, n_vocab=self._size, eos_token=self._ends)
        except Exception as error:  # it raises many types
            raise BackendError(f"text in a format needs a fast tokenizer that ends its turns: {error}") from error


class Guide:
    """Says which tokens a format allows next."""

    def __init__(self, matcher: "LLMatcher") -> None:
        self._matcher = matcher

    def allowed(self, vocabulary: int) -> Tensor:
        """The tokens that may follow, (V,) of bool; raises `BackendError` in a dead end."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        mask = np.unpackbits(bits, bitorder="little")[:vocabulary].astype(bool)
        if self._matcher.is_error() or not mask.any():
            raise BackendError(f"the format leads nowhere: {self._matcher.get_error() or 'no token may follow'}")
        return torch.from_numpy(np.pad(mask, (0, vocabulary - len(mask))))

    def take(self, token: int) -> bool:
        """Go on behind `token`; gives True when nothing may follow but the end."""
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)
        return bool(self._matcher.is_stopped())


class Shaper:
    """Changes the logits of one row, step by step."""

    def __init__(self, request: GenerateRequest, guide: Guide | None) -> None:
        self._request = request
        self._guide = guide
        self._drawn: Counter[int] = Counter()
        self._seen = set(request.prompt) if request.repetition_penalty != 1 else set()

    def apply(self, logits: Tensor) -> Tensor:
        """The logits (V,) from which the next token is drawn; raises `BackendError` when the format has a dead end."""
        asked, shaped = self._request, logits.clone()
        if asked.logit_bias:
            shaped[list(asked.logit_bias)] += torch.tensor(list(asked.logit_bias.values()), dtype=shaped.dtype)
        if self._seen:
            index = torch.tensor(sorted(self._seen))
            score = shaped[index]
            factor = asked.repetition_penalty
            shaped[index] = torch.where(score < 0, score * factor, score / factor)
        if self._drawn and (asked.frequency_penalty or asked.presence_penalty):
            counts = torch.tensor(list(self._drawn.values()), dtype=shaped.dtype)
            shaped[list(self._drawn)] -= asked.frequency_penalty * counts + asked.presence_penalty
        if self._guide is not None:
            shaped.masked_fill_(~self._guide.allowed(len(shaped)), float("-inf"))
        return shaped

    def take(self, token: int) -> bool:
        """Note a token that was drawn; gives True when the format ends with it."""
        self._drawn[token] += 1
        if self._request.repetition_penalty != 1:
            self._seen.add(token)
        return self._guide is not None and self._guide.take(token)


def shaper(request: GenerateRequest, formats: Formats) -> Shaper | None:
    """Make what changes the logits of a request's row, None where nothing does; raises `BackendError`."""
    plain = not (request.frequency_penalty or request.presence_penalty or request.logit_bias)
    if plain and request.repetition_penalty == 1 and request.format is None:
        return None
    return Shaper(request, None if request.format is None else formats.guide(request.format))
