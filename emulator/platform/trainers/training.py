"""The sequenced operations of a model: steps, saves, loads (WIRE 2.8 to 2.10), run on the trainer's worker thread."""

from collections.abc import Callable, Mapping
from typing import Any

from emulator.core.adam import ADAM, NORMALIZATIONS
from emulator.core.errors import FailedPrecondition, InvalidArgument, NotFound
from emulator.core.kinds import resumable
from emulator.core.names import CheckpointScope
from emulator.platform import route_files
from emulator.platform.checkpoints.checkpoints import Checkpoints
from emulator.platform.models.models import ADDON, Models
from emulator.platform.route_files import RouteFiles
from emulator.platform.trainers.curves import Curves
from emulator.platform.trainers.futures import Promise
from emulator.platform.trainers.owners import Owners
from emulator.platform.trainers.requests import Request, batch_of, named
from emulator.platform.trainers.saving import Saving
from emulator.platform.trainers.trainer import Answer, Later, LiveModel, Trainer, check_fits
from emulator.platform.usage import Usages
from emulator.quirks import inference, loads, saves, trainers
from emulator.state.blobs import Blobs
from emulator.state.entities import Checkpoint
from emulator.state.world import World

TRAINING = frozenset({"forward_backward", "optim_step", "save_weights"})
"""Operations on a model that is trained, which a frozen reference model is not."""
NATIVE = frozenset({"save_weights_external"})


class Training:
    """Accepts operations on models and carries them out."""

    def __init__(
        self,
        world: World,
        blobs: Blobs,
        checkpoints: Checkpoints,
        owners: Owners,
        models: Models,
        curves: Curves,
        routes: RouteFiles,
        usages: Usages,
    ) -> None:
        self._world = world
        self._saving = Saving(world, blobs, checkpoints, curves)
        self._checkpoints = checkpoints
        self._owners = owners
        self._models = models
        self._curves = curves
        self._routes = routes
        self._usages = usages
        self._verbs: Mapping[str, Callable[[Trainer, LiveModel, Request], Answer | Later]] = {
            "forward": self._forward,
            "forward_backward": self._forward_backward,
            "optim_step": self._optim_step,
            "save_weights": self._saving.state,
            "save_weights_for_sampler": self._saving.sampler,
            "save_weights_external": self._saving.external,
            "load_weights": self._load_state,
            "load_adapter": self._load_adapter,
        }

    @property
    def verbs(self) -> frozenset[str]:
        """The operations that take a place in a model's sequence, but for those of tinker's own service alone."""
        return frozenset(self._verbs) - NATIVE

    def submit(
        self, trainer: Trainer, verb: str, request: Request, fingerprint: bytes, check: Callable[[], None]
    ) -> Promise:
        """Accept an operation; raises InvalidArgument only for a body that names no model or no number.

        What `check` raises fails the operation, as everything else that is wrong with its body.
        """
        model_id, seq = request.get("model_id"), request.get("seq_id")
        if not isinstance(model_id, str) or not model_id:
            raise InvalidArgument(f"{verb}: model_id is required")
        if seq is not None and (type(seq) is not int or seq < 0):
            raise InvalidArgument(f"{verb}: seq_id must be a number, got {str(seq)[:40]!r}")
        act = self._verbs[verb]

        def work() -> Answer | Later:
            check()
            return act(trainer, trainer.model(model_id, verb if verb in TRAINING else ""), request)

        return trainer.submit(verb, model_id, work, seq=seq, fingerprint=fingerprint)

    def names(self, trainer: Trainer) -> list[str]:
        """Ids of the listed rows that load_weights accepts, oldest first (the gateway's list_checkpoints)."""
        rows = self._checkpoints.rows(trainer.owner.name)
        return [row.id for row in rows if resumable(row.kind) and row.pending is None]

    def _forward(self, trainer: Trainer, model: LiveModel, request: Request) -> Answer:
        batch = self._routed(trainer, batch_of(request, "forward_input"))
        result = trainer.backend.forward(model.id, batch)
        self._count(model, batch, backward=False)
        return result

    def _forward_backward(self, trainer: Trainer, model: LiveModel, request: Request) -> Answer:
        batch = self._routed(trainer, batch_of(request, "forward_backward_input"))
        result = trainer.backend.forward_backward(model.id, batch)
        self._curves.forward_backward(model, batch, result)
        self._count(model, batch, backward=True)
        return result

    def _count(self, model: LiveModel, batch: Mapping[str, Any], *, backward: bool) -> None:
        scope, base = model.scope, model.spec.base_model.name
        self._usages.stepped(scope.account, scope.owner, base, batch, backward=backward)

    def _routed(self, trainer: Trainer, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """The batch with routes that are kept as files, where the trainer says that it takes them (FAILURES E40)."""
        if self._world.quirks.value(inference.ROUTING_FORMAT, trainer.owner.subject) != route_files.FORMAT:
            return batch
        return self._routes.inline(route_files.store_of(trainer.owner.id), batch)

    def _optim_step(self, trainer: Trainer, model: LiveModel, request: Request) -> Answer:
        params = request.get("adam_params") or {}
        normalization = request.get("grad_accumulation_normalization")
        if not isinstance(params, Mapping):
            raise InvalidArgument("optim_step: adam_params must be an object")
        if normalization not in (None, *NORMALIZATIONS):
            raise InvalidArgument(
                f"optim_step: unknown grad_accumulation_normalization {str(normalization)[:40]!r}: "
                "use num_loss_tokens, num_sequences or none"
            )
        trainer.pause(trainers.OPTIM_SLOW_S)
        chosen = {**ADAM, **{key: value for key, value in params.items() if value is not None}}
        metrics = trainer.backend.optim_step(model.id, chosen, None if normalization == "none" else normalization)
        self._curves.optim_step(model, metrics, float(chosen["learning_rate"]))
        return {"metrics": dict(metrics)}

    def _load_state(self, trainer: Trainer, model: LiveModel, request: Request) -> Answer:
        path = named(request, "load_weights", "path")
        quirks, subject = self._world.quirks, trainer.owner.subject
        if quirks.value(loads.FIRST_REQUEST_ONLY, subject) and request.get("seq_id") != 1:
            raise InvalidArgument(f"LoadWeights is not permitted with seq_id {request.get('seq_id')}")
        try:
            row = self._resolve(trainer, model.scope, path)
        except NotFound:
            if quirks.spend(loads.MISSING, subject) == "ignored":  # done, and nothing loaded (FAILURES C27)
                return {"path": path, "type": "load_weights"}
            raise
        self._check_durable(path, row)
        # Another job's row is taken for that job's newest one, in silence (FAILURES C28).
        if row.owner != model.scope.owner and quirks.spend(loads.RESOLVES, subject) == "newest":
            row = next(one for one in reversed(self._checkpoints.rows(row.owner)) if resumable(one.kind))
        check_fits(row, model)
        optimizer = request.get("optimizer")
        if optimizer is None:
            optimizer = quirks.value(loads.DEFAULT_OPTIMIZER, subject)
        kept = bool(optimizer) and not quirks.spend(loads.DROP_OPTIMIZER, subject)
        live = not kept and quirks.value(loads.WEIGHTS_ONLY, subject) == "keep"
        trainer.backend.load_state(model.id, self._checkpoints.folder(row), optimizer=kept, keep_optimizer=live)
        self._curves.loaded(model, row.name)
        return {"path": path, "type": "load_weights"}

    def _load_adapter(self, trainer: Trainer, model: LiveModel, request: Request) -> Answer:
        path = named(request, "load_adapter", "adapter_path")
        if not model.lora_rank:
            raise FailedPrecondition("load_adapter: this model trains all parameters; create it with a LoRA rank")
        adapter = self._models.visible(trainer.owner.account, path)
        if adapter.kind != ADDON:
            raise InvalidArgument(f"load_adapter: {path} is a {adapter.kind}, not a LoRA add-on (HF_PEFT_ADDON)")
        if adapter.lora_rank and adapter.lora_rank != model.lora_rank:
            raise InvalidArgument(
                f"load_adapter: {path} has rank {adapter.lora_rank}, the model {model.lora_rank}: "
                f"train with lora_rank {adapter.lora_rank}"
            )
        trainer.backend.load_adapter(model.id, self._models.folder(adapter))
        self._curves.loaded(model, adapter.name)
        return {"model_id": model.id, "adapter_path": path, "type": "load_adapter"}

    def _resolve(self, trainer: Trainer, scope: CheckpointScope, path: str) -> Checkpoint:
        """The row to load; sampler weights used to take the trainer down with them (FAILURES C1)."""
        try:
            return self._checkpoints.resolve(scope, path)
        except FailedPrecondition:
            if self._world.quirks.spend(loads.SAMPLER_PATH_KILLS_TRAINER, trainer.owner.subject):
                self._owners.preempt(trainer.owner)
            raise

    def _check_durable(self, path: str, row: Checkpoint) -> None:
        """Fresh state may not be where other jobs look for it, nor that of a cleared trainer (FAILURES C3, F12)."""
        if not path.startswith("cross_job://"):
            return
        source = self._world.jobs.get(row.owner)
        if source is not None and source.request_state_cleared:
            raise NotFound(f"Trainer job not found or not running: the request state of {row.owner} was cleared")
        lag = self._world.quirks.value(saves.DCP_DURABLE_AFTER_S, row.subject)
        if lag > 0 and not self._world.clock.has_lasted(row.created, lag):
            raise NotFound(f"checkpoint {row.id!r} not found on {row.owner}")
