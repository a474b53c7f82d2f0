"""Promises: what a submitted operation will answer (WIRE 2.6). Kept after completion: fetching is idempotent."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from emulator.backend import BackendError, Category
from emulator.core.clock import SECOND
from emulator.core.errors import Gone, NotFound, PlatformError
from emulator.core.names import Subject
from emulator.quirks import trainers
from emulator.state.world import World

KEEP_COUNT = 20_000
KEEP_BYTES = 256_000_000
KEEP_GONE = 100_000


class Promise:
    """One operation's answer-to-be; `payload` is JSON once `done`."""

    def __init__(self, request_id: str, owner: str, subject: Subject, model_id: str, verb: str) -> None:
        self.request_id = request_id
        self.owner = owner
        self.subject = subject._replace(endpoint=verb)
        self.model_id = model_id
        self.verb = verb
        self.payload: bytes | None = None
        self.done_at = 0
        self._lock = threading.Lock()
        self._watchers: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        return self.payload is not None

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back once when done, at once if it already is; from whichever thread completes the promise."""
        with self._lock:
            if self.payload is None:
                self._watchers.append(callback)
                return
        callback()

    def unwatch(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._watchers = [watcher for watcher in self._watchers if watcher != callback]

    def wake(self) -> None:
        """Call the watchers back although there is no answer."""
        with self._lock:
            watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher()

    def settle(self, payload: bytes, moment: int) -> bool:
        """Set the answer; false when there already was one."""
        with self._lock:
            if self.payload is not None:
                return False
            self.payload, self.done_at = payload, moment
            watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher()
        return True


class Futures:
    """All promises of an emulator by request id; the oldest answers are dropped when they take too much room."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.Lock()
        self._promises: OrderedDict[str, Promise] = OrderedDict()
        self._bytes = 0
        self._gone: OrderedDict[str, str] = OrderedDict()
        """Owners of answers that were dropped, by request id: they are gone (410), not unknown (404)."""
        self.closing = False

    def open(self, owner: str, subject: Subject, model_id: str, verb: str) -> Promise:
        """Promise an answer to the call of a model's verb; `owner` is the full name of the trainer's job or session."""
        promise = Promise(f"req-{self._world.ids.hex(24)}", owner, subject, model_id, verb)
        with self._lock:
            self._promises[promise.request_id] = promise
        return promise

    def get(self, within: str, request_id: str) -> Promise:
        """A promise to one whose full name, with a slash, begins so; raises NotFound, or Gone for an answer that is
        kept no longer (FAILURES F14).
        """
        promise = self._promises.get(request_id)
        owner = promise.owner if promise else self._gone.get(request_id)
        if owner is None or not f"{owner}/".startswith(within):
            raise NotFound(
                f"request {request_id[:80]!r} not found on this trainer: it was never submitted here, or the trainer "
                "was restarted since; reconnect and load a checkpoint"
            )
        if promise is None:
            raise _gone(request_id)
        self.check(promise)
        return promise

    def check(self, promise: Promise) -> None:
        """Raises Gone for a result that is kept no longer; to be asked again when it was waited for."""
        if not promise.done:
            return
        quirks = self._world.quirks
        ttl = quirks.value(trainers.FUTURES_TTL_S, promise.subject)
        late = ttl > 0 and self._world.clock.since(promise.done_at) > int(ttl * SECOND)
        if late or quirks.spend(trainers.FUTURES_EXPIRE_NEXT, promise.subject):
            self._forget(promise)
            raise _gone(promise.request_id)

    def resolve(self, promise: Promise, result: Mapping[str, Any]) -> None:
        self._settle(promise, orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY))

    def fail(self, promise: Promise, error: BaseException) -> None:
        """Answer with a failure (WIRE 2.6): HTTP 200, `error` and whose fault it was."""
        message, category = error_category(error)
        body = {"error": message, "category": category, "error_class": type(error).__name__}
        self._settle(promise, orjson.dumps(body))

    def interrupt(self) -> None:
        """Wake everybody who waits without answering, from now on at once: the server is going away."""
        self.closing = True
        with self._lock:
            promises = list(self._promises.values())
        for promise in promises:
            promise.wake()

    def clear(self, why: str) -> None:
        """Forget all; whoever waits is told."""
        with self._lock:
            waiting = [promise for promise in self._promises.values() if not promise.done]
            self._promises.clear()
            self._gone.clear()
            self._bytes = 0
        for promise in waiting:
            promise.settle(orjson.dumps({"error": why, "category": "server"}), self._world.clock.now())

    def _settle(self, promise: Promise, payload: bytes) -> None:
        if promise.settle(payload, self._world.clock.now()):
            with self._lock:
                if promise.request_id in self._promises:
                    self._bytes += len(payload)
                    self._trim()

    def _trim(self) -> None:
        while len(self._promises) > KEEP_COUNT or self._bytes > KEEP_BYTES:
            oldest = next((p for p in self._promises.values() if p.done), None)
            if oldest is None or len(self._promises) == 1:
                return
            self._drop(oldest)

    def _forget(self, promise: Promise) -> None:
        with self._lock:
            self._drop(promise)

    def _drop(self, promise: Promise) -> None:
        if self._promises.pop(promise.request_id, None) is not None:
            self._bytes -= len(promise.payload or b"")
            self._gone[promise.request_id] = promise.owner
            if len(self._gone) > KEEP_GONE:
                self._gone.popitem(last=False)


def _gone(request_id: str) -> Gone:
    return Gone(f"the result of request {request_id[:80]!r} has expired")


def error_category(error: BaseException) -> tuple[str, Category]:
    """Return the message of a failed operation, and whether it is an error of the user or of the server."""
    if isinstance(error, BackendError):
        return error.message, error.category
    if isinstance(error, PlatformError):
        return error.message, "user" if error.http < 500 else "server"
    return f"the trainer failed: {type(error).__name__}: {error}", "server"
