"""Outputs that are not log-probabilities: embeddings, projections, similarities, contrastive loss (WIRE 2.8).

All datums of a request meet in one loss here, so the graphs of all its micro-batches are alive at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from emulator.backend import BackendError
from ftsim.compute.models.body import body_of
from ftsim.compute.trainer.batching import Datum, MicroBatch, array_record
from ftsim.compute.trainer.head import push
from ftsim.compute.trainer.live import LiveModel

Outputs = list[dict[str, Any]]
Counts = tuple[int, int]

_KEYS = {
    "embedding": {"output", "pooling"},
    "projection": {"output", "pooling"},
    "cos_similarity_matrix": {"output", "pooling"},
    "contrastive_loss": {"output", "pooling", "num_queries", "temperature", "num_extra_negatives"},
}


def wanted(batch: Mapping[str, Any]) -> bool:
    """Tell whether a request asks for something else than log-probabilities."""
    config = batch.get("loss_fn_config")
    return isinstance(config, Mapping) and config.get("output", "logprobs") != "logprobs"


def run(
    model: LiveModel, batch: Mapping[str, Any], datums: Sequence[Datum], micros: Sequence[MicroBatch], *, backward: bool
) -> tuple[Outputs, dict[str, float], Counts]:
    """Outputs and metrics of a request, and how many positions and datums had a non-zero gradient."""
    config = checked(batch["loss_fn_config"])
    output, pooling = config["output"], config.get("pooling", "mean")
    if output == "projection" and model.projection is None:
        raise BackendError("output 'projection' needs a model created with projection_head_dim")
    with torch.set_grad_enabled(backward):
        hidden: list[Tensor] = [torch.empty(0)] * len(datums)
        for micro in micros:
            for index, part in zip(micro.order, torch.split(_hidden(model, micro), list(micro.lengths)), strict=True):
                hidden[index] = part  # (T, D)
        if backward and not hidden[0].requires_grad:
            raise BackendError(f"no trained weight lies below output {output!r}; train_attn or train_mlp is needed")
        if output == "contrastive_loss":
            loss, metrics = _contrastive(_pooled(hidden, pooling), config)
            slopes = torch.autograd.grad(loss, hidden) if backward else ()
            metrics["total_tokens:sum"] = float(sum(len(part) for part in hidden))
            return [{} for _ in datums], metrics, _backward(hidden, slopes)
        results, field = _results(model, hidden, output, pooling)
        outputs: Outputs = [{field: array_record(result.detach().cpu())} for result in results]
        metrics = {"total_tokens:sum": float(sum(len(part) for part in hidden))}
        if not backward:
            return outputs, metrics, (0, 0)
        grads = _grads(datums, results, f"{field}_grads")
        parameters = list(model.projection.parameters()) if output == "projection" and model.projection else []
        slopes = torch.autograd.grad(results, [*hidden, *parameters], grads)
        for parameter, slope in zip(parameters, slopes[len(hidden) :], strict=True):
            parameter.grad = slope
        return outputs, metrics, _backward(hidden, slopes[: len(hidden)])


def _hidden(model: LiveModel, micro: MicroBatch) -> Tensor:
    """Last hidden states of the real positions, (N, D) in float32."""
    body = body_of(model.bare)
    states = body(input_ids=micro.input_ids, use_cache=False, **micro.seen).last_hidden_state
    return micro.pick(states.flatten(0, 1)).float()


def _pooled(hidden: Sequence[Tensor], pooling: str) -> Tensor:
    """One vector per datum, (datums, D)."""
    return torch.stack([part.mean(0) if pooling == "mean" else part[-1] for part in hidden])


def _results(model: LiveModel, hidden: Sequence[Tensor], output: str, pooling: str) -> tuple[Sequence[Tensor], str]:
    if output == "projection":
        assert model.projection is not None
        return [model.projection(part) for part in hidden], "projection"
    pooled = _pooled(hidden, pooling)
    if output == "embedding":
        return pooled.unbind(), "embedding"
    unit = normalize(pooled, dim=-1)
    return (unit @ unit.T).unbind(), "embedding"  # row i: similarity of datum i with every datum


def _contrastive(pooled: Tensor, config: Mapping[str, Any]) -> tuple[Tensor, dict[str, float]]:
    """Bidirectional InfoNCE: queries, their documents, then unpaired negatives seen by the queries only."""
    queries, extra = config.get("num_queries"), config.get("num_extra_negatives", 0)
    temperature = config.get("temperature")
    if not isinstance(queries, int) or not isinstance(extra, int) or queries < 1 or extra < 0:
        raise BackendError("contrastive_loss needs num_queries >= 1 and num_extra_negatives >= 0")
    if not isinstance(temperature, int | float) or not temperature > 0:
        raise BackendError("contrastive_loss needs a temperature above 0")
    if len(pooled) != 2 * queries + extra:
        raise BackendError(f"contrastive_loss got {len(pooled)} datums; expected 2 * num_queries + num_extra_negatives")
    unit = normalize(pooled, dim=-1)
    scores = unit[:queries] @ unit[queries:].T / temperature  # (queries, documents)
    truth = torch.arange(queries, device=scores.device)
    to_documents = cross_entropy(scores, truth)
    to_queries = cross_entropy(scores[:, :queries].T, truth)
    loss = (to_documents + to_queries) / 2
    recall = (scores.argmax(-1) == truth).float().mean()
    named = {
        "loss": loss,
        "loss_q2d": to_documents,
        "loss_d2q": to_queries,
        "in_batch_recall_at_1": recall,
        "loss:sum": loss,
    }
    return loss, {name: float(value.detach()) for name, value in named.items()}


def _grads(datums: Sequence[Datum], results: Sequence[Tensor], field: str) -> list[Tensor]:
    grads = []
    for index, (datum, result) in enumerate(zip(datums, results, strict=True)):
        given = datum.tensors.get(field)
        if given is None:
            raise BackendError(f"datum {index}: missing required field {field!r}")
        if given.shape != result.shape:
            raise BackendError(f"datum {index}: {field!r} has shape {list(given.shape)}, expected {list(result.shape)}")
        grads.append(torch.from_numpy(given).to(result.device))
    return grads


def _backward(hidden: Sequence[Tensor], slopes: Sequence[Tensor]) -> Counts:
    """Push the slopes of the hidden states through the model; counts positions and datums that had any."""
    if not slopes:
        return 0, 0
    push(torch.cat(list(hidden)), torch.cat(list(slopes)))
    moved = [int(slope.ne(0).any(-1).sum()) for slope in slopes]
    return sum(moved), sum(count > 0 for count in moved)


def checked(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a request for one of these outputs; raises `BackendError`."""
    output = config.get("output")
    if not isinstance(output, str) or output not in _KEYS:
        raise BackendError(f"unknown output {output!r}; known ones are logprobs, {', '.join(_KEYS)}")
    unknown = sorted(set(config) - _KEYS[output])
    if unknown:
        raise BackendError(f"unknown loss_fn_config key {unknown[0]!r} for output {output!r}")
    if config.get("pooling", "mean") not in ("mean", "last"):
        raise BackendError(f"unknown pooling {config['pooling']!r}; expected mean or last")
    return config
