"""The evidence of a run, from journal and world: which rows every saved state was trained on, what is left over.

A model's history is the list of its optimizer steps, each the digests of the rows whose gradients it applied. A save
keeps the history, a load takes it over: so the history of a promoted checkpoint says what it was trained on, through
any number of restarts.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from emulator.journal.journal import Exchange
from emulator.server import Emulator

Step = tuple[str, ...]
History = tuple[Step, ...]
_LIVE = frozenset({"JOB_STATE_CREATING", "JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_VALIDATING"})
_BROKEN = ("http.lose_reply", "http.reset")
_VERBS = frozenset({"forward_backward", "optim_step", "save_weights", "save_weights_for_sampler", "load_weights"})


@dataclass(frozen=True)
class Resumed:
    """A load of a state that the program itself had saved, and whether it asked for the optimizer's state."""

    job: str
    path: str
    steps: int
    optimizer: bool

    def __str__(self) -> str:
        return f"came back to {self.path} of {self.job}, saved after {self.steps} steps" + (
            "" if self.optimizer else ", without the optimizer's state"
        )


@dataclass
class Evidence:
    """Histories of the promoted models by id and of the newest resumable state, and what was never cleaned up.

    `weights` are digests of the promoted models' tensors by id; `resumed` are the loads of states that were saved
    before, in order; `saves` counts the resumable saves.
    """

    promoted: dict[str, History] = field(default_factory=dict)
    final: History = ()
    trainers: list[str] = field(default_factory=list)
    deployments: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    resumed: list[Resumed] = field(default_factory=list)
    saves: int = 0
    weights: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> Counter[str]:
        """The number of times that each row went into the newest state."""
        return Counter(row for step in self.final for row in step)


@dataclass
class _Model:
    done: list[Step] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)


def gather(emulator: Emulator) -> Evidence:
    """Evidence of everything that an emulator was asked since its journal began."""
    found = Evidence()
    histories: dict[tuple[str, str], History] = {}
    order: list[tuple[str, str]] = []
    if emulator.journal.dropped:
        found.gaps.append(f"{emulator.journal.dropped} exchanges are no longer in the journal")
    models: dict[str, _Model] = {}
    for job, exchange, body in _carried_out(list(emulator.journal), found):
        model = models.setdefault(str(body.get("model_id")), _Model())
        match exchange.endpoint:
            case "forward_backward":
                model.pending += [_digest(row) for row in (body.get("forward_backward_input") or {}).get("data") or []]
            case "optim_step":
                model.done.append(tuple(sorted(model.pending)))
                model.pending = []
            case "load_weights":
                source = _source(job, str(body.get("path")))
                model.done = list(histories.get(source, ()))
                if source in order:
                    found.resumed.append(Resumed(*source, len(model.done), body.get("optimizer") is True))
                model.pending = []
            case verb:
                histories[job, str(body.get("path"))] = tuple(model.done)
                order += [(job, str(body.get("path")))] if verb == "save_weights" else []
    found.saves = len(order)
    found.final = histories[order[-1]] if order else ()
    for promoted in emulator.world.models:
        owner, _, row = promoted.source_checkpoint.partition("/checkpoints/")
        found.promoted[promoted.id] = histories.get((owner.rsplit("/", 1)[-1], row), ())
        tensors = {name: one for name, one in promoted.digests.items() if name.endswith(".safetensors")}
        found.weights[promoted.id] = _digest(tensors)
    found.trainers = [job.id for job in emulator.world.jobs if job.deleted is None and job.state in _LIVE]
    found.deployments = [one.id for one in emulator.world.deployments if one.deleted is None and one.replicas]
    return found


def _carried_out(exchanges: Iterable[Exchange], found: Evidence) -> Iterator[tuple[str, Exchange, dict[str, Any]]]:
    """The operations that ran, in the order in which their model's numbers say; resent ones once."""
    failed = {
        str(exchange.json.get("request_id"))
        for exchange in (one for one in exchanges if one.endpoint == "retrieve_future")
        if isinstance(exchange.answer, dict) and "error" in exchange.answer and isinstance(exchange.json, dict)
    }
    calls: dict[tuple[str, int], tuple[int, str, Exchange, dict[str, Any]]] = {}
    for at, exchange in enumerate(exchanges):
        if exchange.endpoint not in _VERBS or not _reached(exchange):
            continue
        if not exchange.whole or not isinstance(exchange.json, dict):
            found.gaps.append(f"a {exchange.endpoint} was too large to keep")
            continue
        if isinstance(exchange.answer, dict) and exchange.answer.get("request_id") in failed:
            continue
        job = exchange.path.split("/")[5]
        calls.setdefault(
            (str(exchange.json.get("model_id")), int(exchange.json.get("seq_id") or at)),
            (
                at,
                job,
                exchange,
                exchange.json,
            ),
        )
    began: dict[str, int] = {}
    for (model, _), (at, *_) in calls.items():
        began[model] = min(at, began.get(model, at))
    # a model's calls stand together, where the model began: it may load what an earlier one had saved
    for _, (_, job, exchange, body) in sorted(calls.items(), key=lambda call: (began[call[0][0]], call[0][1])):
        yield job, exchange, body


def _reached(exchange: Exchange) -> bool:
    """True when the platform carried it out: answered 200, or carried out before its answer was lost or spoiled."""
    for touch in exchange.quirks:
        if touch.name in ("http.fail",) or (
            touch.name in ("http.lose_reply", "http.reset") and touch.value == "before"
        ):
            return False
        if touch.name in ("http.lose_reply", "http.reset", "http.apply_then_fail"):
            return True
    return exchange.status == 200


def _source(job: str, path: str) -> tuple[str, str]:
    """Job and name that a load means (WIRE 5.2)."""
    if path.startswith("cross_job://"):
        other, _, name = path.removeprefix("cross_job://").partition("/")
        return other, name
    return job, path


def _digest(row: Any) -> str:
    return hashlib.sha256(orjson.dumps(row, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
