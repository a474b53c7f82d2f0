"""The trainer: forward, forward_backward and optim_step on real models, and the doors to their checkpoints.

Determinism: dropout is off, every sum has a fixed order, and random numbers are drawn only when a model is built. Two runs
of the same program on the same CPU give the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emulator.backend import BackendError, BaseModel, CheckpointType, ModelInfo, ModelSpec, SavedState
from ftsim import embeddings, live, losses, optimizer
from ftsim.batching import Datum, Limits, MicroBatch, array_record, micro_batches, parse
from ftsim.checkpoints import dcp, peft, sampler
from ftsim.live import LiveModel

LOWEST_LOGPROB = -1e30  # JSON knows no -Infinity (WIRE 2.8)


class TorchTrainer:
    """`emulator.backend.Trainer` in torch; `lora_rank` 0 means that LoRA models are refused."""

    def __init__(
        self,
        folder_of: Callable[[BaseModel], Path],
        *,
        lora_rank: int = 0,
        max_context_length: int = 0,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        micro_batch_tokens: int = 8192,
    ) -> None:
        self._folder_of = folder_of
        self._lora_rank = lora_rank
        self._max_context_length = max_context_length
        self._device = torch.device(device)
        self._dtype = dtype
        self._budget = micro_batch_tokens
        self._models: dict[str, LiveModel] = {}

    def create_model(self, spec: ModelSpec) -> Mapping[str, Any]:
        """Build a model; two calls with one spec give the same weights."""
        if spec.lora is not None and self._lora_rank < 1:  # FAILURES C10
            raise BackendError(
                "create_model requested LoRA mode, but trainer was initialized without LoRA config; "
                "create the job with the loraRank of the client"
            )
        if spec.lora is not None and not 1 <= spec.lora.rank <= self._lora_rank:
            raise BackendError(f"lora_rank must be between 1 and {self._lora_rank}, not {spec.lora.rank}")
        self._models[spec.model_id] = live.build(spec, self._folder_of(spec.base_model), self._device, self._dtype)
        return {"supports_reinforce": True}

    def unload_model(self, model_id: str) -> None:
        self._models.pop(model_id, None)

    def info(self, model_id: str) -> ModelInfo:
        held = self._held(model_id)
        name = held.spec.base_model.name
        return ModelInfo(
            arch=held.bare.config.model_type,
            model_name=name,
            tokenizer_id=name,
            lora_rank=held.spec.lora.rank if held.spec.lora else 0,
        )

    def forward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Log-probabilities of the target tokens, nothing else changes.

        Each output holds `logprobs` shaped like `target_tokens`; with `loss_fn_config.top_k` = K also `top_k_logprobs` and
        `top_k_indices` (T, K). For cross_entropy the metric `loss:sum` comes along.
        """
        held = self._held(model_id)
        if embeddings.wanted(batch):
            return self._embed(held, batch, backward=False)
        loss, config = losses.named(batch.get("loss_fn")), dict(batch.get("loss_fn_config") or {})
        top_k = _top_k(config, held)
        settings = loss.configure(config)
        datums = parse(batch, self._limits(held))
        check(datums, ())
        outputs: list[dict[str, Any]] = [{} for _ in datums]
        total = 0.0
        with torch.inference_mode():
            for micro in self._split(held, datums):
                logits = _logits(held, micro)
                lp = _logprobs(logits, micro)
                if loss.multi_target:
                    total += float(loss.summands(lp, micro.tensors, settings, micro.row).double().sum())
                _fill(outputs, micro, logprobs=lp)
                if top_k:
                    best, indices = torch.log_softmax(micro.pick(logits), dim=-1).topk(top_k)
                    _fill(outputs, micro, top_k_logprobs=best, top_k_indices=indices)
        return _result(outputs, {"loss:sum": total} if loss.multi_target else {})

    def forward_backward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add the gradient of this batch's summed loss to what is accumulated; on any error nothing changes."""
        held = self._trainable(model_id)
        if embeddings.wanted(batch):
            return self._embed(held, batch, backward=True)
        loss = losses.named(batch.get("loss_fn"))
        settings = loss.configure(_without_support(batch.get("loss_fn_config") or {}))
        datums = parse(batch, self._limits(held))
        check(datums, loss.tensors, multi_target=loss.multi_target)
        outputs: list[dict[str, Any]] = [{} for _ in datums]
        total, tokens, sequences = 0.0, 0, 0
        with Gradients(held) as gradients:
            for micro in self._split(held, datums):
                lp = _logprobs(_logits(held, micro), micro)
                leaf = lp.detach().requires_grad_()
                summands = loss.summands(leaf, micro.tensors, settings, micro.row)
                (slope,) = torch.autograd.grad(summands.sum(), leaf)  # d loss / d log-probability
                lp.backward(slope)
                total += float(summands.detach().double().sum())
                moved = slope.ne(0) if slope.dim() == 1 else slope.ne(0).any(-1)
                tokens += int(moved.sum())
                sequences += len(micro.row[moved].unique())
                _fill(outputs, micro, logprobs=leaf.detach())
            gradients.keep()
        held.loss_tokens += tokens
        held.loss_sequences += sequences
        return _result(outputs, {"loss:sum": total})

    def optim_step(
        self, model_id: str, adam_params: Mapping[str, Any], normalization: str | None
    ) -> Mapping[str, float]:
        """Normalise, clip, step (WIRE 2.9); without accumulated gradients it is a step on zero gradients."""
        held = self._trainable(model_id)
        params = optimizer.AdamParams.parse(adam_params)
        if normalization not in (None, *optimizer.NORMALIZATIONS):
            known = ", ".join(optimizer.NORMALIZATIONS)
            raise BackendError(f"unknown grad_accumulation_normalization {normalization!r}; expected one of {known}")
        divisors = {"num_loss_tokens": held.loss_tokens, "num_sequences": held.loss_sequences}
        if all(value.grad is None for value in held.trained.values()):
            for value in held.trained.values():
                value.grad = torch.zeros_like(value)
        metrics = {"num_loss_tokens": float(held.loss_tokens), "num_sequences": float(held.loss_sequences)}
        divisor = divisors.get(normalization or "none", 1)
        held.loss_tokens = held.loss_sequences = 0
        metrics |= optimizer.apply(held.optimizer, held.trained, params, divisor)
        held.step += 1
        return metrics | {"lr": params.learning_rate, "step": float(held.step)}

    def save_state(self, model_id: str, folder: Path) -> SavedState:
        held = self._trainable(model_id)
        dcp.save(held, folder)
        return SavedState(held.step)

    def load_state(self, model_id: str, folder: Path, *, optimizer: bool) -> None:
        dcp.load(self._trainable(model_id), folder, optimizer=optimizer)

    def save_sampler(
        self,
        model_id: str,
        folder: Path,
        *,
        identity: str,
        checkpoint_type: CheckpointType = "base",
        export_precision: str | None = None,
    ) -> SavedState:
        held = self._held(model_id)
        previous = sampler.save(held, folder, identity, checkpoint_type, export_precision)
        return SavedState(held.step, previous)

    def load_adapter(self, model_id: str, folder: Path) -> None:
        peft.load(self._trainable(model_id), folder)

    def close(self) -> None:
        self._models.clear()

    def _held(self, model_id: str) -> LiveModel:
        if model_id not in self._models:
            raise BackendError(f"model {model_id!r} is not loaded on this trainer; create it again")
        return self._models[model_id]

    def _trainable(self, model_id: str) -> LiveModel:
        held = self._held(model_id)
        if held.spec.base_only:
            raise BackendError(f"model {model_id!r} was created with base_only: it can run forward and nothing else")
        return held

    def _limits(self, held: LiveModel) -> Limits:
        config = held.bare.config.get_text_config()
        lengths = [n for n in (self._max_context_length, config.max_position_embeddings) if n]
        return Limits(vocabulary=held.bare.get_input_embeddings().num_embeddings, context=min(lengths))

    def _split(self, held: LiveModel, datums: Sequence[Datum]) -> Sequence[MicroBatch]:
        return list(micro_batches(datums, self._budget, self._device))

    def _embed(self, held: LiveModel, batch: Mapping[str, Any], *, backward: bool) -> Mapping[str, Any]:
        datums = parse(batch, self._limits(held))
        micros = self._split(held, datums)
        if not backward:
            outputs, metrics, _ = embeddings.run(held, batch, datums, micros, backward=False)
            return _result(outputs, metrics)
        with Gradients(held) as gradients:
            outputs, metrics, counts = embeddings.run(held, batch, datums, micros, backward=True)
            gradients.keep()
        held.loss_tokens += counts[0]
        held.loss_sequences += counts[1]
        return _result(outputs, metrics)


class Gradients:
    """Collects the gradients of one operation apart from the accumulated ones, and adds them only when it went well."""

    def __init__(self, held: LiveModel) -> None:
        self._parameters = list(held.trained.values())
        self._before: list[Tensor | None] = []
        self._kept = False

    def __enter__(self) -> "Gradients":
        self._before = [value.grad for value in self._parameters]
        for value in self._parameters:
            value.grad = None
        return self

    def keep(self) -> None:
        """Add to what was accumulated before; raises `BackendError` when the sum is not finite."""
        for value, before in zip(self._parameters, self._before, strict=True):
            if before is not None:
                value.grad = before if value.grad is None else value.grad.add_(before)
        grads = [value.grad for value in self._parameters if value.grad is not None]
        if grads and not bool(torch.stack(torch._foreach_norm(grads, float("inf"))).isfinite().all()):
            raise BackendError("the gradient is NaN or infinite; the weights or the loss inputs are out of range")
        self._kept = True

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            for value, before in zip(self._parameters, self._before, strict=True):
                value.grad = before


def check(datums: Sequence[Datum], needed: Sequence[str], *, multi_target: bool = True) -> None:
    """Every datum has its targets and the tensors its loss needs, in one shape."""
    for index, datum in enumerate(datums):
        for name in ("target_tokens", *needed):
            if name not in datum.tensors:
                raise BackendError(f"datum {index}: missing required field {name!r}")
        shape = datum.tensors["target_tokens"].shape
        if len(shape) == 2 and not multi_target:
            raise BackendError(f"datum {index}: only cross_entropy takes target_tokens of shape [T, K]")
        for name, tensor in datum.tensors.items():
            if name in ("weights", *needed) and tensor.shape != shape:
                raise BackendError(
                    f"datum {index}: {name!r} has shape {list(tensor.shape)}, target_tokens has {list(shape)}"
                )


def _logits(held: LiveModel, micro: MicroBatch) -> Tensor:
    logits = held.model(input_ids=micro.input_ids, use_cache=False).logits  # (B, L, V)
    return logits.flatten(0, 1).float()


def _logprobs(logits: Tensor, micro: MicroBatch) -> Tensor:
    """Log-probabilities of the targets, (N,) or (N, K); `logits` is (B * L, V)."""
    targets = micro.targets()
    wanted = targets if targets.dim() == 2 else targets[:, None]
    lp = micro.pick(torch.log_softmax(logits, dim=-1).gather(1, wanted))
    if bool(lp.isnan().any()):
        raise BackendError("log-probabilities are NaN: the weights have diverged; load an earlier checkpoint")
    return lp if targets.dim() == 2 else lp[:, 0]


def _fill(outputs: list[dict[str, Any]], micro: MicroBatch, **tensors: Tensor) -> None:
    """Cut tensors over real positions into one record per datum."""
    for name, tensor in tensors.items():
        host = tensor.cpu()
        if host.is_floating_point():
            host = host.clamp(min=LOWEST_LOGPROB)
        dtype = "float32" if host.is_floating_point() else "int64"
        for index, part in zip(micro.order, host.split(list(micro.lengths)), strict=True):
            outputs[index][name] = array_record(part, dtype)


def _result(outputs: list[dict[str, Any]], metrics: Mapping[str, float]) -> Mapping[str, Any]:
    return {"loss_fn_output_type": "ArrayRecord", "loss_fn_outputs": outputs, "metrics": dict(metrics)}


def _top_k(config: dict[str, Any], held: LiveModel) -> int:
    """Take `top_k` out of a forward's config."""
    config.update(_without_support(config))
    config.pop("target_logprob_support", None)
    top_k = config.pop("top_k", 0)
    vocabulary = held.bare.get_input_embeddings().num_embeddings
    if isinstance(top_k, bool) or not isinstance(top_k, int | float) or top_k != int(top_k) or not 0 <= top_k <= vocabulary:
        raise BackendError(f"loss_fn_config.top_k = {top_k!r} is outside [0, {vocabulary}]")
    return int(top_k)


def _without_support(config: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the one value of `target_logprob_support` that needs no advertised capability."""
    if config.get("target_logprob_support", "full_vocabulary") != "full_vocabulary":
        raise BackendError("target_logprob_support: this trainer computes 'full_vocabulary' log-probabilities only")
    return {key: value for key, value in config.items() if key != "target_logprob_support"}
