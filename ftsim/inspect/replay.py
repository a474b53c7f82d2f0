"""Asks a fresh emulator of the same seed everything a journal was asked, and compares the answers field by field.

The recorded order is kept: calls that hang until something happens (a long poll, a completion) stay open while the
calls that came meanwhile are made; all others are made one after the other, in the order in which they were answered.
The fresh emulator's clock shows, at every call, the time that was recorded for it, so that everything timed happens
when it did; stamps count as equal within a second of that clock.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from emulator.backend import Backend
from emulator.core.clock import Clock
from emulator.core.errors import InvalidArgument, PlatformError
from emulator.core.ids import Ids
from emulator.journal.file import Saved
from emulator.journal.journal import Event, Exchange
from emulator.journal.redact import HIDDEN
from emulator.platform.differences import different
from emulator.server import Emulator
from ftsim.inspect import events

HANGING = frozenset({"retrieve_future", "completions", "chat_completions", "hot_load", "promote"})
PATIENCE_S = 120.0
_MEASURED = "body.perf_metrics"
_CREATED = "body.created"


@dataclass(frozen=True)
class Difference:
    """An answer that is another: the exchange, the field (`status`, `body.checkpoints[0].name`), both values."""

    number: int
    endpoint: str
    field: str
    recorded: Any
    replayed: Any

    def __str__(self) -> str:
        return f"#{self.number} {self.endpoint} {self.field}: {self.recorded!r} was {self.replayed!r}"


@dataclass
class Replay:
    """A replay's result. `compared` answers were whole and known; `skipped` says what could not be asked, and why."""

    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        return not self.differences and not self.skipped


class ReplayClock(Clock):
    """Stands still until it is moved to the time of the next exchange; `held` where durations lagged behind stamps."""

    def __init__(self, moment: int, *, held: bool = False) -> None:
        self.moment = moment
        super().__init__(lambda: self.moment * 1000, held=held)

    def move_to(self, moment: int, lag: int = 0) -> None:
        self.moment = max(self.moment, moment)
        if self.held:
            self.stand_at(self.moment - lag)


def replay(saved: Saved, backend: Backend, *, prepare: Callable[[Emulator], None] | None = None) -> Replay:
    """Replay a journal; `prepare` may restore the state in which it began. Raises InvalidArgument for one with gaps."""
    if dropped := saved.header.get("dropped"):
        raise InvalidArgument(
            f"{dropped} exchanges were dropped from the journal, which had become too long: save one of a shorter run"
        )
    if not saved.header.get("complete") and prepare is None:
        raise InvalidArgument(
            "the journal does not begin with an empty world: give the state in which it began with --from STATE.zip "
            "(`ftsim state save`), or as replay(prepare=)"
        )
    moment = min((entry.at for entry in saved.entries), default=0)
    clock = ReplayClock(moment, held=any(entry.lag for entry in saved.entries))
    account = str(saved.header.get("account") or "local")
    others = {entry.account for entry in saved.exchanges} - {account, ""}
    keys = {f"replay-{name}": name for name in sorted(others)}
    date = saved.header.get("platform") or None
    emulator = Emulator(backend, seed=int(saved.header["seed"]), account=account, keys=keys, clock=clock, platform=date)
    with emulator:
        emulator.world.ids = Ids(int(saved.header["seed"]), int(saved.header["boot"]))
        if prepare is not None:
            prepare(emulator)
            if emulator.world.ids.boot != int(saved.header["boot"]):  # the state is that of the boot before
                emulator.world.ids = Ids(int(saved.header["seed"]), int(saved.header["boot"]))
        key_of = {name: key for key, name in emulator.keys.items()}
        return _Player(emulator, clock, key_of).play(saved.entries)


class _Player:
    def __init__(self, emulator: Emulator, clock: ReplayClock, key_of: dict[str, str]) -> None:
        self._emulator, self._clock, self._key_of = emulator, clock, key_of
        self._found = Replay()
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.Client(base_url=emulator.url, timeout=PATIENCE_S, trust_env=False, limits=limits)

    def play(self, entries: Sequence[Exchange | Event]) -> Replay:
        waiting: dict[int, Future[httpx.Response]] = {}
        hanging = {entry.began: entry for entry in entries if isinstance(entry, Exchange)}
        with self._client, ThreadPoolExecutor(64) as pool:
            for entry, over in _order(entries):
                if isinstance(entry, Event):
                    self._clock.move_to(entry.at, entry.lag)
                    self._apply(entry)
                elif over:
                    self._compare(entry, waiting.pop(entry.began))
                elif (why := _unaskable(entry)) is not None:
                    self._found.skipped.append(f"#{entry.began} {entry.endpoint}: {why}")
                    hanging.pop(entry.began)
                else:
                    self._clock.move_to(entry.at, entry.lag)
                    waiting[entry.began] = pool.submit(self._ask, entry)
                    if entry.endpoint not in HANGING:
                        waiting[entry.began].exception(PATIENCE_S)
            for began, future in waiting.items():  # still open when the journal was saved
                future.exception(PATIENCE_S)
                if hanging[began].ended:
                    self._compare(hanging[began], future)
        return self._found

    def _ask(self, entry: Exchange) -> httpx.Response:
        headers = {"X-Api-Key": self._key_of.get(entry.account, "unknown-key")}
        if entry.request_type:
            headers["Content-Type"] = entry.request_type
        url = entry.path + (f"?{entry.query}" if entry.query else "")
        while True:
            answer = self._client.request(entry.method, url, content=entry.request, headers=headers)
            if entry.endpoint != "retrieve_future" or not _pending(answer.content) or _pending(entry.response):
                return answer

    def _compare(self, entry: Exchange, future: "Future[httpx.Response]") -> None:
        self._found.compared += 1
        try:
            answer = future.result(PATIENCE_S)
        except httpx.HTTPError as error:
            if entry.status and not any(touch.name.startswith("http.") for touch in entry.quirks):
                self._differ(entry, "connection", "answered", type(error).__name__)
            return
        if entry.endpoint == "retrieve_future" and _pending(entry.response):
            return  # how long an operation takes is no part of the answer
        if entry.status and answer.status_code != entry.status:
            self._differ(entry, "status", entry.status, answer.status_code)
        recorded, replayed = entry.response, self._emulator.journal.redactor.bytes(answer.content)
        if entry.response_type.startswith(events.MEDIA):
            one, other = events.comparable(recorded, replayed)
        else:
            try:
                one, other = orjson.loads(recorded), orjson.loads(replayed)
            except orjson.JSONDecodeError:
                if recorded != replayed and entry.response_type.startswith("application/json"):
                    self._differ(entry, "body", recorded[:80], replayed[:80])
                return
        for path, mine, theirs in different(one, other, "body"):
            if not path.startswith(_MEASURED) and not (path == _CREATED and _while(entry, mine, theirs)):
                self._differ(entry, path, mine, theirs)

    def _differ(self, entry: Exchange, path: str, recorded: Any, replayed: Any) -> None:
        self._found.differences.append(Difference(entry.began, entry.endpoint, path, recorded, replayed))

    def _apply(self, event: Event) -> None:
        """Do again what was done by hand: a quirk set or taken off, an entity put or removed."""
        detail = event.detail
        try:
            if event.what == "quirk":
                self._emulator.quirks.set(
                    detail["name"],
                    detail["value"],
                    times=detail.get("times"),
                    for_s=detail.get("for_s"),
                    chance=float(detail.get("chance", 1.0)),
                    **detail["where"],
                )
            elif event.what == "quirk off":
                for setting in self._emulator.quirks.active():
                    if (setting.name, dict(setting.where)) == (detail["name"], detail["where"]):
                        setting.off()
                        break
            else:
                for change in detail["changes"]:
                    self._put(change)
        except (PlatformError, KeyError, TypeError, ValueError) as error:
            self._found.skipped.append(f"#{event.began} {event.what}, by hand: {error}")

    def _put(self, change: dict[str, Any]) -> None:
        if change["kind"] == "checkpoint":
            raise ValueError(f"{change['name']} has files that the journal does not have")
        world = self._emulator.world
        with world.change():
            world.apply(change["kind"], change["name"], change["body"])
        owner = world.jobs.get(change["name"]) or world.sessions.get(change["name"])
        if change["kind"] in ("job", "session") and not (owner and owner.running):
            self._emulator.platform.trainers.stop(change["name"])


def _order(entries: Sequence[Exchange | Event]) -> Iterator[tuple[Exchange | Event, bool]]:
    """Every entry when it is to be done, and every exchange again, with True, when its answer is to be had."""
    moments: list[tuple[int, int, Exchange | Event, bool]] = []
    numbers = itertools.count()
    for entry in entries:
        if isinstance(entry, Event):
            moments.append((entry.began, next(numbers), entry, False))
            continue
        done = entry.began if entry.endpoint in HANGING or not entry.told else entry.told
        moments.append((done, next(numbers), entry, False))
        if entry.ended and _unaskable(entry) is None:
            moments.append((max(done, entry.ended), next(numbers), entry, True))
    for _, _, entry, over in sorted(moments, key=lambda moment: moment[:2]):
        yield entry, over


def _unaskable(entry: Exchange) -> str | None:
    if not entry.whole:
        return "its body was cut when it was recorded"
    if HIDDEN in entry.request or HIDDEN.decode() in entry.query:
        return "a key or signature was hidden from it"
    if entry.account == "" and entry.status != 401 and entry.path not in ("/healthz", "/readyz"):
        return "it is not known whose request it was"
    return None


def _pending(answer: bytes) -> bool:
    return answer.startswith(b'{"type":"try_again"')


def _while(entry: Exchange, one: Any, other: Any) -> bool:
    """Say whether two moments (seconds) lie within the time that the exchange took; the replay's clock stands still."""
    return isinstance(one, int) and isinstance(other, int) and abs(one - other) <= entry.seconds + 1
