"""The sequenced operations of a model: steps, saves, loads (WIRE 2.8 to 2.10), run on the trainer's worker thread."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from emulator.backend import SavedState
from emulator.core.adam import ADAM, NORMALIZATIONS
from emulator.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from emulator.core.kinds import resumable
from emulator.core.names import CheckpointScope
from emulator.platform import route_files
from emulator.platform.checkpoints import exports
from emulator.platform.checkpoints.checkpoints import Checkpoints
from emulator.platform.models.models import ADDON, Models
from emulator.platform.route_files import RouteFiles
from emulator.platform.trainers.curves import Curves
from emulator.platform.trainers.external import EXTERNAL, sealer
from emulator.platform.trainers.futures import Promise
from emulator.platform.trainers.later import Later
from emulator.platform.trainers.native import SUFFIXES
from emulator.platform.trainers.owners import Owners
from emulator.platform.trainers.requests import Request, batch_of, named, pooled
from emulator.platform.trainers.saving import Saving, Wanted, then
from emulator.platform.trainers.trainer import Answer, LiveModel, Trainer, check_fits
from emulator.platform.usage import Usages
from emulator.quirks import inference, loads, saves, trainers
from emulator.state.blobs import Blobs
from emulator.state.entities import Checkpoint
from emulator.state.world import World

_SESSION_SUFFIX = re.compile(r"-[0-9a-f]{8}$")
TRAINING = frozenset({"forward_backward", "optim_step", "save_weights"})
"""Operations on a model that is trained, which a frozen reference model is not."""
NATIVE = frozenset({"save_weights_external"})
SAMPLER_TYPES = ("base", "delta", "merged_base")


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
        self._saving = Saving(blobs, checkpoints, curves)
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
            "save_weights": self._save_state,
            "save_weights_for_sampler": self._save_sampler,
            "save_weights_external": self._save_external,
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

    def _save_state(self, trainer: Trainer, model: LiveModel, request: Request) -> Answer | Later:
        name = named(request, "save_weights", "path")
        ttl_s = self._ttl(trainer, model, request)
        self._checkpoints.check_name(trainer.owner.subject, name, serverless=pooled(model))

        def write(folder: Any) -> SavedState:
            state = trainer.backend.save_state(model.id, folder)
            self._checkpoints.check_free(model.scope, name, state.step)
            return state

        wanted = Wanted(name, "save_weights", lambda row: self._state_answer(trainer, model, name), ttl_s)
        return self._saving.save(trainer, model, wanted, write)

    def _state_answer(self, trainer: Trainer, model: LiveModel, name: str) -> Answer:
        if model.native:
            return {"path": f"tinker://{model.id}/weights/{name}", "type": "save_weights"}
        job = trainer.owner.id
        styles = {"tinker_uri": f"tinker://{job}/weights/{name}", "gs_uri": f"gs://emulator/{job}/{name}"}
        style = self._world.quirks.value(saves.PATH_STYLE, trainer.owner.subject)
        return {"path": styles.get(style) or model.scope.path(name), "type": "save_weights"}

    def _save_sampler(self, trainer: Trainer, model: LiveModel, request: Request) -> Answer | Later:
        asked = named(request, "save_weights_for_sampler", "path")
        stem = _SESSION_SUFFIX.sub("", asked)  # the client adds its session's digits before it asks
        self._checkpoints.check_name(trainer.owner.subject, stem, serverless=pooled(model), sampler=not model.native)
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

        return self._saving.save(trainer, model, Wanted(name, how, answer, ttl_s), write)

    def _save_external(self, trainer: Trainer, model: LiveModel, request: Request) -> Answer | Later:
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

        return self._saving.save(trainer, model, Wanted(name, EXTERNAL, answer, ttl_s, seal), write)

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
