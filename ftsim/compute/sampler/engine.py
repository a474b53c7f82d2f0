"""A generation engine: one thread that batches whatever requests there are; they join and leave between decoding steps.

A row's tokens depend on its prompt, its settings, its seed and the weights, not on the rows it shares a step with, as
far as float32 matrix products allow; `precision` says where they are the same to the last bit. A family of models whose
rows cannot be computed together is stepped row by row.
"""

import copy
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from emulator.backend import BackendError, GenerateRequest, Generation, ReplicaClosed, Tell, Transition
from emulator.core import own_warnings
from ftsim.compute.sampler.embedding import Embeddings, check_size
from ftsim.compute.sampler.eyes import BLIND, Eyes
from ftsim.compute.sampler.forward import Batch, Forward
from ftsim.compute.sampler.pieces import Begun, apart
from ftsim.compute.sampler.prefixes import KeptPrefixes
from ftsim.compute.sampler.row import (
    Row,
    Running,
    Swap,
    check,
    draw,
    echo,
    generation,
    prompt_groups,
    routed,
    why_ended,
)
from ftsim.compute.sampler.shaping import Formats, shaper
from ftsim.compute.sampler.text import IncrementalText, TokenDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_ROWS = 256
CACHE_POSITIONS = 1 << 21
"""Positions (rows times the longest row) beyond which requests wait."""


class Sampler:
    """Serves `generate` on a model until `close`; `swap` replaces the model while requests are in flight."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        ends: Sequence[int],
        context: int,
        eyes: Eyes = BLIND,
    ) -> None:
        """`ends` are the token ids that finish a turn; `context` is the longest prompt plus completion, in tokens."""
        self._forward = Forward(model)
        self._eyes = eyes
        self._decoder = TokenDecoder(tokenizer)
        self._ends = frozenset(ends)
        self._formats = Formats(tokenizer, self._forward.vocabulary, ends)
        self._context = context
        self._changed = threading.Condition()
        self._waiting: deque[Row] = deque()
        self._swaps: deque[Swap] = deque()
        self._closed = False
        self._served = 0
        self._kept = KeptPrefixes()
        self._embeddings = Embeddings()
        self._joining: list[Row] = []
        """Neither waiting nor running: a prefill that fails must still answer them."""
        self._begun: list[Begun] = []
        self._running: list[Running] = []
        """One for families that are computed together, else one per row."""
        self._thread = threading.Thread(target=own_warnings.apart(self._run), name="ftsim-sampler", daemon=True)
        self._thread.start()

    def generate(self, request: GenerateRequest, tell: Tell | None = None) -> "Future[Generation]":
        """Queue a request; raises `BackendError` for a prompt that does not fit the model.

        `tell` is called from the engine's thread, between two decoding steps.
        """
        check(request, self._context, self._forward.vocabulary, routers=self._forward.routers.shape is not None)
        request, pictures = self._eyes.look(request)
        shaping = shaper(request, self._formats)
        ends = self._ends.union(request.stop_tokens)
        text = None if tell is None else IncrementalText(self._decoder.text, request.stop, ends)
        future: Future[Generation] = Future()
        with self._changed:
            if self._closed:
                raise ReplicaClosed()
            seed = self._served if request.seed is None else request.seed
            self._served += 1
            limit = min(request.max_tokens, self._context - len(request.prompt))
            place = self._count + len(self._waiting) + 1
            row = Row(request, future, Random(seed), limit, time.perf_counter(), place, tell, text, shaping, pictures)
            self._waiting.append(row)
            self._changed.notify()
        return future

    def embed(self, prompt: Sequence[int], size: int = 0) -> "Future[Sequence[float]]":
        """Queue a prompt for its vector (`embedding`); raises `BackendError` for what does not fit the model."""
        check(GenerateRequest(prompt), self._context, self._forward.vocabulary, routers=False)
        check_size(size, self._forward.width)
        with self._changed:
            if self._closed:
                raise ReplicaClosed()
            self._changed.notify()
            return self._embeddings.ask(prompt, size)

    def swap(self, model: "PreTrainedModel", transition: Transition) -> None:
        """Serve `model` from now on; returns when it does.

        ASYNC swaps between two decoding steps and keeps the cache; SYNC lets running requests finish (FAILURES E24).
        """
        self._exchange(Swap(model, (), Future(), transition == "SYNC"))

    def refill(self, values: Sequence[tuple[Tensor, Tensor]], transition: Transition) -> None:
        """As `swap`, with other values for the weights of the same model: pairs alike in shape, type and device."""
        self._exchange(Swap(None, values, Future(), transition == "SYNC"))

    def _exchange(self, swap: Swap) -> None:
        with self._changed:
            if self._closed:
                raise ReplicaClosed()
            self._swaps.append(swap)
            self._changed.notify()
        swap.done.result()

    def close(self) -> None:
        """Fail what is unfinished and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with torch.inference_mode():
            while self._wait():
                own_warnings.in_front()
                try:
                    self._swap_if_due()
                    self._embeddings.advance(self._forward)
                    self._admit()
                    self._advance()
                    self._step()
                except Exception as error:  # the thread outlives whatever one batch does to it
                    self._fail(BackendError(f"generation failed: {error}", "server"))
        self._fail(ReplicaClosed())

    @property
    def _count(self) -> int:
        """The number of rows that take steps, or will once their prompt is computed."""
        return sum(len(running.rows) for running in self._running) + sum(len(begun.rows) for begun in self._begun)

    def _wait(self) -> bool:
        with self._changed:
            while not (
                self._closed or self._running or self._begun or self._waiting or self._swaps or self._embeddings
            ):
                self._changed.wait()
            return not self._closed

    def _fail(self, error: BackendError) -> None:
        with self._changed:
            rows = [row for running in self._running for row in running.rows]
            rows += [row for begun in self._begun for row in begun.rows] + self._joining
            swaps = list[Swap]()
            self._joining, self._running, self._begun = [], [], []
            if self._closed:
                rows, swaps = [*rows, *self._waiting], list(self._swaps)
                self._embeddings.fail(error)
        for row in rows:
            if not row.future.done() and row.future.set_running_or_notify_cancel():
                row.future.set_exception(error)
        for swap in swaps:
            swap.done.set_exception(error)

    def _swap_if_due(self) -> None:
        while self._swaps and not (self._swaps[0].drain and (self._running or self._begun)):
            self._forward = self._swaps.popleft().apply(self._forward)

    def _admit(self) -> None:
        """Take waiting requests in, as many as fit; while one waits for the drain, none."""
        joined: list[Row] = []
        with self._changed:
            if self._swaps:
                return
            count = self._count
            lengths = [running.batch.columns for running in self._running]
            longest = max(lengths + [len(begun.prompt) for begun in self._begun], default=0)
            while self._waiting and count + len(joined) < MAX_ROWS:
                if self._waiting[0].future.cancelled():
                    self._waiting.popleft()
                    continue
                longest = max(longest, len(self._waiting[0].request.prompt) + 64)
                rows = count + len(joined) + 1
                if rows > 1 and rows * longest > CACHE_POSITIONS:
                    break
                joined.append(self._waiting.popleft())
        self._joining = joined
        together = count + len(joined) > 1 and self._forward.together
        for row in joined:
            if row.request.prefix:
                self._prefill_kept(row)
        for group in prompt_groups([row for row in joined if not row.request.prefix], together=together):
            long, rest = apart(group) if self._forward.in_pieces else ([], group)
            self._begun += map(Begun, long)
            if rest:
                self._prefill(rest)
        self._joining = []

    def _advance(self) -> None:
        """Compute a piece of the prompt that was begun first."""
        while self._begun and all(row.cancelled for row in self._begun[0].rows):
            self._begun.pop(0)
        if not self._begun:
            return
        begun, self._forward.noting = self._begun[0], False
        if (logits := begun.advance(self._forward)) is not None:
            begun.batch.select([0] * len(begun.rows))
            self._start(begun.batch, begun.rows, logits.expand(len(begun.rows), -1), None)
            self._begun.pop(0)  # last: whatever fails must still answer its rows

    def _prefill(self, group: list[list[Row]]) -> None:
        """Run the prompts of a group (equal prompts stand together and are computed once) and draw first tokens."""
        started = time.perf_counter()
        prompts = [rows[0].request.prompt for rows in group]
        told = max(row.echoed for rows in group for row in rows)
        keep = min(told + 1, max(1, self._forward.positions_at_once // len(prompts)))
        self._forward.noting = any(row.request.routing for rows in group for row in rows)
        batch, logits = self._forward.prefill(prompts, keep, self._eyes.seen(group[0][0], self._forward.device))
        routes = self._forward.routes if self._forward.noting else None  # (B, T, layers, chosen)
        joined: list[Row] = []
        places: list[int] = []
        for index, rows in enumerate(group):
            for order, row in enumerate(rows):
                row.prefill_started, row.prefilled, row.shared = started, time.perf_counter(), order > 0
                self._echo(row, logits[index], None if routes is None else routes[index])
                if row.limit < 1:
                    self._finish(row, "length")
                else:
                    joined.append(row)
                    places.append(index)
        if not joined:
            return
        first = logits[:, -1][torch.tensor(places, device=logits.device)]
        chosen = None if routes is None else routes[:, -1][places]
        if len(joined) == 1 or self._forward.together:
            batch.select(places)
            self._start(batch, joined, first, chosen)
            return
        for at, row in enumerate(joined):
            one = copy.deepcopy(batch) if len(joined) > 1 else batch
            self._start(one, [row], first[at : at + 1], None if chosen is None else chosen[at : at + 1])

    def _prefill_kept(self, row: Row) -> None:
        """Run what a prompt has beyond the positions that are kept under its scope, by whatever weights these are."""
        found, prompt = self._kept.find(row.request.prefix, row.request.prompt), row.request.prompt
        if found is None or row.limit < 1:
            self._prefill([[row]])
            return
        row.prefill_started = time.perf_counter()
        batch, row.cached = found
        self._forward.noting = row.request.routing
        for token in prompt[row.cached :]:
            logits = self._forward.step(batch, torch.tensor([token]))
        row.prefilled = time.perf_counter()
        routes = self._forward.routes if self._forward.noting else None
        self._echo(row, logits, routes if routes is None else routes[0])
        self._start(batch, [row], logits, None if routes is None else routes[:, -1])

    def _echo(self, row: Row, logits: Tensor, routes: Tensor | None) -> None:
        """Tell of prompt tokens; `logits` (K, V) of the last positions are enough, or the prompt is computed again.

        `routes` (T, layers, chosen) end with the prompt's last position.
        """
        if not row.echoed:
            return
        start = max(0, len(row.request.prompt) - row.echoed - 1)
        needed, seen = len(row.request.prompt) - 1 - start, self._eyes.seen(row, self._forward.device)
        enough = needed < len(logits)
        blocks = [logits[-needed - 1 : -1]] if enough else self._forward.prompt_logits(row.request.prompt, start, seen)
        told = echo(row, blocks)
        if routes is not None and row.request.routing:
            told = routed(told, [None, *routes[-len(row.request.prompt) : -1]][-len(told) :], self._forward.routers)
        row.prompt_rows = [self._decoder.named(token) for token in told]
        if row.tell is not None and row.prompt_rows:
            row.tell(row.prompt_rows, self._decoder.text([token.token_id for token in row.prompt_rows]))

    def _start(self, batch: Batch, rows: list[Row], logits: Tensor, routes: Tensor | None) -> None:
        """Draw the first tokens of `rows`, and let those that go on take steps."""
        running = Running(batch, rows)
        self._running.append(running)
        self._accept(running, logits, routes)
        if running in self._running[1:] and self._forward.together:
            self._running.remove(running)
            self._running[0].join(running)

    def _step(self) -> None:
        """One token for every row."""
        for running in list(self._running):
            tokens = torch.tensor([row.tokens[-1].token_id for row in running.rows])
            self._forward.noting = any(row.request.routing for row in running.rows)
            logits = self._forward.step(running.batch, tokens)
            routes = self._forward.routes if self._forward.noting else None
            self._accept(running, logits, None if routes is None else routes[:, -1])

    def _accept(self, running: Running, logits: Tensor, routes: Tensor | None) -> None:
        """Draw a token for each row from `logits` (B, V), and let go of the rows that are finished.

        `routes` (B, layers, chosen) are the experts of the positions that the logits are of.
        """
        rows = running.rows
        tokens, failed = draw(running, logits, self._decoder)
        now = time.perf_counter()
        finished: set[int] = set()
        for index, (row, new) in enumerate(zip(rows, tokens, strict=True)):
            if routes is not None and row.request.routing:
                (new,) = routed([new], [routes[index]], self._forward.routers)
            row.tokens.append(new)
            row.first = row.first or now
            reason = why_ended(row, new.token_id, self._decoder, self._ends)
            if index in failed:
                finished.add(index)
                if row.future.set_running_or_notify_cancel():
                    row.future.set_exception(failed[index])
                continue
            if row.tell is not None and row.text is not None and not row.cancelled:
                row.tell([new], row.text.add(new.token_id))
            if row.cancelled or reason:
                finished.add(index)
                if row.request.prefix:
                    known = [*row.request.prompt, *(one.token_id for one in row.tokens[:-1])]
                    self._kept.keep(row.request.prefix, known, running.batch, index)
                self._finish(row, reason or "stop")
        if len(finished) == len(rows):
            self._running.remove(running)
        elif finished:
            running.select([index for index in range(len(rows)) if index not in finished])

    def _finish(self, row: Row, reason: str) -> None:
        if row.future.set_running_or_notify_cancel():
            row.future.set_result(generation(row, reason, self._decoder, self._ends))
