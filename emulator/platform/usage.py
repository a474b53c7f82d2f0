"""Counts what was really prefilled, sampled and trained: the one place where tokens are counted.

What is counted is stored when somebody reads it, every so many additions, and at the end. Until then it stands in a
file of the state folder (`emulator.state.tally`), before the answer goes out. A state on servers has no such file.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emulator.backend import Generation
from emulator.core.clock import SECOND
from emulator.core.errors import PlatformError
from emulator.state.tally import FILE, Tally
from emulator.state.usage import METERS, Usage
from emulator.state.world import World

SERVERLESS, DEDICATED, TRAINING = "SERVERLESS", "DEDICATED_DEPLOYMENT", "TRAINING"
SERIES = (SERVERLESS, DEDICATED, TRAINING)
HOUR = 3600 * SECOND
EVERY = 200
"""Additions after which the counters are stored."""
Key = tuple[str, int, str, str, str]
"""An account, the hour that began, a series, a place and a model."""


class Usages:
    """The counters of all accounts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.Lock()
        self._waiting: dict[Key, dict[str, int]] = {}
        self._additions = 0
        self._tally = _tally(world)
        self._whole: dict[Key, dict[str, int]] = {}
        """The counters of each row that grew, with all that was ever added: what a line of the file says."""
        self._recover()

    def generated(self, account: str, place: str, model: str, prompt: int, result: Generation) -> None:
        """Count a finished generation with a prompt of so many tokens."""
        cached = min(prompt, int(result.metrics.get("cached-prompt-tokens", 0)))
        found = {"requests": 1, "prefilled": prompt - cached, "cached": cached, "sampled": len(result.tokens)}
        self._add(account, DEDICATED if "/deployments/" in place else SERVERLESS, place, model, found)

    def stepped(self, account: str, place: str, model: str, batch: Mapping[str, Any], *, backward: bool) -> None:
        """Count the data of a forward, which is prefilled, or of a forward_backward, which is trained."""
        self._add(account, TRAINING, place, model, {"requests": 1, _METER[backward]: tokens_of(batch)})

    def rows(self, account: str, wanted: Callable[[Usage], bool] = lambda row: True) -> Sequence[Usage]:
        """The counters of an account, oldest hour first."""
        self.flush()
        return sorted(filter(wanted, self._world.usage.of(account)), key=lambda row: row.hour)

    def flush(self) -> None:
        """Store what was counted; where nothing can be written, it waits."""
        with self._lock:
            waiting, self._waiting, self._additions = self._waiting, {}, 0
        if not waiting:
            return
        try:
            with self._world.change(synced=False):
                for (account, hour, series, place, model), more in waiting.items():
                    new = Usage(account, self._world.clock.now(), hour, series, place, model)
                    row = self._world.usage.get(new.name) or new
                    for name, value in more.items():
                        setattr(row, name, getattr(row, name) + value)
                    self._world.usage.put(row)
        except PlatformError:
            for key, more in waiting.items():
                self._put_off(key, more)
            return
        with self._lock:
            if self._tally is not None:
                self._tally.empty()
                for key in self._waiting:  # what came meanwhile
                    self._tally.note(key, self._whole.get(key, {}))

    def clear(self) -> None:
        """Forget what is not stored."""
        with self._lock:
            self._waiting, self._additions = {}, 0
            self._whole.clear()
            if self._tally is not None:
                self._tally.empty()

    def close(self) -> None:
        """Store what was counted, and let go of the file."""
        self.flush()
        with self._lock:
            if self._tally is not None:
                self._tally.close()
            self._tally = None

    def _recover(self) -> None:
        """Count what a process that was killed had counted, and no row has."""
        found = dict(self._tally.read()) if self._tally is not None else {}
        for key, counters in found.items():
            account, hour, series, place, model = key
            row = Usage(str(account), 0, int(str(hour)), str(series), str(place), str(model))
            row = self._world.usage.get(row.name) or row
            more = {name: counters[name] - getattr(row, name) for name in counters if name in _COUNTERS}
            if any(value > 0 for value in more.values()):
                self._put_off((row.account, row.hour, row.series, row.place, row.model), more)
        if self._waiting:
            self.flush()

    def _add(self, account: str, series: str, place: str, model: str, more: Mapping[str, int]) -> None:
        now = self._world.clock.now()
        key = (account, now - now % HOUR, series, place, model)
        if self._tally is not None and key not in self._whole:
            row = self._world.usage.get(Usage(account, now, *key[1:]).name)
            self._whole.setdefault(key, {name: getattr(row, name) if row else 0 for name in _COUNTERS})
        self._put_off(key, more, noted=True)
        if self._additions >= EVERY:
            self.flush()

    def _put_off(self, key: Key, more: Mapping[str, int], *, noted: bool = False) -> None:
        with self._lock:
            counters = self._waiting.setdefault(key, {})
            for name, value in more.items():
                counters[name] = counters.get(name, 0) + value
            self._additions += 1
            if noted and self._tally is not None and (whole := self._whole.get(key)) is not None:
                for name, value in more.items():
                    whole[name] += value
                self._tally.note(key, whole)


def _tally(world: World) -> Tally | None:
    """The file beside the rows, None where there is none or where it cannot be written."""
    if world.store.folder is None or world.store.read_only:
        return None
    try:
        return Tally(world.store.folder / FILE)
    except OSError:
        return None


_COUNTERS = ("requests", *METERS)
_METER = {False: "prefilled", True: "trained"}


def tokens_of(batch: Mapping[str, Any]) -> int:
    """Count the tokens of a batch's data: those of each model_input, its targets where it has none."""
    data = batch.get("data")
    return sum(map(_length, data)) if isinstance(data, Sequence) and not isinstance(data, str) else 0


def _tokens(chunk: Any) -> int:
    """Count the tokens of a chunk; those of an image are what its client expects, which the trainer has checked."""
    if not isinstance(chunk, Mapping):
        return 0
    expected = chunk.get("expected_tokens")
    return len(chunk["tokens"]) if chunk.get("tokens") else expected if type(expected) is int else 0


def _length(datum: Any) -> int:
    if not isinstance(datum, Mapping):
        return 0
    model_input, inputs = datum.get("model_input"), datum.get("loss_fn_inputs")
    chunks = model_input.get("chunks") if isinstance(model_input, Mapping) else None
    if isinstance(chunks, Sequence) and chunks:
        return sum(map(_tokens, chunks))
    targets = inputs.get("target_tokens") if isinstance(inputs, Mapping) else None
    return len(targets.get("data") or ()) if isinstance(targets, Mapping) else 0
