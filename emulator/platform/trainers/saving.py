"""Saves of a model (WIRE 2.10): each is written aside, made durable, listed, acknowledged, or nothing of it stays."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from emulator.backend import SavedState
from emulator.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from emulator.core.kinds import resumable
from emulator.core.names import CheckpointScope
from emulator.platform.checkpoints import exports
from emulator.platform.checkpoints.checkpoints import Checkpoints
from emulator.platform.trainers.curves import Curves
from emulator.platform.trainers.external import EXTERNAL, sealer
from emulator.platform.trainers.native import SUFFIXES
from emulator.platform.trainers.requests import Request, named
from emulator.platform.trainers.trainer import Answer, Later, LiveModel, Trainer
from emulator.quirks import saves
from emulator.state.blobs import Blobs
from emulator.state.entities import Checkpoint
from emulator.state.world import World

SAMPLER_TYPES = ("base", "delta", "merged_base")
_SESSION_SUFFIX = re.compile(r"-[0-9a-f]{8}$")


@dataclass(frozen=True)
class Wanted:
    """A save under a name: as what a client asked for it, what a row answers, its lifetime (seconds, 0 for ever)."""

    name: str
    how: str
    answer: Callable[[Checkpoint], Mapping[str, Any]]
    ttl_s: float = 0.0
    seal: Callable[[Path], None] | None = None


def then(state: SavedState, work: Callable[[], None]) -> SavedState:
    """The same save, with something done once its files are there: now, if they are."""
    if (write := state.write) is None:
        work()
        return state

    def both() -> None:
        write()
        work()

    return replace(state, write=both)


class Saving:
    """Carries out saves."""

    def __init__(self, world: World, blobs: Blobs, checkpoints: Checkpoints, curves: Curves) -> None:
        self._world = world
        self._blobs = blobs
        self._checkpoints = checkpoints
        self._curves = curves

    def state(self, trainer: Trainer, model: LiveModel, request: Request) -> Answer | Later:
        name = named(request, "save_weights", "path")
        ttl_s = self._ttl(trainer, model, request)
        self._checkpoints.check_name(trainer.owner.subject, name, serverless=_pooled(model))

        def write(folder: Any) -> SavedState:
            state = trainer.backend.save_state(model.id, folder)
            self._checkpoints.check_free(model.scope, name, state.step)
            return state

        wanted = Wanted(name, "save_weights", lambda row: self._state_answer(trainer, model, name), ttl_s)
        return self._save(trainer, model, wanted, write)

    def sampler(self, trainer: Trainer, model: LiveModel, request: Request) -> Answer | Later:
        asked = named(request, "save_weights_for_sampler", "path")
        stem = _SESSION_SUFFIX.sub("", asked)  # the client adds its session's digits before it asks
        self._checkpoints.check_name(trainer.owner.subject, stem, serverless=_pooled(model), sampler=not model.native)
        name = asked + SUFFIXES["sampler_weights"] if model.native else self._suffixed(trainer, asked)
        self._checkpoints.check_name(trainer.owner.subject, name)
        self._check_free_of_samplers(trainer, model.scope, name)
        ttl_s = self._sampler_ttl(trainer, model, request)
        how = self._sampler_type(trainer, model, request)
        precision = request.get("export_precision")
        if precision is not None and how != "merged_base":
            raise InvalidArgument("save_weights_for_sampler: export_precision goes with merged_base only")

        def write(folder: Any) -> SavedState:
            state = trainer.backend.save_sampler(
                model.id, folder, identity=name, checkpoint_type=how, export_precision=precision
            )
            keys = self._world.quirks.spend(saves.EXPORT_ADAPTER_KEYS, trainer.owner.subject)
            return then(state, lambda: exports.change(folder, keys))

        def answer(row: Checkpoint) -> Answer:
            model.snapshots.append(name)
            if model.native:
                return self._native_answer(model, asked, request.get("sampling_session_seq_id"))
            null = self._world.quirks.spend(saves.SAMPLER_RETURN_NULL_PATH, trainer.owner.subject)
            return {"path": None if null else model.scope.path(name), "type": "save_weights_for_sampler"}

        return self._save(trainer, model, Wanted(name, how, answer, ttl_s), write)

    def external(self, trainer: Trainer, model: LiveModel, request: Request) -> Answer | Later:
        asked = named(request, "save_weights_external", "path")
        seal = sealer(request.get("age_encryption_recipients"))
        name = asked + SUFFIXES["external_weights"]
        self._checkpoints.check_name(trainer.owner.subject, name)
        self._check_free_of_samplers(trainer, model.scope, name)
        ttl_s = self._ttl(trainer, model, request)

        def write(folder: Any) -> SavedState:
            return trainer.backend.save_sampler(
                model.id, folder, identity=name, checkpoint_type="base", export_precision=None
            )

        path = f"tinker://{model.id}/external_weights/{asked}"

        def answer(row: Checkpoint) -> Answer:
            return {"path": path, "size_bytes": row.size, "type": "save_weights_external"}

        return self._save(trainer, model, Wanted(name, EXTERNAL, answer, ttl_s, seal), write)

    def _save(
        self, trainer: Trainer, model: LiveModel, wanted: Wanted, write: Callable[[Path], SavedState]
    ) -> Answer | Later:
        """Write aside, then list; whatever goes wrong leaves neither a row nor files.

        What the backend has only staged is written and listed later, beside the steps that follow.
        """
        staged = self._blobs.stage()
        with self._undone(staged):
            state = write(staged)
            self._curves.flush(model.id)
        finish = partial(self._finish, trainer, model, wanted, staged, state)
        return finish() if state.write is None else Later(finish)

    def _finish(self, trainer: Trainer, model: LiveModel, wanted: Wanted, staged: Path, state: SavedState) -> Answer:
        with self._undone(staged):
            if state.write is not None:
                state.write()
            trainer.pause(saves.DURATION_S)
            origin = model.origin(wanted.how, wanted.ttl_s)
            row = self._checkpoints.save(origin, wanted.name, staged, state, wanted.seal)
            state.acknowledged()
        return wanted.answer(row)

    @contextmanager
    def _undone(self, staged: Path) -> Iterator[None]:
        """Discard what was staged when something fails; raises StorageFailed for what the disk does not take."""
        try:
            yield
        except BaseException as error:
            self._blobs.discard(staged)
            if isinstance(error, OSError):
                raise self._blobs.failure(error) from error
            raise

    def _state_answer(self, trainer: Trainer, model: LiveModel, name: str) -> Answer:
        if model.native:
            return {"path": f"tinker://{model.id}/weights/{name}", "type": "save_weights"}
        job = trainer.owner.id
        styles = {"tinker_uri": f"tinker://{job}/weights/{name}", "gs_uri": f"gs://emulator/{job}/{name}"}
        style = self._world.quirks.value(saves.PATH_STYLE, trainer.owner.subject)
        return {"path": styles.get(style) or model.scope.path(name), "type": "save_weights"}

    def _native_answer(self, model: LiveModel, name: str, number: object) -> Answer:
        """Name a sampler save by its path, or one without a name by the sampling session that was asked for with it."""
        if number is None:
            return {"path": f"tinker://{model.id}/sampler_weights/{name}", "type": "save_weights_for_sampler"}
        session = f"{model.session_id}:sample:{number}"
        return {"path": None, "sampling_session_id": session, "type": "save_weights_for_sampler"}

    def _sampler_type(self, trainer: Trainer, model: LiveModel, request: Request) -> Any:
        how = request.get("checkpoint_type") or "base"
        if how not in SAMPLER_TYPES:
            raise InvalidArgument(
                f"save_weights_for_sampler: unknown checkpoint_type {str(how)[:40]!r}: use {', '.join(SAMPLER_TYPES)}"
            )
        if how == "merged_base" and not model.lora_rank:
            raise InvalidArgument("save_weights_for_sampler: merged_base needs a LoRA model; use base")
        if how == "delta" and not model.lora_rank and not model.snapshots:
            if self._world.quirks.value(saves.SAMPLER_DELTA_WITHOUT_BASE, trainer.owner.subject) == "reject":
                raise FailedPrecondition(
                    "save_weights_for_sampler: a delta needs a snapshot that this model saved before: save base first"
                )
            return "base"
        return how

    def _suffixed(self, trainer: Trainer, name: str) -> str:
        """A sampler row's name: it comes with the session's suffix, which the server may change (FAILURES A10)."""
        rule = self._world.quirks.value(saves.SAMPLER_SUFFIX, trainer.owner.subject)
        stem = _SESSION_SUFFIX.sub("", name)
        return {"session": name, "none": stem}.get(rule) or f"{stem}-{self._world.ids.hex(8)}"

    def _check_free_of_samplers(self, trainer: Trainer, scope: CheckpointScope, name: str) -> None:
        """Sampler weights never take the place of a training state; of others of their name they do (FAILURES B14)."""
        row = self._checkpoints.at(scope, name)
        if row is None:
            return
        if resumable(row.kind):
            raise AlreadyExists(f"checkpoint {name!r} already exists and holds a training state: choose another name")
        if self._world.quirks.value(saves.SAMPLER_ON_DUPLICATE, trainer.owner.subject) == "conflict":
            raise AlreadyExists(f"checkpoint {name!r} already exists (step {row.step}): choose another name")

    def _sampler_ttl(self, trainer: Trainer, model: LiveModel, request: Request) -> float:
        """Seconds until a sampler save expires, 0 where the service keeps it with its job (FAILURES B16)."""
        kept = not model.native and self._world.quirks.value(saves.TTL, trainer.owner.subject) == "reject"
        return 0.0 if kept else self._ttl(trainer, model, request)

    def _ttl(self, trainer: Trainer, model: LiveModel, request: Request) -> float:
        """Seconds until the row to be saved expires, 0 never (FAILURES B5); raises InvalidArgument."""
        ttl = request.get("ttl_seconds")
        if ttl is None:
            return 0.0
        rule = "min_3600" if model.native else self._world.quirks.value(saves.TTL, trainer.owner.subject)
        if rule == "reject":
            raise InvalidArgument("save_weights: ttl_seconds is not supported; checkpoints are kept with their job")
        least = 3600 if rule == "min_3600" else 1
        if type(ttl) not in (int, float) or ttl < least:
            raise InvalidArgument(f"ttl_seconds is {str(ttl)[:40]!r}, use at least {least}")
        return float(ttl)


def _pooled(model: LiveModel) -> bool:
    """Say whether the pool's rules for names hold: there the name of the run comes before that of a save."""
    return bool(model.scope.run) and not model.native
