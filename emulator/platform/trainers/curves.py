"""Keeps what every optimizer step of every program measured: the curves of a run, for whoever looks at it later.

Nothing of it is computed for the purpose, but for the divergence of a policy from the one that was sampled, which is a
sum over log-probabilities that came and left anyway. It is no part of what a client is told, so it is written aside
every so many steps, with every save, and at the end: a crash loses the last few points of a curve and nothing else.
"""

import math
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.core.errors import InvalidArgument, PlatformError
from emulator.platform.trainers.trainer import LiveModel
from emulator.state.curves import TOLD, Curve
from emulator.state.world import World

PIECE = 100
"""Steps of an entity."""
EVERY = 20
"""Steps after which a piece is stored."""
MOST = 1000
"""Pieces that are kept in all; the oldest go."""
METRICS = 16
"""Columns of a piece."""
MOST_TOLD, MOST_NAMES = 10_000, 200
"""Points that one call may tell, and names that a program may use."""
_SUM = "loss:sum"
_KEY = re.compile(r"[\w./:@ -]{1,128}")


@dataclass(frozen=True)
class Point:
    """A figure that a program tells of a step of its own count."""

    key: str
    step: int
    value: float


class Curves:
    """The curves of all jobs and sessions. The calls of one model come from one thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[str, float]] = {}
        """Sums over the forward_backward calls of a model since its last step."""
        self._open: dict[str, Curve] = {}
        self._unsaved: dict[str, Curve] = {}
        self._origins: dict[str, str] = {}

    def forward_backward(self, model: LiveModel, batch: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Add what a call measured to the step that it belongs to."""
        sums = self._waiting.setdefault(model.id, {})
        for name, value in (result.get("metrics") or {}).items():
            if isinstance(value, int | float):
                sums[name] = sums.get(name, 0.0) + float(value)
        for name, value in _policy(batch, result):
            sums[name] = sums.get(name, 0.0) + value

    def optim_step(self, model: LiveModel, metrics: Mapping[str, Any], learning_rate: float) -> None:
        """Add a point."""
        sums = self._waiting.pop(model.id, {})
        numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
        step = int(numbers.pop("step", 0.0))
        point = _point(sums, numbers, learning_rate)
        curve = self._piece(model, step)
        for name in [*point][: METRICS - len(curve.columns)]:
            curve.columns.setdefault(name, [None] * len(curve.steps))
        curve.steps.append(step)
        for name, column in curve.columns.items():
            column.append(point.get(name))
        self._unsaved[model.id] = curve
        if len(curve.steps) % EVERY == 0:
            self.flush(model.id)

    def tell(self, account: str, owner: str, points: Sequence[Point]) -> None:
        """Keep what a program tells of its run, such as a reward, which no trainer measures; raises InvalidArgument."""
        _check(points)
        with self._lock, self._world.change(synced=False):
            pieces = self._world.curves.of(owner)
            mine = [piece for piece in pieces if piece.model_id == TOLD]
            names = {name for piece in mine for name in piece.columns} | {point.key for point in points}
            if len(names) > MOST_NAMES:
                raise InvalidArgument(f"points: a run may tell {MOST_NAMES} keys, these would be {len(names)}")
            piece = mine[-1] if mine else None
            for step, values in _by_step(points):
                if piece is None or (len(piece.steps) >= PIECE and piece.steps[-1] != step):
                    number = self._world.curves.of(owner)[-1].number + 1 if self._world.curves.of(owner) else 1
                    piece = self._world.curves.put(Curve(account, owner, TOLD, number, 0, first=piece is None))
                if not piece.steps or piece.steps[-1] != step:
                    piece.steps.append(step)
                    for column in piece.columns.values():
                        column.append(None)
                for key, value in values.items():
                    piece.columns.setdefault(key, [None] * len(piece.steps))[-1] = value
                self._world.curves.put(piece)
            for oldest in list(self._world.curves)[: max(0, len(self._world.curves) - MOST)]:
                self._world.curves.remove(oldest.name)

    def loaded(self, model: LiveModel, origin: str) -> None:
        """Begin a new curve: the model goes on from another state, the row of this full name."""
        self.flush(model.id)
        self._waiting.pop(model.id, None)
        self._open.pop(model.id, None)
        self._origins[model.id] = origin

    def flush(self, model_id: str = "") -> None:
        """Store what is not stored yet, of one model or of all; a disk that is full keeps nobody from training."""
        found = [model_id] if model_id else list(self._unsaved)
        pieces = [piece for one in found if (piece := self._unsaved.pop(one, None)) is not None]
        if not pieces:
            return
        try:
            with self._world.change(synced=False):
                for piece in pieces:
                    if piece.name in self._world.curves:  # a reset or a restore may have come in between
                        self._world.curves.put(piece)
        except PlatformError:
            return

    def forget(self, owner: str) -> None:
        """Drop the curves of an owner whose retention is over."""
        with self._world.change(synced=False):
            for curve in self._world.curves.of(owner):
                self._world.curves.remove(curve.name)

    def stopped(self, owner: str) -> None:
        """Store and close the curves of an owner whose trainer stops: its models are lost."""
        for model_id, curve in list(self._open.items()):
            if curve.owner == owner:
                self.flush(model_id)
                self._open.pop(model_id, None)
                self._waiting.pop(model_id, None)
                self._origins.pop(model_id, None)

    def clear(self) -> None:
        """Forget what is open: the world is another one."""
        for held in (self._waiting, self._open, self._unsaved, self._origins):
            held.clear()

    def _piece(self, model: LiveModel, step: int) -> Curve:
        """The piece that takes the next step of a model; one that is not kept when the disk does not take a new one."""
        known = self._open.get(model.id)
        if known is not None and len(known.steps) < PIECE and known.name in self._world.curves:
            return known
        try:
            made = self._begin(model, known)
        except PlatformError:
            return Curve(model.scope.account, model.scope.owner, model.id, 0, 0)
        if known is not None:
            self.flush(model.id)
        self._open[model.id] = made
        return made

    def _begin(self, model: LiveModel, known: Curve | None) -> Curve:
        """Store a new piece, which follows `known` if there is one."""
        with self._lock, self._world.change(synced=False):
            table, owner = self._world.curves, model.scope.owner
            siblings, rows = table.of(owner), self._world.checkpoints.of(owner)
            made = Curve(
                model.scope.account,
                owner,
                model.id,
                siblings[-1].number + 1 if siblings else 1,
                rows[-1].created if rows else 0,
                self._origins.get(model.id, ""),
                known is None,
            )
            table.put(made)
            for oldest in list(table)[: max(0, len(table) - MOST)]:
                table.remove(oldest.name)
        return made


def _check(points: Sequence[Point]) -> None:
    if len(points) > MOST_TOLD:
        raise InvalidArgument(f"points: {len(points)} are more than the {MOST_TOLD} that one call may tell")
    for point in points:
        if not _KEY.fullmatch(point.key):
            raise InvalidArgument(
                f"points: the key {point.key[:80]!r} must be 1 to 128 letters, digits, spaces or any of ./:@_-"
            )
        if not 0 <= point.step < 2**53:
            raise InvalidArgument(f"points: the step of {point.key!r} is {point.step}, which is no count of steps")
        if not math.isfinite(point.value):
            raise InvalidArgument(f"points: the value of {point.key!r} at step {point.step} is no finite number")


def _by_step(points: Iterable[Point]) -> list[tuple[int, dict[str, float]]]:
    """Points that stand one after the other and are of one step, together."""
    found: list[tuple[int, dict[str, float]]] = []
    for point in points:
        if not found or found[-1][0] != point.step:
            found.append((point.step, {}))
        found[-1][1][point.key] = point.value
    return found


def _point(sums: Mapping[str, float], numbers: Mapping[str, float], learning_rate: float) -> dict[str, float]:
    """The figures of a step; the loss is per token with a gradient where the trainer counts these."""
    tokens, actions = numbers.get("num_loss_tokens", 0.0), sums.get("actions", 0.0)
    point: dict[str, float] = {}
    if _SUM in sums:
        point["loss"] = sums[_SUM] / tokens if tokens else sums[_SUM]
    if actions:
        point["kl"] = sums["divergence"] / actions
        point["advantage"] = sums["advantages"] / actions
    point["lr"] = numbers.get("lr", learning_rate)
    others = {name: value for name, value in numbers.items() if name != "lr"}
    told = {name.partition(":")[0]: value for name, value in sums.items() if name not in (_SUM, *_POLICY)}
    return point | others | {name: value for name, value in told.items() if name not in point}


_POLICY = ("actions", "divergence", "advantages")


def _policy(batch: Mapping[str, Any], result: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Sums over the positions with an advantage: their number, log p_sampled - log p_trained, and the advantages.

    The mean of the difference estimates KL(sampled || trained) without bias, since the samples are of the former.
    """
    data, outputs = batch.get("data"), result.get("loss_fn_outputs")
    if not isinstance(data, list) or not isinstance(outputs, list) or len(data) != len(outputs):
        return []
    count, divergence, advantages = 0, 0.0, 0.0
    for datum, output in zip(data, outputs, strict=True):
        inputs = datum.get("loss_fn_inputs") or {}
        if "advantages" not in inputs or "logprobs" not in inputs:
            return []
        gains, old, new = _flat(inputs["advantages"]), _flat(inputs["logprobs"]), _flat(output.get("logprobs"))
        if len(new) != len(old) or len(old) != len(gains):
            return []
        at = [index for index, gain in enumerate(gains) if gain]
        count += len(at)
        divergence += sum([old[index] - new[index] for index in at])
        advantages += sum(gains)
    return [("actions", float(count)), ("divergence", float(divergence)), ("advantages", float(advantages))]


def _flat(tensor: Any) -> list[float]:
    """The numbers of a one-dimensional tensor as it is sent; none for any other form."""
    values = tensor.get("data") if isinstance(tensor, Mapping) else None
    tolist = getattr(values, "tolist", None)
    found = tolist() if tolist is not None else values
    return found if isinstance(found, list) and (not found or isinstance(found[0], int | float)) else []
