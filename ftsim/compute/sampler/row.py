"""A request on its way through the engine: what is known of it, who it shares steps with, what is told in the end."""

import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from emulator.backend import BackendError, GeneratedToken, GenerateRequest, Generation, Tell
from emulator.core.answer_format import cut
from emulator.core.errors import too_long
from ftsim.compute.images.pixels import Picture
from ftsim.compute.models.routing import Routers
from ftsim.compute.sampler.forward import Batch, Forward
from ftsim.compute.sampler.sampling import Settings, choose, likeliest, wide
from ftsim.compute.sampler.shaping import Shaper
from ftsim.compute.sampler.text import IncrementalText, TokenDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_PREFILL = 8192
"""Padded positions of prompts that are computed together."""


@dataclass
class Row:
    """All that the engine knows of one request; `tell` hears of its tokens as they come, with what `text` gives out."""

    request: GenerateRequest
    future: "Future[Generation]"
    random: Random
    limit: int
    """Tokens that may be generated before the context is full or max_tokens is reached."""
    arrived: float
    crowd: int
    tell: Tell | None = None
    text: IncrementalText | None = None
    shaper: Shaper | None = None
    pictures: Sequence[Picture] = ()
    tokens: list[GeneratedToken] = field(default_factory=list)
    prompt_rows: list[GeneratedToken] = field(default_factory=list)
    shared: bool = False
    cached: int = 0
    """Positions of the prompt that were kept from an earlier request."""
    prefill_started: float = 0.0
    prefilled: float = 0.0
    first: float = 0.0
    cancelled: bool = False
    """True once nobody waits for the answer any more; asking the future takes a lock, for every token."""

    def __post_init__(self) -> None:
        self.future.add_done_callback(self._note)

    def _note(self, future: "Future[Generation]") -> None:
        self.cancelled = future.cancelled()

    @property
    def echoed(self) -> int:
        """The number of last tokens of the prompt that are told."""
        if self.request.echo_last is not None:
            return max(0, min(self.request.echo_last, len(self.request.prompt)))
        return len(self.request.prompt) if self.request.echo else 0

    @property
    def tail(self) -> int:
        """The number of last tokens that can hold a stop string which ends in the newest one."""
        return max((len(stop.encode()) for stop in self.request.stop), default=0) + 4

    def metrics(self) -> dict[str, float]:
        """Measured seconds and counts, by the names of WIRE 3.1."""
        now = time.perf_counter()
        return {
            "num-concurrent-requests": self.crowd,
            "prefill-queue-duration": self.prefill_started - self.arrived,
            "prefill-duration": self.prefilled - self.prefill_started,
            "generation-queue-duration": 0.0,
            "generation-duration": now - self.prefilled,
            "server-time-to-first-token": (self.first or now) - self.arrived,
            "server-processing-time": now - self.arrived,
            "prompt-tokens": len(self.request.prompt),
            "cached-prompt-tokens": len(self.request.prompt) if self.shared else self.cached,
        }


@dataclass
class Swap:
    """Another model to serve; `model` None keeps the one there is and gives its weights other `values`."""

    model: "PreTrainedModel | None"
    values: Sequence[tuple[Tensor, Tensor]]
    done: "Future[None]"
    drain: bool

    def apply(self, forward: Forward) -> Forward:
        """Carry it out, between two steps of `forward`; gives what serves from now on."""
        after = forward if self.model is None else Forward(self.model)
        if after is not forward:
            after.same_family(forward)
        for weight, value in self.values:
            weight.data = value
        self.done.set_result(None)
        return after


@dataclass(eq=False)
class Running:
    """Rows that are stepped together, in the order of their batch."""

    batch: Batch
    rows: list[Row]
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = settings_of(self.rows)

    def select(self, kept: Sequence[int]) -> None:
        """Keep these rows, in this order."""
        self.batch.select(kept)
        self.rows = [self.rows[index] for index in kept]
        self.settings = settings_of(self.rows)

    def join(self, other: "Running") -> None:
        """Take the rows of `other` in, behind those that are there."""
        self.batch.join(other.batch)
        self.rows += other.rows
        self.settings = settings_of(self.rows)


def prompt_groups(rows: Sequence[Row], *, together: bool) -> list[list[list[Row]]]:
    """Rows of equal prompts stand together, shortest prompt first, in groups that are computed at once.

    A group has at most `MAX_PREFILL` padded positions, and a single prompt unless rows may be computed `together`. A
    prompt with images is a group of its own.
    """
    alike: dict[tuple[tuple[int, ...], tuple[bytes, ...]], list[Row]] = {}
    for row in rows:
        alike.setdefault((tuple(row.request.prompt), tuple(row.request.images)), []).append(row)
    found: list[list[list[Row]]] = []
    seeing = False
    for prompt, images in sorted(alike, key=lambda one: (bool(one[1]), len(one[0]))):
        seeing = seeing or bool(images)
        if not found or not together or seeing or (len(found[-1]) + 1) * len(prompt) > MAX_PREFILL:
            found.append([])
        found[-1].append(alike[prompt, images])
    return found


def echo(row: Row, blocks: Iterable[Tensor]) -> list[GeneratedToken]:
    """One entry per echoed prompt token, yet without text; the first of a prompt has no condition: 0.0 (WIRE 3.1).

    `blocks` are the logits (T, V) from which the echoed tokens follow, in order.
    """
    prompt, wanted = list(row.request.prompt), row.request.top_logprobs
    entries: list[GeneratedToken] = []
    at = len(prompt) - row.echoed
    if row.echoed and at == 0:
        alone = [(prompt[0], 0.0)] if wanted else []  # a row without any voids the column (WIRE 3.1)
        entries.append(GeneratedToken(prompt[0], "", 0.0, None, alone))
        at = 1
    for block in blocks:
        tokens = prompt[at : at + len(block)]
        logits = wide(block).cpu()
        logprobs = torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens)[:, None])[:, 0].float().tolist()
        tops = likeliest(logits, wanted) or [[] for _ in tokens]
        entries += [GeneratedToken(t, "", lp, None, top) for t, lp, top in zip(tokens, logprobs, tops, strict=True)]
        at += len(tokens)
    return entries


def shape(logits: Tensor, rows: Sequence[Row]) -> tuple[Tensor | None, dict[int, BackendError]]:
    """The logits (B, V) that are drawn from, None where they are the model's own; and what went wrong, by row."""
    if not any(row.shaper for row in rows):
        return None, {}
    shaped, failed = logits.clone(), dict[int, BackendError]()
    for index, row in enumerate(rows):
        if row.shaper is not None:
            try:
                shaped[index] = row.shaper.apply(logits[index])
            except BackendError as error:
                failed[index] = error
    return shaped, failed


def draw(
    running: Running, logits: Tensor, decoder: TokenDecoder
) -> tuple[list[GeneratedToken], dict[int, BackendError]]:
    """A token for each row from `logits` (B, V); and what went wrong, by row."""
    rows, logits = running.rows, wide(logits).cpu()
    uniforms = torch.tensor([row.random.random() for row in rows], dtype=torch.float64)
    shaped, failed = shape(logits, rows)
    choice = choose(logits, running.settings, uniforms, shaped)
    tops = likeliest(logits, max(row.request.top_logprobs for row in rows))
    found = []
    drawn = zip(choice.tokens.tolist(), choice.logprobs.tolist(), choice.sampling_logprobs.tolist(), strict=True)
    for index, (row, (token, logprob, sampling)) in enumerate(zip(rows, drawn, strict=True)):
        text, raw = decoder.piece(token)
        top = tops[index][: row.request.top_logprobs] if tops else ()
        found.append(GeneratedToken(token, text, logprob, sampling, top, raw))
    return found, failed


def routed(tokens: Sequence[GeneratedToken], routes: Sequence[Tensor | None], routers: Routers) -> list[GeneratedToken]:
    """The tokens, each with the experts (layers, chosen) of the position that it follows from."""
    return [
        token if route is None or routers.shape is None else replace(token, routing=routers.shape.pack(route))
        for token, route in zip(tokens, routes, strict=True)
    ]


def why_ended(row: Row, token: int, decoder: TokenDecoder, ends: Collection[int]) -> str:
    """Say why the row ends with the token that was just drawn, "" if it does not."""
    complete = row.shaper is not None and row.shaper.take(token)
    if complete or (token in ends and not row.request.ignore_eos) or token in row.request.stop_tokens:
        return "stop"
    if row.request.stop:
        text = decoder.text([token.token_id for token in row.tokens[-row.tail :]])
        if any(stop in text for stop in row.request.stop):
            return "stop"
    return "length" if len(row.tokens) >= row.limit else ""  # also when the context is full


def generation(row: Row, reason: str, decoder: TokenDecoder, ends: Collection[int]) -> Generation:
    """Give what a finished row answers; its text ends before what stopped it."""
    ids = [token.token_id for token in row.tokens]
    spoken = ids[:-1] if ids and (ids[-1] in ends or ids[-1] in row.request.stop_tokens) else ids
    text, stop = cut(decoder.text(spoken), row.request.stop)
    why: Literal["stop", "length"] = "stop" if reason == "stop" else "length"
    return Generation(row.tokens, text, why, row.prompt_rows, row.metrics(), stop)


def settings_of(rows: Sequence[Row]) -> Settings:
    """The settings of rows that are stepped together."""
    return Settings(
        torch.tensor([row.request.temperature for row in rows], dtype=torch.float32),
        torch.tensor([row.request.top_p for row in rows], dtype=torch.float32),
        torch.tensor([row.request.top_k for row in rows], dtype=torch.long),
        torch.tensor([row.request.min_p for row in rows], dtype=torch.float32),
        torch.tensor([row.request.typical_p for row in rows], dtype=torch.float32),
    )


def check(request: GenerateRequest, context: int, vocabulary: int, *, routers: bool) -> None:
    """Refuse, with `BackendError`, what does not fit a model of this context length and vocabulary, in tokens."""
    prompt = request.prompt
    if not prompt:
        raise BackendError("the prompt is empty: give at least one token")
    if len(prompt) > context:
        raise BackendError(too_long(len(prompt), context))
    if not all(0 <= token < vocabulary for token in prompt):
        raise BackendError(f"the prompt holds token ids outside [0, {vocabulary})")
    if request.whole and len(prompt) + request.max_tokens > context:
        raise BackendError(
            f"the prompt has {len(prompt)} tokens and max_tokens is {request.max_tokens}, the context length is "
            f"{context}: ask for fewer, or send context_length_exceeded_behavior truncate"
        )
    if not all(0 <= token < vocabulary for token in request.logit_bias):
        raise BackendError(f"logit_bias names token ids outside [0, {vocabulary})")
    if request.routing and not routers:
        raise BackendError("include_routing_matrix: this model has no routers, or some of unlike shapes")
