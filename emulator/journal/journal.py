"""The journal: every exchange, the world changes it caused, the quirks that touched it, and what was done by hand.

Headers, and so keys, are not kept; a key that stands in a body is hidden. The newest entries stay, within a budget of
memory. A journal that is complete can be replayed (`emulator.journal.file` writes, `ftsim.inspect.replay` replays it).
"""

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import orjson

from emulator.core.clock import Clock
from emulator.core.endpoints import endpoint
from emulator.journal.redact import Redactor
from emulator.state.world import Change, World

CREATED, DELETED = "created", "deleted"
_OVERHEAD = 1000
_UNTOLD = "curve"
"""The kind of entity that follows from requests which are told anyway."""


class Touch(NamedTuple):
    """A quirk that changed what an exchange did."""

    name: str
    value: Any


@dataclass(eq=False, slots=True)
class Exchange:
    """One request and its answer; bodies are cut to the journal's limit, `seconds` is measured, 0 while it runs.

    `began`, `told` and `ended` number what happened in the journal: the request came, the answer began, it was over.
    """

    method: str
    path: str
    query: str
    at: int
    lag: int = 0
    """Microseconds by which durations lagged behind stamps then: more than 0 where the clock was held."""
    status: int = 0
    seconds: float = 0.0
    request: bytes = b""
    response: bytes = b""
    request_size: int = 0
    response_size: int = 0
    request_type: str = ""
    response_type: str = ""
    error: str = ""
    account: str = ""
    began: int = 0
    told: int = 0
    ended: int = 0
    whole: bool = True
    unread: str = ""
    """Fields of the body that nothing reads, with commas between them; some endpoints say."""
    changes: list[Change] = field(default_factory=list)
    quirks: list[Touch] = field(default_factory=list)
    _started: float = field(default=0.0, repr=False)
    _kept: bool = field(default=True, repr=False)
    """Whether it still counts against the journal's budget."""

    @property
    def endpoint(self) -> str:
        """`promote`, `forward_backward`, ...: what quirks select by."""
        return endpoint(self.method, self.path)[0]

    @property
    def json(self) -> Any:
        """The request body; None when it is empty or was cut."""
        return _loads(self.request, self.request_size)

    @property
    def answer(self) -> Any:
        """The response body; None when it is empty, cut or a stream of events."""
        return _loads(self.response, self.response_size)


@dataclass
class Event:
    """Something done by hand, from Python or through the control API: a quirk set, an entity changed."""

    what: str
    at: int
    began: int
    detail: dict[str, Any]
    lag: int = 0


Entry = TypeVar("Entry", Exchange, Exchange | Event)

CURRENT: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


class Journal:
    """A ring of the newest entries: at most `size` of them, `budget` bytes in all, `body_limit` bytes a body."""

    def __init__(
        self, clock: Clock, *, size: int = 10_000, body_limit: int = 1_000_000, budget: int = 64_000_000
    ) -> None:
        self._clock = clock
        self._size, self._body_limit, self._budget = size, body_limit, budget
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._world: World | None = None
        self.redactor = Redactor()
        self.light = False
        """True where the light backend computes, which a replay must know."""
        self._entries: deque[Exchange | Event] = deque()
        self.clear()

    def follow(self, world: World, keys: Sequence[str] = ()) -> None:
        """Learn of a world's changes and quirks; `keys` are hidden in bodies."""
        self._world = world
        self.redactor = Redactor(keys)
        world.watchers.append(self._changed)
        world.quirks.watchers.append(self._quirk)
        self.clear()

    def __iter__(self) -> Iterator[Exchange]:
        return iter([entry for entry in list(self._entries) if isinstance(entry, Exchange)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def entries(self) -> list[Exchange | Event]:
        """Exchanges and what was done by hand, in the order in which they began."""
        return list(self._entries)

    @property
    def platform(self) -> str:
        """The date of the service that was asked; "" before a world is followed."""
        return "" if self._world is None else self._world.platform

    @property
    def complete(self) -> bool:
        """True when nothing was dropped and the world was empty at the beginning: only then a replay can be exact."""
        return self.dropped == 0 and self.began_empty

    def of(self, name: str) -> list[Exchange]:
        """The exchanges of one endpoint, by its name or as `GET /path`, oldest first."""
        return [exchange for exchange in self if name in (exchange.endpoint, f"{exchange.method} {exchange.path}")]

    def clear(self) -> None:
        with self._lock:
            for entry in self._entries:
                if isinstance(entry, Exchange):
                    entry._kept = False
            self._entries.clear()
            self._bytes = 0
            self.dropped = 0
            self.created: set[tuple[str, str]] = set()
            self.deleted: dict[tuple[str, str], str] = {}
            self.began_empty = self._world is None or self._world.empty
            self.boot = 0 if self._world is None else self._world.ids.boot

    def open(self, method: str, path: str, query: str) -> Exchange:
        exchange = Exchange(method, path, query, *self._clock.stamp_and_lag(), _started=self._clock.elapsed())
        with self._lock:
            exchange.began = next(self._numbers)
            self._keep(exchange)
        return exchange

    def asked(self, exchange: Exchange, chunk: bytes) -> None:
        exchange.request_size += len(chunk)
        exchange.request = self._more(exchange, exchange.request, chunk)

    def tells(self, exchange: Exchange) -> None:
        """The answer begins."""
        exchange.told = next(self._numbers)

    def answered(self, exchange: Exchange, chunk: bytes, *, last: bool = False) -> None:
        """Keep a piece of the answer; the first one begins it, the `last` one ends the exchange."""
        exchange.told = exchange.told or next(self._numbers)
        if chunk:
            exchange.response_size += len(chunk)
            exchange.response = self._more(exchange, exchange.response, chunk)
        if last:
            self.close(exchange)

    def close(self, exchange: Exchange) -> None:
        exchange.seconds = self._clock.elapsed() - exchange._started
        exchange.ended = next(self._numbers)
        told = f"{exchange.path}?{exchange.query} {exchange.unread}".encode()
        texts = (told, exchange.request, exchange.response)
        if not any(key in text for key in self.redactor.keys for text in texts):
            return
        known = self.redactor.known
        exchange.query = known(exchange.query.encode()).decode()
        exchange.path = known(exchange.path.encode()).decode()
        exchange.unread = known(exchange.unread.encode()).decode()
        before = _weight(exchange)
        if (hidden := known(exchange.request)) is not exchange.request:
            exchange.request, exchange.request_size = hidden, len(hidden)
        if (hidden := known(exchange.response)) is not exchange.response:
            exchange.response, exchange.response_size = hidden, len(hidden)
        self._count(exchange, _weight(exchange) - before)

    def assert_called(self, name: str, *, times: int | None = None, status: int | None = None, **where: Any) -> None:
        """Raises AssertionError unless the endpoint was called, `times` times; `where` are fields of its JSON body."""
        found = [
            one
            for one in self.of(name)
            if status in (None, one.status)
            and all(isinstance(one.json, dict) and one.json.get(key) == value for key, value in where.items())
        ]
        if (times is None and not found) or (times is not None and len(found) != times):
            wanted = "at least once" if times is None else f"{times} times"
            raise AssertionError(f"{name} was called {len(found)} times, not {wanted}; called were: {self._calls()}")

    def assert_not_called(self, name: str) -> None:
        self.assert_called(name, times=0)

    def assert_deleted_only_what_was_created(self) -> None:
        """Raises AssertionError when something was deleted that had not been created since the journal began."""
        foreign = [f"{kind} {name}, by {who}" for (kind, name), who in self.deleted.items()]
        if foreign:
            raise AssertionError("deleted without having been created here: " + "; ".join(foreign))

    def _calls(self) -> str:
        counts: dict[str, int] = {}
        for exchange in self:
            counts[exchange.endpoint] = counts.get(exchange.endpoint, 0) + 1
        return ", ".join(f"{name} ×{count}" for name, count in sorted(counts.items())) or "nothing"

    def _more(self, exchange: Exchange, kept: bytes, chunk: bytes) -> bytes:
        room = self._body_limit - len(kept)
        if len(chunk) > room:
            exchange.whole = False
            chunk = chunk[:room]
        self._count(exchange, len(chunk))
        return kept + chunk

    def _count(self, exchange: Exchange, more: int) -> None:
        with self._lock:
            if exchange._kept:
                self._bytes += more

    def _keep(self, entry: Exchange | Event) -> None:
        """Add an entry, and drop the oldest where there are too many; the lock is held."""
        self._entries.append(entry)
        self._bytes += _weight(entry)
        while len(self._entries) > self._size or (self._bytes > self._budget and len(self._entries) > 1):
            oldest = self._entries.popleft()
            self._bytes -= _weight(oldest)
            self.dropped += 1
            if isinstance(oldest, Exchange):
                oldest._kept = False

    def _changed(self, changes: Sequence[Change], bodies: Sequence[dict[str, Any] | None]) -> None:
        """A change of the world is stored; the exchange that caused it is the one of this context, if any."""
        told = [pair for pair in zip(changes, bodies, strict=True) if pair[0].kind != _UNTOLD]
        if not told:
            return
        cause = CURRENT.get()
        for change, _ in told:
            key = (change.kind, change.name)
            if change.how == CREATED:
                self.created.add(key)
            elif change.how == DELETED and key not in self.created:
                self.deleted.setdefault(key, cause.endpoint if cause else "hand")
        if cause is not None:
            cause.changes.extend(change for change, _ in told)
        else:
            made = [{**change._asdict(), "body": body} for change, body in told]
            self._by_hand("change", {"changes": made})

    def _quirk(self, what: str, detail: dict[str, Any]) -> None:
        if what != "touched":
            self._by_hand(what, detail)
        elif (cause := CURRENT.get()) is not None and not cause.path.startswith("/_ftsim/"):
            cause.quirks.append(Touch(detail["name"], detail["value"]))

    def _by_hand(self, what: str, detail: dict[str, Any]) -> None:
        at, lag = self._clock.stamp_and_lag()
        with self._lock:
            self._keep(Event(what, at, next(self._numbers), detail, lag))


def groups(entries: Iterable[Entry]) -> list[list[Entry]]:
    """The entries as people read them: equal failures in a row are one group, every other entry is its own."""
    found: list[list[Entry]] = []
    for entry in entries:
        if found and isinstance(entry, Exchange) and entry.status >= 400 and _equal(found[-1][0], entry):
            found[-1].append(entry)
        else:
            found.append([entry])
    return found


def _equal(one: Exchange | Event, other: Exchange) -> bool:
    return isinstance(one, Exchange) and all(
        getattr(one, name) == getattr(other, name)
        for name in ("method", "path", "query", "status", "request", "response", "account", "changes", "quirks")
    )


def _weight(entry: Exchange | Event) -> int:
    return _OVERHEAD + (len(entry.request) + len(entry.response) if isinstance(entry, Exchange) else 0)


def _loads(raw: bytes, size: int) -> Any:
    if not raw or size > len(raw):
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
