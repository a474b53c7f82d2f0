"""Requests at an engine: queued there, told token by token, ended here by the rules of the sampler torch."""

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from emulator.backend import (
    BackendError,
    GeneratedToken,
    GenerateRequest,
    Generation,
    ReplicaClosed,
    Tell,
    Transition,
)
from emulator.core import own_warnings
from ftsim.compute.sampler.row import Row, check, generation, why_ended
from ftsim.compute.sampler.text import IncrementalText, TokenDecoder
from ftsim.compute.vllm.asked import asked, refuse
from ftsim.compute.vllm.process import EngineProcess


@dataclass(frozen=True)
class Texts:
    """Facts of a model that the engine is not asked: what tokens say, which finish a turn, sizes in tokens.

    `served` numbers all requests of the replica: the seeds of those that have none.
    """

    decoder: TokenDecoder
    ends: frozenset[int]
    context: int
    vocabulary: int
    served: "itertools.count[int]" = field(default_factory=itertools.count)


class Engine:
    """A process and the requests that it has, from `generate` to their answer.

    It ends a row at a token; at a string the row ends here, and it is told. So both samplers have one rule.
    """

    def __init__(self, texts: Texts, opening: Mapping[str, Any], place: Path) -> None:
        """Start it; raises `BackendError`."""
        self._texts = texts
        self._rows: dict[str, Row] = {}
        self._ids = itertools.count()
        self._emptied = threading.Condition()
        self._gone: BackendError | None = None
        self._process = EngineProcess(opening, place, self._hear, self._lose)

    def load(self, kind: str, folder: Path, transition: Transition) -> None:
        """Serve weights or an adapter, between two steps or (SYNC) once nothing runs; raises `BackendError`."""
        self._process.load(kind, folder, drain=transition == "SYNC")

    def generate(self, request: GenerateRequest, tell: Tell | None) -> "Future[Generation]":
        """Queue a request; raises `BackendError` for one that is not answered."""
        texts = self._texts
        check(request, texts.context, texts.vocabulary, routers=False)
        refuse(request)
        text = None
        if tell is not None:
            text = IncrementalText(texts.decoder.text, request.stop, texts.ends.union(request.stop_tokens))
        future: Future[Generation] = Future()
        limit = min(request.max_tokens, texts.context - len(request.prompt))
        with self._emptied:
            if self._gone is not None:
                raise self._gone
            served = next(texts.served)
            seed = served if request.seed is None else request.seed
            row = Row(request, future, Random(seed), limit, time.perf_counter(), len(self._rows) + 1, tell, text)
            self._rows[number := str(next(self._ids))] = row
        if limit < 1 and not row.echoed:
            self._finish(number, row, "length")
            return future
        future.add_done_callback(lambda done: self._leave(number) if done.cancelled() else None)
        self._process.ask({**asked(request, seed, limit, texts.ends, texts.vocabulary), "id": number})
        return future

    def retire(self, transition: Transition) -> None:
        """End the process once it has answered: before this returns where SYNC, else in a thread."""
        if transition == "SYNC":
            with self._emptied:
                self._emptied.wait_for(lambda: not self._rows)
            self.close()
            return
        later = own_warnings.apart(lambda: self.retire("SYNC"))
        threading.Thread(target=later, name="ftsim-vllm-retiring", daemon=True).start()

    def close(self) -> None:
        """End the process, and fail what is left."""
        self._process.close()
        self._lose(ReplicaClosed())

    def _lose(self, error: BackendError) -> None:
        """The process is gone: answer everything that is left."""
        with self._emptied:
            self._gone = self._gone or error
            left = list(self._rows.items())
        for number, row in left:
            self._fail(number, row, error)

    def _hear(self, message: Mapping[str, Any]) -> None:
        """Take what the process says of a request."""
        with self._emptied:
            row = self._rows.get(number := message["id"])
        if row is None:  # its end was found here already
            return
        if "failed" in message:
            self._fail(number, row, BackendError(f"generation failed: {message['failed']}", "server"))
            return
        row.prefill_started = row.prefill_started or row.arrived
        row.prefilled = row.prefilled or time.perf_counter()
        if message.get("prompt"):
            self._echo(row, message["prompt"])
        for token, logprob, sampling, top in message["tokens"]:
            if reason := self._take(row, token, logprob, sampling, top):
                if not message["done"]:
                    self._process.ask({"op": "abort", "id": number})
                self._finish(number, row, reason)
                return
        if message["done"]:
            self._finish(number, row, "length")

    def _echo(self, row: Row, entries: Sequence[Sequence[tuple[int, float]]]) -> None:
        """Tell of prompt tokens; the first of a prompt has no condition: 0.0 (WIRE 3.1)."""
        wanted, prompt = row.request.top_logprobs, list(row.request.prompt)
        told = [GeneratedToken(prompt[0], "", 0.0, None, [(prompt[0], 0.0)] if wanted else [])]
        for entry in entries[1:]:
            (token, logprob), likeliest = entry[0], entry[1 : 1 + wanted]
            told.append(GeneratedToken(token, "", logprob, None, [(one, value) for one, value in likeliest]))
        row.prompt_rows = [self._texts.decoder.named(one) for one in told[len(told) - row.echoed :]]
        if row.tell is not None:
            row.tell(row.prompt_rows, self._texts.decoder.text([one.token_id for one in row.prompt_rows]))

    def _take(self, row: Row, token: int, logprob: float, sampling: float, top: Sequence[tuple[int, float]]) -> str:
        """Add a token to a row; says why the row ends with it, "" if it does not."""
        if row.limit < 1:  # drawn since the engine draws always; the prompt was what was asked for
            return "length"
        text, raw = self._texts.decoder.piece(token)
        new = GeneratedToken(token, text, logprob, sampling, [(one, value) for one, value in top], raw)
        row.tokens.append(new)
        row.first = row.first or time.perf_counter()
        if row.tell is not None and row.text is not None and not row.cancelled:
            row.tell([new], row.text.add(token))
        return why_ended(row, token, self._texts.decoder, self._texts.ends)

    def _finish(self, number: str, row: Row, reason: str) -> None:
        row.prefilled = row.prefilled or time.perf_counter()
        self._forget(number)
        if row.future.set_running_or_notify_cancel():
            row.future.set_result(generation(row, reason, self._texts.decoder, self._texts.ends))

    def _fail(self, number: str, row: Row, error: BackendError) -> None:
        self._forget(number)
        if not row.future.done() and row.future.set_running_or_notify_cancel():
            row.future.set_exception(error)

    def _leave(self, number: str) -> None:
        """Nobody waits for a request any more."""
        self._forget(number)
        self._process.ask({"op": "abort", "id": number})

    def _forget(self, number: str) -> None:
        with self._emptied:
            self._rows.pop(number, None)
            self._emptied.notify_all()
