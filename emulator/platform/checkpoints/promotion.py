"""Promotion: a row's blob becomes a model (WIRE 1.10, 1.11, 5.7; FAILURES D).

Every check comes before the first byte is copied; the copy is staged, opened and only then named, so that a failure
leaves nothing behind.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from emulator.backend import Backend, BackendError, ModelDescription
from emulator.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PlatformError
from emulator.core.kinds import PROMOTABLE, CheckpointKind, detect, promotable
from emulator.core.lifecycle import Progression
from emulator.core.names import OwnerName, Subject, split_output, split_resource
from emulator.platform.checkpoints import exports
from emulator.platform.checkpoints.checkpoints import GONE, Checkpoints
from emulator.platform.checkpoints.judgement import HOW_TO_SAVE, what_it_is
from emulator.platform.models.models import ADDON, READY, UPLOADING, Models
from emulator.platform.operations import Operations
from emulator.quirks import jobs, promotion
from emulator.state.blobs import Blobs
from emulator.state.entities import Checkpoint, Model, Operation
from emulator.state.records import record_for
from emulator.state.world import World


@dataclass(frozen=True)
class PromoteRequest:
    """`owner` is the job or session that lists the checkpoint.

    `knows_operations`: whether it held the field async_promotion; `wants_operation`: its value.
    """

    account: str
    owner: OwnerName
    checkpoint: str
    output_model: str
    base_model: str = ""
    deployment: str = ""
    knows_operations: bool = False
    wants_operation: bool = False

    @cached_property
    def subject(self) -> Subject:
        """Say what its quirks are selected by."""
        return Subject(account=self.account, job=self.owner.id, checkpoint=self.checkpoint)


class Promotion:
    """Turns promotable rows into models."""

    def __init__(
        self,
        world: World,
        blobs: Blobs,
        checkpoints: Checkpoints,
        models: Models,
        operations: Operations,
        backend: Backend,
    ) -> None:
        self._world = world
        self._blobs = blobs
        self._checkpoints = checkpoints
        self._models = models
        self._operations = operations
        self._backend = backend
        self._busy: set[str] = set()

    def promote(self, request: PromoteRequest) -> Model | Operation:
        """Check, copy, open, register; raises a PlatformError, and then nothing of it stays."""
        mode, rule = self._world.quirks.both(promotion.ASYNC, promotion.MODELS_ID_RULE, request.subject)
        if request.knows_operations and mode == "unsupported":
            raise InvalidArgument('unknown field "async_promotion" in PromoteCheckpointRequest')
        model_id = self._model_id(request, rule)
        row = self._row(request)
        self._check_base(request, row)
        with self._reserved(request, row) as done:
            model = done or self._copy(request, model_id, row)
        if request.wants_operation and mode == "operation":
            wait = self._world.quirks.value(promotion.DURATION_S, request.subject)
            metadata = {"statusMessage": f"copying {row.id} to {model.name}"}
            return self._operations.start(request.account, {"model": model.name}, metadata, wait)
        return model

    def _model_id(self, request: PromoteRequest, rule: str) -> str:
        """The id of the model to be made, which is looked at first, as the service does."""
        try:
            account, model_id = split_output(request.output_model, rule)
            if account != request.account:
                raise InvalidArgument(f"output_model {request.output_model!r} is not in account {request.account}")
        except InvalidArgument:
            self._orphan(request)
            raise
        return model_id

    def _row(self, request: PromoteRequest) -> Checkpoint:
        """The row to promote, if it can be."""
        row = self._checkpoints.find(request.owner, request.checkpoint)
        if row.kind not in PROMOTABLE:
            raise FailedPrecondition(self._refusal(row))
        if self._world.quirks.spend(promotion.PROMOTABLE_FLIPS, request.subject):
            raise FailedPrecondition(f"checkpoint {row.id!r} is not promotable any more: list the checkpoints again")
        return row

    def _refusal(self, row: Checkpoint) -> str:
        """Name the layer that is wrong, and the call that would have made a promotable row."""
        short = row.kind.value.removeprefix("CHECKPOINT_TYPE_")
        others = [other.id for other in self._checkpoints.rows(row.owner) if promotable(other.kind)]
        ready = f"; newest promotable row of this job: {others[-1]!r}" if others else ""
        return (
            f"checkpoint {row.id!r} is {short}, {what_it_is(row)}, which is not promotable (checkpointType is what the "
            f"server found in the blob, whatever the save was called): save with {HOW_TO_SAVE}{ready}"
        )

    def _check_base(self, request: PromoteRequest, row: Checkpoint) -> None:
        if not request.base_model:
            if self._world.quirks.value(promotion.BASE_MODEL, request.subject) == "required":
                raise InvalidArgument(f"base_model is required: {row.id!r} was trained from {row.base_model}")
            return
        if request.base_model != row.base_model:
            split_resource(request.base_model, "models")
            raise InvalidArgument(
                f"base_model {request.base_model} is not what {row.id!r} was trained from: use {row.base_model}"
            )

    @contextmanager
    def _reserved(self, request: PromoteRequest, row: Checkpoint) -> Iterator[Model | None]:
        """Hold the model's name while it is made; yields the model when the same source was promoted to it before."""
        name = request.output_model
        with self._world.lock:
            known = self._world.models.get(name)
            same = known is not None and known.source_checkpoint == row.name and self._may_repeat(request)
            if name in self._busy or (known is not None and not same):
                source = f", promoted from {known.source_checkpoint}" if known else " (a promotion is under way)"
                raise AlreadyExists(f"model {name} already exists{source}: choose another output model id")
            self._busy.add(name)
        try:
            yield known
        finally:
            self._busy.discard(name)

    def _may_repeat(self, request: PromoteRequest) -> bool:
        """Say whether a model may be made once more of the row that it was made of (FAILURES D5)."""
        return self._world.quirks.value(promotion.ON_EXISTING, request.subject) == "same_source_ok"

    def _copy(self, request: PromoteRequest, model_id: str, row: Checkpoint) -> Model:
        staged, digests = self._staged_copy(request, row)
        try:
            described = self._open(staged, row)
            rule, wait = self._world.quirks.both(promotion.ZERO_DELTA, promotion.DURATION_S, request.subject)
            note = self._note_untouched(rule, row, staged)
        except BaseException:
            self._blobs.discard(staged)
            raise
        key = f"{request.account}/models/{model_id}~{self._world.ids.hex_aside(8)}"
        model = self._made(request, model_id, row, key, described, digests, wait)
        model.description = note
        self._blobs.commit(staged, key, model.digests, record_for("model", model))
        try:
            with self._world.change():
                return self._world.models.put(model)
        except PlatformError:
            self._blobs.delete(key)
            raise

    def _staged_copy(self, request: PromoteRequest, row: Checkpoint) -> tuple[Path, dict[str, str]]:
        """A copy of the blob, unless a quirk has lost it (FAILURES D3, D12)."""
        quirks = self._world.quirks
        lost = quirks.spend(promotion.BLOB, request.subject) == "missing"
        legacy = quirks.value(jobs.LEGACY_BUCKET, request.subject) and not request.deployment
        if lost or legacy:
            raise NotFound(GONE.format(row.id))
        return self._checkpoints.staged_copy(row)

    def _open(self, staged: Path, row: Checkpoint) -> ModelDescription:
        """Look at the copy again: it must still be what the row says, and open."""
        if any(file.suffix == ".age" for file in staged.iterdir()):
            raise FailedPrecondition(
                f"the files of {row.id!r} are sealed for age recipients, to be taken away: promote what "
                "save_weights_for_sampler saved"
            )
        if detect(staged) is not row.kind:
            raise FailedPrecondition(f"the files of {row.id!r} are not whole any more: save it again")
        try:
            base = self._models.base(row.base_model) if row.kind is CheckpointKind.INFERENCE_LORA else None
            return self._backend.describe(staged, base)
        except BackendError as error:
            raise FailedPrecondition(f"checkpoint {row.id!r} does not open, save it again: {error.message}") from error

    def _made(
        self,
        request: PromoteRequest,
        model_id: str,
        row: Checkpoint,
        key: str,
        found: ModelDescription,
        digests: dict[str, str],
        wait: float,
    ) -> Model:
        adapter = row.kind is CheckpointKind.INFERENCE_LORA
        now = self._world.clock.now()
        pending = Progression(after_s=wait).to(READY, self._world.clock) if wait else None
        return Model(
            account=request.account,
            id=model_id,
            kind=ADDON if adapter else "HF_BASE_MODEL",
            created=now,
            updated=now,
            blob=key,
            base_model=row.base_model,
            state=UPLOADING if pending else READY,
            pending=pending,
            model_type=found.model_type,
            parameter_count=found.parameter_count,
            context_length=found.context_length,
            moe=found.moe,
            lora_rank=found.lora_rank,
            target_modules=list(found.target_modules),
            display_name=model_id,
            source_checkpoint=row.name,
            source_step=row.step,
            root=self._models.root(row.base_model),
            digests=digests,
        )

    def _note_untouched(self, rule: str, row: Checkpoint, staged: Path) -> str:
        """Say of weights that equal their base model's that they do (FAILURES H1); raises FailedPrecondition."""
        if rule == "accept":
            return ""
        base = self._models.folder(self._models.get(row.base_model))
        if not exports.is_zero(staged) and not exports.is_same(staged, base):
            return ""
        said = f"checkpoint {row.id!r} equals {row.base_model}: no optimizer step has changed its weights"
        if rule == "reject":
            raise FailedPrecondition(f"{said}: train before you promote")
        return said

    def _orphan(self, request: PromoteRequest) -> None:
        """A bad model id loses the blob for every later promotion too (FAILURES D3, case c)."""
        if self._world.quirks.spend(promotion.BLOB, request.subject) != "orphaned_after_bad_id":
            return
        row = self._world.checkpoints.get(f"{request.owner}/checkpoints/{request.checkpoint}")
        if row is not None:
            with self._world.change():
                row.blob = f"orphaned/{row.blob}"
                self._world.checkpoints.put(row)
