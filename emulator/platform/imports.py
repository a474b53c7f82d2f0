"""Brings in what was listed elsewhere: checkpoint rows, with files of their kinds, and data sets and managed jobs.

The rows keep their names, kinds and times. The files are made here, from the base model and an optimizer that has
counted so many steps without changing anything: they load, resume and are promoted as files of their kind do, and what
they were trained to is not in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from emulator.backend import Backend, BackendError, CheckpointType, LoraSpec, ModelSpec, SavedState, Trainer
from emulator.core.clock import FURTHEST, SECOND, Clock, parse_rfc3339
from emulator.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from emulator.core.kinds import CheckpointKind, resumable
from emulator.core.names import resource
from emulator.platform.checkpoints.checkpoints import Checkpoints
from emulator.platform.jobs.jobs import Jobs
from emulator.platform.jobs.spec import JobSpec
from emulator.platform.managed import RECIPES
from emulator.platform.models.models import Models
from emulator.platform.trainers.training_sessions import READY
from emulator.state.blobs import Blobs
from emulator.state.entities import Checkpoint, Run, Session
from emulator.state.managed import Managed
from emulator.state.world import World

Collection = Literal["rlorTrainerJobs", "trainingSessions", "supervisedFineTuningJobs", "dpoJobs"]
MOST_STEPS = 1000
"""Optimizer steps that are counted for a file; a row of a later step has a file that says this many."""
_LORA = frozenset({CheckpointKind.TRAINING_LORA, CheckpointKind.INFERENCE_LORA})
_FULL = frozenset({CheckpointKind.TRAINING, CheckpointKind.INFERENCE_ARC_V2})


@dataclass(frozen=True)
class ImportedRow:
    """A row as it was listed; `created` in microseconds, 0 where the listing does not say; `step` by its name."""

    id: str
    kind: CheckpointKind
    created: int = 0
    step: int = 0


@dataclass(frozen=True)
class Listed:
    """The rows of one job or session, oldest first. `lora_rank` 0 is full-parameter; `blobs` False leaves no files."""

    collection: Collection
    id: str
    base_model: str
    lora_rank: int
    rows: Sequence[ImportedRow]
    blobs: bool = True
    display_name: str = ""


@dataclass
class _Maker:
    """Makes the files of rows, one after the other, with a model that takes steps and never learns."""

    backend: Trainer
    spec: ModelSpec
    step: int = 0
    snapshots: list[str] = field(default_factory=list)

    def write(self, row: ImportedRow, folder: Path, throwaway: Path) -> str | None:
        """Write what a save of this kind writes; the snapshot that a delta is to be applied to, if it is one."""
        self._go_to(min(row.step, MOST_STEPS))
        if resumable(row.kind):
            _written(self.backend.save_state(self.spec.model_id, folder))
            return None
        how: CheckpointType = "base"
        if row.kind is CheckpointKind.INFERENCE_ARC_V2:
            how = "delta"
            if not self.snapshots:
                self._sample(throwaway, "before-the-first", "base")
        elif row.kind is CheckpointKind.INFERENCE_BASE and self.spec.lora is not None:
            self._merged(row.id, folder)
            return None
        return self._sample(folder, row.id, how)

    def _merged(self, identity: str, folder: Path) -> None:
        """Write what merging leaves; an untouched adapter cannot be merged, and would change nothing."""
        whole = replace(self.spec, model_id="merged", lora=None)
        self.backend.create_model(whole)
        _written(self.backend.save_sampler(whole.model_id, folder, identity=identity))
        self.backend.unload_model(whole.model_id)

    def _sample(self, folder: Path, identity: str, how: CheckpointType) -> str | None:
        state = self.backend.save_sampler(self.spec.model_id, folder, identity=identity, checkpoint_type=how)
        _written(state).acknowledged()
        self.snapshots.append(identity)
        return state.previous_snapshot

    def _go_to(self, step: int) -> None:
        if step < self.step:
            self.backend.unload_model(self.spec.model_id)
            self.backend.create_model(self.spec)
            self.step, self.snapshots = 0, []
        still = {"learning_rate": 0.0, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0}
        while self.step < step:
            self.backend.optim_step(self.spec.model_id, still, None)
            self.step += 1


def _written(state: SavedState) -> SavedState:
    if state.write is not None:
        state.write()
    return state


class Imports:
    """Brings things into a world that has neither the job nor the session yet."""

    def __init__(
        self, world: World, blobs: Blobs, backend: Backend, models: Models, jobs: Jobs, checkpoints: Checkpoints
    ) -> None:
        self._world = world
        self._blobs = blobs
        self._backend = backend
        self._models = models
        self._jobs = jobs
        self._checkpoints = checkpoints

    def rows(self, account: str, listed: Listed) -> str:
        """Bring in a job or session with its rows; its full name.

        Raises AlreadyExists for one that is there, InvalidArgument for rows that one job cannot have,
        FailedPrecondition where the backend cannot make such files.
        """
        self._check(listed)
        owner = resource(account, listed.collection, listed.id)
        known = (self._world.jobs, self._world.sessions, self._world.managed)
        if any(owner in table for table in known):
            raise AlreadyExists(f"{owner} is there already: import into another state folder")
        found = self._made(account, owner, listed)
        self._begin(account, owner, listed)  # the files were made before: what fails leaves nothing
        for checkpoint, staged in found:
            self._checkpoints.adopt(checkpoint, staged)
        return owner

    def managed(self, account: str, collection: str, identifier: str, body: Mapping[str, Any]) -> str:
        """Bring in a data set or a managed job, to be read; its full name. Raises AlreadyExists, InvalidArgument."""
        name = resource(account, collection, identifier)
        if name in self._world.managed:
            raise AlreadyExists(f"{name} is there already")
        created = _time(str(body.get("createTime") or ""), self._world.clock)
        config = body.get("trainingConfig")
        config = config if isinstance(config, Mapping) else body
        state = str(body.get("state") or ("READY" if collection == "datasets" else "JOB_STATE_COMPLETED"))
        rank = config.get("loraRank")
        entity = Managed(account, collection, identifier, created, state, base_model=str(config.get("baseModel") or ""))
        entity.lora_rank = rank if type(rank) is int else 0
        kept = {key: value for key, value in body.items() if key not in ("name", "createTime", "state")}
        there = str(body.get("name") or "").partition("accounts/")[2].partition("/")[0]
        entity.body = _moved(kept, f"accounts/{there}/", f"accounts/{account}/") if there else kept
        with self._world.change():
            self._world.managed.put(entity)
        return name

    def _check(self, listed: Listed) -> None:
        kinds = {row.kind for row in listed.rows}
        if kinds & _LORA and kinds & _FULL:
            raise InvalidArgument("these rows are of LoRA and of full-parameter training: give those of one job")
        if kinds & _LORA and not listed.lora_rank:
            raise InvalidArgument("these rows are of LoRA training: give lora_rank, 1 or more")
        if kinds & _FULL and listed.lora_rank:
            raise InvalidArgument("these rows are of full-parameter training: leave lora_rank out")
        ids = [row.id for row in listed.rows]
        if len(ids) != len(set(ids)):
            raise InvalidArgument("a row is listed twice: give each once")

    def _made(self, account: str, owner: str, listed: Listed) -> list[tuple[Checkpoint, Path | None]]:
        """The rows with their staged files; raises FailedPrecondition, and leaves no files then."""
        made: list[tuple[Checkpoint, Path | None]] = []
        maker = self._maker(listed) if listed.blobs and listed.rows else None
        times = _times(listed.rows, self._world.clock)
        try:
            for row, created in zip(listed.rows, times, strict=True):
                checkpoint = Checkpoint(
                    owner=owner, id=row.id, created=created, updated=created, kind=row.kind, step=row.step,
                    blob=f"{account}/{listed.id}/{row.id.replace(':', '-')}~missing",
                    base_model=listed.base_model, lora_rank=listed.lora_rank,
                    saved_as="" if resumable(row.kind) else "base",
                )  # fmt: skip
                staged = None
                if maker is not None:
                    staged, aside = self._blobs.stage(), self._blobs.stage()
                    made.append((checkpoint, staged))
                    checkpoint.previous_snapshot = maker.write(row, staged, aside)
                    self._blobs.discard(aside)
                else:
                    made.append((checkpoint, None))
        except BackendError as error:
            for _, folder in made:
                if folder is not None:
                    self._blobs.discard(folder)
            raise FailedPrecondition(f"no files of these kinds can be made: {error.message}") from error
        finally:
            if maker is not None:
                maker.backend.close()
        return made

    def _maker(self, listed: Listed) -> _Maker:
        base = self._models.base(listed.base_model)
        try:
            trainer = self._backend.open_trainer(base, lora_rank=listed.lora_rank, max_context_length=4096)
            lora = LoraSpec(listed.lora_rank) if listed.lora_rank else None
            spec = ModelSpec("imported", base, lora)
            trainer.create_model(spec)
        except BackendError as error:
            raise FailedPrecondition(f"no files of these kinds can be made: {error.message}") from error
        return _Maker(trainer, spec)

    def _begin(self, account: str, owner: str, listed: Listed) -> None:
        """Put the owner there, older than its first row."""
        times = _times(listed.rows, self._world.clock)
        born = min(times, default=self._world.clock.now()) - SECOND
        if listed.collection == "rlorTrainerJobs":
            spec = JobSpec(listed.base_model, listed.lora_rank, display_name=listed.display_name)
            job = self._jobs.create(account, spec, listed.id)
            with self._world.change():
                job.created = born
                self._world.jobs.put(job)
        elif listed.collection in RECIPES:
            self.managed(account, listed.collection, listed.id, {"baseModel": listed.base_model})
        else:
            self._begin_session(account, owner, listed, born)

    def _begin_session(self, account: str, owner: str, listed: Listed, born: int) -> None:
        now = self._world.clock.now()
        context = self._models.visible(account, listed.base_model).context_length
        session = Session(
            account, listed.id, born, now, READY, base_model=listed.base_model, lora_rank=listed.lora_rank,
            max_context_length=context, last_activity=now,
        )  # fmt: skip
        with self._world.change():
            self._world.sessions.put(session)
            for row in listed.rows:
                run = run_of(row.id)
                if run and resource(account, "trainingRuns", run) not in self._world.runs:
                    self._world.runs.put(Run(account, run, owner, born, listed.base_model))


def run_of(row_id: str) -> str:
    """The run that a row of a session is named after, "" for another row."""
    head, _, _ = row_id.partition(":")
    parts = head.split("-")
    return "-".join(parts[:2]) if len(parts) > 1 and parts[0] == "run" and len(parts[1]) == 32 else ""


def _moved(value: Any, there: str, here: str) -> Any:
    """The same, with names of one account being names of another."""
    if isinstance(value, str):
        return here + value.removeprefix(there) if value.startswith(there) else value
    if isinstance(value, Mapping):
        return {key: _moved(one, there, here) for key, one in value.items()}
    return [_moved(one, there, here) for one in value] if isinstance(value, list) else value


def _times(rows: Sequence[ImportedRow], clock: Clock) -> list[int]:
    """Return the times of creation, rising: a row without one comes after the row before it."""
    times: list[int] = []
    for row in rows:
        before = times[-1] if times else 0
        times.append(max(before + 1, row.created or (before + 1 if before else clock.now())))
    return times


def _time(text: str, clock: Clock) -> int:
    try:
        moment = parse_rfc3339(text)
    except ValueError:
        return clock.now()
    return moment if 0 <= moment <= FURTHEST else clock.now()
