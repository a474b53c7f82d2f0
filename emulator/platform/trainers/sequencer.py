"""Runs the operations of one trainer: serially, each model's in `seq_id` order however they arrive (WIRE 2.7).

`(model_id, seq_id)` is the idempotency key: the SDK resends a call whose reply was lost, and a second optimizer step
would go unnoticed (FAILURES F13).
"""

import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from emulator.core import own_warnings, threads
from emulator.core.clock import Clock
from emulator.core.errors import InvalidArgument
from emulator.platform.trainers.futures import Promise

GAP_S = 1.5
REMEMBER = 20_000


@dataclass(order=True)
class Operation:
    """One accepted call. `arrival` orders calls of different models; `seq` is None for calls outside the sequence."""

    arrival: int
    seq: int | None = field(compare=False)
    promise: Promise = field(compare=False)
    run: Callable[[], None] = field(compare=False)


@dataclass
class Lane:
    """One model's calls: what came, what may run next, when something last happened."""

    due: int = 1
    moved: float = 0.0
    waiting: list[tuple[int, Operation]] = field(default_factory=list)
    """A heap by `seq_id`, then arrival: where nothing is de-duplicated a number comes twice, and both calls run."""
    seen: dict[int, tuple[bytes, Promise]] = field(default_factory=dict)

    def head(self) -> Operation | None:
        return self.waiting[0][1] if self.waiting else None


class Sequencer:
    """A worker thread with a reorder buffer per model."""

    def __init__(self, name: str, clock: Clock, *, gap_s: float = GAP_S) -> None:
        self._clock = clock
        self._gap_s = gap_s
        self._lanes: dict[str, Lane] = {}
        self._loose: list[Operation] = []
        self._arrivals = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=own_warnings.apart(self._work), name=f"trainer-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def recall(self, model_id: str, seq: int, fingerprint: bytes) -> Promise | None:
        """The promise given to the same call before; raises InvalidArgument when the number meant something else."""
        with self._changed:
            lane = self._lanes.get(model_id)
            known = lane.seen.get(seq) if lane else None
        if known is None:
            return None
        if known[0] != fingerprint:
            raise InvalidArgument(f"sequence number was reused: seq_id {seq} of model {model_id!r} was another request")
        return known[1]

    def submit(
        self, promise: Promise, run: Callable[[], None], *, seq: int | None = None, fingerprint: bytes = b""
    ) -> None:
        """Accept a call; without `seq` it runs in order of arrival. Returns at once."""
        with self._changed:
            self._arrivals += 1
            operation = Operation(self._arrivals, seq, promise, run)
            if seq is None:
                self._loose.append(operation)
            else:
                lane = self._lanes.setdefault(promise.model_id, Lane())
                lane.moved = self._clock.elapsed()
                heapq.heappush(lane.waiting, (seq, operation))
                lane.seen[seq] = (fingerprint, promise)
                if len(lane.seen) > REMEMBER:
                    del lane.seen[next(iter(lane.seen))]
            self._changed.notify()

    def forget(self, model_id: str) -> None:
        """Start the model's numbering afresh (FAILURES F12)."""
        with self._changed:
            self._lanes.pop(model_id, None)

    def close(self) -> list[Promise]:
        """Stop after the call that runs now; returns the promises of those that never will."""
        with self._changed:
            self._closed = True
            left = [op.promise for lane in self._lanes.values() for _, op in sorted(lane.waiting)]
            left += [operation.promise for operation in self._loose]
            self._lanes.clear()
            self._loose.clear()
            self._changed.notify()
        threads.outlast(self._thread)
        return left

    def join(self, timeout: float) -> None:
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _work(self) -> None:
        while (operation := self._next()) is not None:
            own_warnings.in_front()
            operation.run()
            with self._changed:
                lane = self._lanes.get(operation.promise.model_id)
                if lane is not None:
                    lane.moved = self._clock.elapsed()

    def _next(self) -> Operation | None:
        """The runnable call that arrived first; waits for one, None when closed."""
        with self._changed:
            while not self._closed:
                now = self._clock.elapsed()
                ready = [op for lane in self._lanes.values() if (op := self._runnable(lane, now)) is not None]
                if self._loose:
                    ready.append(self._loose[0])
                if ready:
                    return self._take(min(ready))
                self._changed.wait(self._patience(now))
            return None

    def _runnable(self, lane: Lane, now: float) -> Operation | None:
        """The lowest call if its turn has come, or if its predecessors seem lost (a gap, WIRE 2.7)."""
        head = lane.head()
        if head is None or head.seq is None:
            return None
        return head if head.seq <= lane.due or now >= lane.moved + self._gap_s else None

    def _patience(self, now: float) -> float | None:
        gaps = [lane.moved + self._gap_s - now for lane in self._lanes.values() if lane.waiting]
        return max(0.0, min(gaps)) if gaps else None

    def _take(self, operation: Operation) -> Operation:
        if operation.seq is None:
            self._loose.pop(0)
        else:
            lane = self._lanes[operation.promise.model_id]
            heapq.heappop(lane.waiting)
            lane.due = max(lane.due, operation.seq + 1)
        return operation
