"""A serving copy in the light backend: it holds weights, swaps them, and draws letters by them."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from emulator.backend import BackendError, GeneratedToken, GenerateRequest, Generation, Tell, Transition
from emulator.core.answer_format import cut
from emulator.core.clock import Clock
from emulator.core.errors import too_long
from emulator.light import files
from emulator.light.model import NO_IMAGES, softmax, vector

FIRST_TOKEN = 96
"""The tokens that are drawn are the letters from this one on; a multiple of SIZE, so that they train themselves."""
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class LightReplica:
    """`emulator.backend.Replica` over four numbers. A token id is a character's number, whoever's tokenizer made it."""

    def __init__(self, base: list[float], context: int = files.CONTEXT) -> None:
        self._base = base
        self._weights = list(base)
        self._context = context

    def load_base(self, folder: Path, identity: str, transition: Transition = "ASYNC") -> None:
        self._weights = files.read_weights(folder)

    def apply_delta(
        self,
        folder: Path,
        identity: str,
        transition: Transition = "ASYNC",
        *,
        compression_format: str = "arc_v2",
        in_place: bool = False,
    ) -> None:
        after, whole = files.after_delta(folder, self._weights)
        if whole or in_place:
            self._weights = after
        if not whole:
            raise BackendError("checksum mismatch: the delta is against another snapshot", "server")

    def load_adapter(self, folder: Path, identity: str, transition: Transition = "ASYNC") -> None:
        added = files.read_adapter(folder)
        self._weights = [b + a for b, a in zip(self._base, added, strict=True)]

    def generate(self, request: GenerateRequest, tell: Tell | None = None) -> "Future[Generation]":
        """Answer at once; `tell` hears of every token. Raises BackendError for a prompt that does not fit."""
        future: Future[Generation] = Future()
        result = self.answer(request)
        if tell is not None:
            recite(result, request.stop, tell)
        future.set_result(result)
        return future

    def embed(self, prompt: Sequence[int], size: int = 0) -> "Future[Sequence[float]]":
        """Give a vector that follows from the weights and the prompt; raises BackendError for one that does not fit."""
        self._limit(GenerateRequest(prompt))
        if size > (most := len(vector((), self._weights))):
            raise BackendError(f"dimensions is {size}: vectors here have {most}, ask for fewer")
        future: Future[Sequence[float]] = Future()
        future.set_result(vector(prompt, self._weights, size))
        return future

    def answer(self, request: GenerateRequest) -> Generation:
        """The whole continuation: the same for the same request and weights, whoever asks and whenever."""
        began = Clock.elapsed()
        limit = self._limit(request)
        logprobs = [math.log(max(p, 1e-300)) for p in softmax(self._weights)]
        if request.routing:
            raise BackendError("include_routing_matrix: the light backend has no experts: use the one with real models")
        if request.format is not None:
            raise BackendError(
                "the light backend draws letters and no JSON: use the backend with real models for response_format and "
                "a forced tool_choice"
            )
        tokens: list[GeneratedToken] = []
        text, reason, stop = "", "length", ""
        while len(tokens) < limit and reason == "length":
            shares = _shares(_shaped(logprobs, request, [token.token_id for token in tokens]), request)
            chosen = _draw(shares, _chance(request, len(tokens)))
            tokens.append(self._token(FIRST_TOKEN + chosen, logprobs, request, shares[chosen]))
            if tokens[-1].token_id in request.stop_tokens:
                reason = "stop"
                break
            text += tokens[-1].text
            text, stop = cut(text, request.stop)
            reason = "stop" if stop else reason
        spent = Clock.elapsed() - began
        return Generation(
            tokens,
            text,
            "stop" if reason == "stop" else "length",
            self._echoed(request, logprobs),
            {"server-processing-time": spent, "prompt-tokens": len(request.prompt), "cached-prompt-tokens": 0},
            stop,
        )

    def encode(self, text: str) -> list[int]:
        if len(text) > self._context:
            raise BackendError(too_long(len(text), self._context, " characters"))
        return [ord(letter) for letter in text]

    def expand(self, prompt: Sequence[int], images: Sequence[bytes]) -> list[int]:
        raise BackendError(NO_IMAGES)

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(_letter, tokens))

    @property
    def chat_template(self) -> str:
        return ""  # it writes roles and contents, and nothing depends on more

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        settings: Mapping[str, Any] | None = None,
        begun: str = "",
    ) -> list[int]:
        said = "".join(f"{message['role']}: {message.get('content') or ''}\n" for message in messages)
        return self.encode(said + (f"assistant: {begun}" if begun else ""))

    def fingerprint(self) -> str:
        return files.pack(self._weights).hex()

    def close(self) -> None:
        """Give nothing back: nothing is open."""

    def _limit(self, request: GenerateRequest) -> int:
        length, wanted = len(request.prompt), request.max_tokens
        if not length:
            raise BackendError("the prompt is empty: give at least one token")
        if length > self._context:
            raise BackendError(too_long(length, self._context))
        if request.whole and length + wanted > self._context:
            raise BackendError(
                f"the prompt has {length} tokens and max_tokens is {wanted}, the context length is {self._context}: "
                "ask for fewer"
            )
        return min(wanted, self._context - length)

    def _echoed(self, request: GenerateRequest, logprobs: Sequence[float]) -> list[GeneratedToken]:
        if not request.echo and request.echo_last is None:
            return []
        last = len(request.prompt) if request.echo_last is None else request.echo_last
        shown = request.prompt[max(0, len(request.prompt) - last) :]
        return [self._token(token, logprobs, request, None) for token in shown]

    def _token(
        self, token: int, logprobs: Sequence[float], request: GenerateRequest, share: float | None
    ) -> GeneratedToken:
        best = sorted(((FIRST_TOKEN + k, lp) for k, lp in enumerate(logprobs)), key=lambda pair: -pair[1])
        sampled = math.log(share) if share else None
        top = best[: request.top_logprobs]
        return GeneratedToken(token, _letter(token), logprobs[token % files.SIZE], sampled, top)


def recite(result: Generation, stops: Sequence[str], tell: Tell) -> None:
    """Tell a finished generation token by token, with the text that can be shown so far."""
    for token, text in spoken(result, stops):
        tell(token, text)


def spoken(result: Generation, stops: Sequence[str]) -> list[tuple[Sequence[GeneratedToken], str]]:
    """The news to tell: the echoed prompt, then each token with the text that no stop string can take back."""
    news: list[tuple[Sequence[GeneratedToken], str]] = []
    if result.prompt_tokens:
        news.append((result.prompt_tokens, "".join(token.text for token in result.prompt_tokens)))
    drawn, shown = "", 0
    for token in result.tokens:
        drawn += token.text
        known = min(len(result.text), len(drawn) - _held_back(drawn, stops))
        news.append(([token], drawn[shown:known]))
        shown = max(shown, known)
    return news


def _held_back(text: str, stops: Sequence[str]) -> int:
    """The number of last characters that may be the beginning of a stop string."""
    longest = max((len(stop) for stop in stops), default=0)
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0


def _shaped(logprobs: Sequence[float], request: GenerateRequest, drawn: Sequence[int]) -> list[float]:
    """Scores after biases and penalties, in the order of the backend with real models."""
    scores = []
    for token, score in enumerate(logprobs, FIRST_TOKEN):
        score += request.logit_bias.get(token, 0.0)
        if request.repetition_penalty != 1 and (token in drawn or token in request.prompt):
            score = score * request.repetition_penalty if score < 0 else score / request.repetition_penalty
        if times := drawn.count(token):
            score -= request.frequency_penalty * times + request.presence_penalty
        scores.append(score)
    return scores


def _typical(kept: Sequence[int], shares: Sequence[float], mass: float) -> list[int]:
    """The tokens of `kept` whose surprise is nearest to the entropy, until they hold `mass`."""
    total = math.fsum(shares[k] for k in kept)
    surprise = {k: -math.log(shares[k] / total) for k in kept if shares[k] > 0}
    entropy = math.fsum(shares[k] / total * value for k, value in surprise.items())
    chosen: list[int] = []
    for k in sorted(surprise, key=lambda k: (abs(surprise[k] - entropy), k)):
        chosen.append(k)
        if math.fsum(shares[k] for k in chosen) >= mass * total:
            break
    return chosen


def _shares(logprobs: Sequence[float], request: GenerateRequest) -> list[float]:
    """The distribution that is drawn from: temperature, top_k, top_p, min_p, typical_p, each over what is left."""
    order = sorted(range(len(logprobs)), key=lambda k: (-logprobs[k], k))
    if request.temperature == 0:
        return [float(k == order[0]) for k in range(len(logprobs))]
    scaled = softmax([lp / request.temperature for lp in logprobs])
    kept = order[: request.top_k or len(order)]
    mass, total = 0.0, math.fsum(scaled[k] for k in kept)
    chosen: list[int] = []
    for k in kept:
        if chosen and request.top_p < 1 and mass >= request.top_p * total:
            break
        chosen.append(k)
        mass += scaled[k]
    if request.min_p > 0:
        chosen = [k for k in chosen if scaled[k] >= request.min_p * scaled[chosen[0]]]
    if request.typical_p < 1:
        chosen = _typical(chosen, scaled, request.typical_p)
    mass = math.fsum(scaled[k] for k in chosen)
    return [scaled[k] / mass if k in chosen else 0.0 for k in range(len(logprobs))]


def _draw(shares: Sequence[float], chance: float) -> int:
    """The index at which the distribution function passes `chance`, in [0, 1)."""
    reached = 0.0
    for k, share in enumerate(shares):
        reached += share
        if share and chance < reached:
            return k
    return max(k for k, share in enumerate(shares) if share)


def _chance(request: GenerateRequest, at: int) -> float:
    """A number in [0, 1) that follows from the seed, the prompt and the place."""
    told = f"{request.seed}/{at}/{','.join(map(str, request.prompt))}".encode()
    return int.from_bytes(hashlib.blake2b(told, digest_size=6).digest()) / (1 << 48)


def _letter(token: int) -> str:
    """The character that a token id numbers, where there is one that text may hold."""
    return chr(token) if 0 <= token < 0xD800 or 0xDFFF < token < 0x110000 else _UNKNOWN
