"""The trainer: forward, forward_backward and optim_step on real models, and the doors to their checkpoints.

Determinism: dropout is off, every sum has a fixed order, and random numbers are drawn only when a model is built. Two
runs of the same program on the same CPU give the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from emulator.backend import BackendError, BaseModel, CheckpointType, LiveModels, ModelInfo, ModelSpec, SavedState
from emulator.core.adam import NORMALIZATIONS
from ftsim.compute.checkpoints import dcp, peft, sampler
from ftsim.compute.execution import FLOAT32, Execution
from ftsim.compute.trainer import embeddings, head, live, losses, optimizer
from ftsim.compute.trainer.batching import Datum, Limits, MicroBatch, micro_batches, parse
from ftsim.compute.trainer.compute import Done, check, fill, result
from ftsim.compute.trainer.gradients import Gradients
from ftsim.compute.trainer.live import LiveModel


class TorchTrainer(LiveModels[LiveModel]):
    """`emulator.backend.Trainer` in torch; `lora_rank` 0 means that LoRA models are refused."""

    def __init__(
        self,
        folder_of: Callable[[BaseModel], Path],
        *,
        tokenizer_of: Callable[[BaseModel], str] = lambda base: base.name,
        lora_rank: int = 0,
        max_context_length: int = 0,
        device: str = "cpu",
        how: Execution = FLOAT32,
        micro_batch_tokens: int = 8192,
    ) -> None:
        super().__init__()
        self._folder_of = folder_of
        self._tokenizer_of = tokenizer_of
        self._lora_rank = lora_rank
        self._max_context_length = max_context_length
        self._device = torch.device(device)
        self._how = how
        self._budget = micro_batch_tokens

    def create_model(self, spec: ModelSpec) -> Mapping[str, Any]:
        """Build a model; two calls with one spec give the same weights."""
        if spec.lora is not None and self._lora_rank < 1:  # the mode is the trainer's, not the client's (FAILURES C10)
            raise BackendError(
                "create_model requested LoRA mode, but trainer was initialized without LoRA config; "
                "create the job with the loraRank of the client"
            )
        if spec.lora is not None and not 1 <= spec.lora.rank <= self._lora_rank:
            raise BackendError(f"lora_rank must be between 1 and {self._lora_rank}, not {spec.lora.rank}")
        model = live.build(spec, self._folder_of(spec.base_model), self._device, self._how)
        self._models[spec.model_id] = model
        return {"supports_reinforce": True, "supports_router_replay": model.routers.shape is not None}

    def info(self, model_id: str) -> ModelInfo:
        model = self._model(model_id)
        return ModelInfo(
            arch=model.bare.config.model_type,
            model_name=model.spec.base_model.name,
            tokenizer_id=self._tokenizer_of(model.spec.base_model),
            lora_rank=model.spec.lora.rank if model.spec.lora else 0,
        )

    def forward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Log-probabilities of the target tokens, nothing else changes.

        Each output holds `logprobs` shaped like `target_tokens`; with `loss_fn_config.top_k` = K also `top_k_logprobs`
        and `top_k_indices` (T, K). For cross_entropy the metric `loss:sum` comes along.
        """
        model = self._model(model_id)
        if embeddings.wanted(batch):
            return self._embed(model, batch, backward=False)
        loss, config = losses.named(batch.get("loss_fn")), _config(batch)
        top_k = _top_k(config, model)
        settings = loss.configure(config)
        datums = parse(batch, self._limits(model), trains=False)
        check(datums, ())

        def score(micro: MicroBatch, done: Done) -> None:
            found = head.score(model, micro, top_k)
            if loss.multi_target:
                done.total += float(loss.summands(found.logprobs, micro.tensors, settings, micro.row).double().sum())
            fill(done.outputs, micro, logprobs=found.logprobs)
            if found.best is not None and found.indices is not None:
                fill(done.outputs, micro, top_k_logprobs=found.best, top_k_indices=found.indices)

        with torch.no_grad():
            done = self._run(model, datums, score)
        return result(done.outputs, {"loss:sum": done.total} if loss.multi_target else {})

    def forward_backward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add the gradient of this batch's summed loss to what is accumulated; on any error nothing changes."""
        model = self._trainable(model_id)
        if embeddings.wanted(batch):
            return self._embed(model, batch, backward=True)
        loss = losses.named(batch.get("loss_fn"))
        settings = loss.configure(_config(batch))
        datums = parse(batch, self._limits(model), trains=True, acting=loss.acting)
        check(datums, loss.tensors, multi_target=loss.multi_target)

        def differentiate(micro: MicroBatch, done: Done) -> None:
            found = head.differentiate(model, micro, loss, settings)
            done.total += found.total
            moved = found.slope.ne(0) if found.slope.dim() == 1 else found.slope.ne(0).any(-1)
            done.tokens += int(moved.sum())
            done.sequences += len(torch.unique(micro.row[moved]))
            fill(done.outputs, micro, logprobs=found.logprobs)

        with Gradients(model) as gradients:
            done = self._run(model, datums, differentiate)
            self._combine(model)
            gradients.keep()
        model.loss_tokens += done.tokens
        model.loss_sequences += done.sequences
        return result(done.outputs, {"loss:sum": done.total})

    def optim_step(
        self, model_id: str, adam_params: Mapping[str, Any], normalization: str | None
    ) -> Mapping[str, float]:
        """Normalise, clip, step (WIRE 2.9); without accumulated gradients it is a step on zero gradients."""
        model = self._trainable(model_id)
        params = optimizer.AdamParams.parse(adam_params)
        if normalization not in (None, *NORMALIZATIONS):
            known = ", ".join(NORMALIZATIONS)
            raise BackendError(f"unknown grad_accumulation_normalization {normalization!r}; expected one of {known}")
        divisors = {"num_loss_tokens": model.loss_tokens, "num_sequences": model.loss_sequences}
        if all(value.grad is None for value in model.trained.values()):
            for value in model.trained.values():
                value.grad = torch.zeros_like(value)
        metrics = {"num_loss_tokens": float(model.loss_tokens), "num_sequences": float(model.loss_sequences)}
        divisor = divisors.get(normalization or "none", 1)
        model.loss_tokens = model.loss_sequences = 0
        sampler.settle(model)
        metrics |= optimizer.apply(model.optimizer, model.trained, params, divisor)
        model.masters.publish()
        model.step += 1
        return metrics | {"lr": params.learning_rate, "step": float(model.step)}

    def save_state(self, model_id: str, folder: Path) -> SavedState:
        model = self._trainable(model_id)
        if model.how.async_save:
            return SavedState(model.step, write=partial(dcp.staged(model), folder))
        dcp.save(model, folder)
        return SavedState(model.step)

    def load_state(self, model_id: str, folder: Path, *, optimizer: bool, keep_optimizer: bool = False) -> None:
        model = self._trainable(model_id)
        sampler.settle(model)
        dcp.load(model, folder, optimizer=optimizer, keep_optimizer=keep_optimizer)

    def save_sampler(
        self,
        model_id: str,
        folder: Path,
        *,
        identity: str,
        checkpoint_type: CheckpointType = "base",
        export_precision: str | None = None,
    ) -> SavedState:
        return sampler.save(self._trainable(model_id), folder, identity, checkpoint_type, export_precision)

    def load_adapter(self, model_id: str, folder: Path) -> None:
        peft.load(self._trainable(model_id), folder)

    def _run(self, model: LiveModel, datums: Sequence[Datum], work: Callable[[MicroBatch, Done], None]) -> Done:
        """Do work on every micro-batch of a request, one after the other."""
        done = Done.of(datums)
        for micro in self._split(model, datums):
            work(micro, done)
        return done

    def _combine(self, model: LiveModel) -> None:
        """Make of the gradients of this process those of the request: here they are."""

    def _limits(self, model: LiveModel) -> Limits:
        config = model.bare.config.get_text_config()
        lengths = [n for n in (self._max_context_length, config.max_position_embeddings) if n]
        vocabulary = model.bare.get_input_embeddings().num_embeddings
        return Limits(vocabulary, min(lengths), model.routers.shape, model.sight)

    def _split(self, model: LiveModel, datums: Sequence[Datum]) -> Sequence[MicroBatch]:
        return list(micro_batches(datums, self._budget, self._device, model.sight))

    def _embed(self, model: LiveModel, batch: Mapping[str, Any], *, backward: bool) -> Mapping[str, Any]:
        datums = parse(batch, self._limits(model), trains=backward)
        if any(datum.routes is not None for datum in datums):
            raise BackendError("'routing_matrices' goes with log-probabilities: leave it out of embeddings")
        micros = self._split(model, datums)
        if not backward:
            outputs, metrics, _ = embeddings.run(model, batch, datums, micros, backward=False)
            return result(outputs, metrics)
        with Gradients(model) as gradients:
            outputs, metrics, counts = embeddings.run(model, batch, datums, micros, backward=True)
            gradients.keep()
        model.loss_tokens += counts[0]
        model.loss_sequences += counts[1]
        return result(outputs, metrics)


def _top_k(config: dict[str, Any], model: LiveModel) -> int:
    """Take `top_k` out of a forward's config."""
    top_k = config.pop("top_k", 0)
    vocabulary = model.bare.get_input_embeddings().num_embeddings
    return int(losses.Key(0, 0, vocabulary).check("top_k", top_k))


def _config(batch: Mapping[str, Any]) -> dict[str, Any]:
    """`loss_fn_config` without the one value of `target_logprob_support` that needs no advertised capability."""
    config = batch.get("loss_fn_config") or {}
    if not isinstance(config, Mapping):
        raise BackendError("loss_fn_config must be an object")
    if config.get("target_logprob_support", "full_vocabulary") != "full_vocabulary":
        raise BackendError("target_logprob_support: this trainer computes 'full_vocabulary' log-probabilities only")
    return {key: value for key, value in config.items() if key != "target_logprob_support"}
