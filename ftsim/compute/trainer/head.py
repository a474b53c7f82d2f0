"""From hidden states to log-probabilities, in blocks of positions where the scores of all at once would be too large.

The scores of N positions over a vocabulary of V are N * V numbers, and softmax and backward want them several times.
In blocks they are computed, differentiated and forgotten, so memory grows with the block and not with N * V. The head
is the model's own: its `forward` runs with the layers below it replaced by the hidden states of a block, so whatever it
does after the last matrix (scaling, soft caps, adapters) is in the scores.

A sharded model is whole while its `forward` runs, and its ranks have to run that and its backward equally often. There
the blocks, with their gradients, are the inside of one forward, so each rank may have as many as it likes.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from emulator.backend import BackendError
from ftsim.compute.models.body import body_of
from ftsim.compute.trainer.batching import MicroBatch
from ftsim.compute.trainer.live import LiveModel
from ftsim.compute.trainer.losses import Loss

WHOLE_BYTES = 256 << 20
"""Scores of a micro-batch up to this size (float32, padding included) are computed at once."""
BLOCK_BYTES = 128 << 20
"""Scores of a block; about three times this is alive while a block's gradient is taken."""
REUSED_BYTES = 16 << 20
"""From this size on the gradient of scores takes the place of their log-probabilities; below it autograd is as fast."""
_CLOSE, _CLOSE_IN_HALF = 1e-4, 2e-2
Call = Callable[..., Any]
"""Calls the model: its class does, or, inside the forward of a sharded one, that forward."""
T = TypeVar("T")


@dataclass(frozen=True)
class Scored:
    """Log-probabilities of real positions: of the targets (N,) or (N, K), and of the best tokens (N, top_k)."""

    logprobs: Tensor
    best: Tensor | None = None
    indices: Tensor | None = None


@dataclass(frozen=True)
class Differentiated:
    """Holds what a loss gave: log-probabilities and their slopes, (N,) or (N, K) each, and the sum of its summands."""

    logprobs: Tensor
    slope: Tensor
    total: float


def score(model: LiveModel, micro: MicroBatch, top_k: int = 0) -> Scored:
    """Log-probabilities without gradients; call it under `torch.no_grad`."""

    def work(call: Call) -> list[Scored]:
        return [_scored(logits, targets, top_k) for logits, targets in _scores(model, call, micro)]

    with _routed(model, micro):
        parts = _inside(model, micro, work)
    if len(parts) == 1:
        return parts[0]
    best = [part.best for part in parts if part.best is not None]
    indices = [part.indices for part in parts if part.indices is not None]
    return Scored(
        torch.cat([part.logprobs for part in parts]),
        torch.cat(best) if best else None,
        torch.cat(indices) if indices else None,
    )


def differentiate(model: LiveModel, micro: MicroBatch, loss: Loss, settings: Mapping[str, float]) -> Differentiated:
    """Run a micro-batch forward and backward: gradients of the summed loss are added to the model's parameters."""
    with _routed(model, micro):  # in the backward too: layers that kept nothing run again there
        scalar, found = _inside(model, micro, lambda call: _taken(model, call, micro, loss, settings))
        failed = isinstance(found, BackendError)
        if scalar is not None and (
            model.sharded or not failed
        ):  # other ranks go backward, and wait for this one's part
            torch.autograd.backward(scalar)
    if isinstance(found, BackendError):
        raise found
    return found


def _taken(
    model: LiveModel, call: Call, micro: MicroBatch, loss: Loss, settings: Mapping[str, float]
) -> tuple[Tensor | None, Differentiated | BackendError]:
    """The scalar that is still to go backward; and what the loss gave, or why it gave nothing: then it has no slope."""
    split = _blocks_of(model, call, micro)
    if split is None:
        return _at_once(call, micro, loss, settings)
    states = split.states.detach().requires_grad_(split.states.requires_grad)
    run = _two_passes if loss.whole_rows else _one_pass
    try:
        with _summed_in_float32(model):
            found = run(split, states, micro, loss, settings)
    except BackendError as error:
        return _without_slope(split.states), error
    return None if states.grad is None else _scalar(split.states, states.grad), found


def _at_once(
    call: Call, micro: MicroBatch, loss: Loss, settings: Mapping[str, float]
) -> tuple[Tensor, Differentiated | BackendError]:
    scores = _whole(call, micro)
    try:
        lp = logprobs(micro.pick(scores), micro.tensors["target_tokens"])
        found = _slopes(loss, settings, lp.detach(), micro.tensors, micro.row)
    except BackendError as error:
        return _without_slope(scores), error
    return _scalar(lp, found.slope), found


def _scalar(outputs: Tensor, slopes: Tensor) -> Tensor:
    """The scalar whose backward is that of `outputs` with these slopes."""
    return (outputs * slopes).sum()


def _without_slope(outputs: Tensor) -> Tensor:
    return (outputs * torch.zeros_like(outputs)).sum()


def _inside(model: LiveModel, micro: MicroBatch, work: Callable[[Call], T]) -> T:
    """Do work that calls the model; of a sharded one, as the inside of its forward, which ends well in any case."""
    if not model.sharded:
        return work(model.model)
    root: Any = model.model
    forward = root.forward
    errors: list[BackendError] = []

    def instead(input_ids: Tensor) -> T | None:
        try:
            return work(forward)
        except BackendError as error:
            errors.append(error)
            return None

    with _replaced(root, instead):
        found: Any = root(input_ids=micro.input_ids)
    if errors:
        raise errors[0]
    answer: T = found
    return answer


@contextmanager
def _summed_in_float32(model: LiveModel) -> Iterator[None]:
    """Let the gradients of blocks be summed in float32 where weights in half precision keep them themselves."""
    sums: dict[Tensor, Tensor] = {}

    def add(value: Tensor) -> None:
        assert value.grad is not None
        grad = value.grad.float()
        sums[value] = sums[value].add_(grad) if value in sums else grad
        value.grad = None

    whole = [value for value in model.model.parameters() if model.sharded and value.dtype != torch.float32]
    handles = [value.register_post_accumulate_grad_hook(add) for value in whole if value.requires_grad]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for value, total in sums.items():
            value.grad = total.to(value.dtype)


def push(outputs: Tensor, slopes: Tensor) -> None:
    """Add the gradients of what `outputs` were computed from, given their slopes.

    As `torch.autograd.backward(outputs, slopes)` to the last bit; given slopes, that imports sympy, half a second.
    """
    torch.autograd.backward(_scalar(outputs, slopes))


def _one_pass(
    split: "_Blocks", states: Tensor, micro: MicroBatch, loss: Loss, settings: Mapping[str, float]
) -> Differentiated:
    """Take the slope of each block's loss as soon as its log-probabilities are known."""
    found = []
    for part in split.parts:
        lp = split.logprobs(states, part)
        tensors = {name: value[part] for name, value in micro.tensors.items()}
        found.append(_slopes(loss, settings, lp.detach(), tensors, micro.row[part]))
        push(lp, found[-1].slope)
    lps, slopes = [one.logprobs for one in found], [one.slope for one in found]
    return Differentiated(torch.cat(lps), torch.cat(slopes), sum(one.total for one in found))


def _two_passes(
    split: "_Blocks", states: Tensor, micro: MicroBatch, loss: Loss, settings: Mapping[str, float]
) -> Differentiated:
    """Compute all log-probabilities, then those of each block again for its gradient."""
    with torch.no_grad():
        lp = torch.cat([split.logprobs(states, part) for part in split.parts])
    found = _slopes(loss, settings, lp, micro.tensors, micro.row)
    for part in split.parts:
        push(split.logprobs(states, part), found.slope[part])
    return found


def logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities of `targets` (n,) or (n, K) under `logits` (n, V); a backward through them can be run once."""
    if logits.numel() * 4 < REUSED_BYTES:
        return _of(torch.log_softmax(logits, dim=-1), targets)
    picked: Tensor = _Picked.apply(logits, _columns(targets))  # type: ignore[no-untyped-call]
    return _shaped(picked, targets)


class _Picked(torch.autograd.Function):
    """Picks log-probabilities (n, K) under scores (n, V), with one array of the scores' size.

    Autograd by itself makes three: the log-probabilities, zeros around the slopes of those that were picked, and the
    slopes of the scores. Here these take the place of the log-probabilities, which is a fifth of a large step's time.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, wanted: Tensor) -> Tensor:
        every = torch.log_softmax(logits, dim=-1)
        ctx.save_for_backward(every, wanted)
        return every.gather(1, wanted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None]:
        every, wanted = ctx.saved_tensors
        found = every.exp_().mul_(-slopes.sum(1, keepdim=True))
        return found.scatter_add_(1, wanted, slopes), None


def _of(every: Tensor, targets: Tensor) -> Tensor:
    """The log-probabilities of `targets` among those of the whole vocabulary (n, V); raises BackendError for NaN."""
    return _shaped(every.gather(1, _columns(targets)), targets)


def _columns(targets: Tensor) -> Tensor:
    return targets if targets.dim() == 2 else targets[:, None]


def _shaped(lp: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities (n, K) in the shape of the targets; raises BackendError for NaN."""
    if bool(lp.isnan().any()):
        raise BackendError("log-probabilities are NaN: the weights have diverged; load an earlier checkpoint")
    return lp if targets.dim() == 2 else lp[:, 0]


def _scored(logits: Tensor, targets: Tensor, top_k: int) -> Scored:
    every = torch.log_softmax(logits, dim=-1)
    return Scored(_of(every, targets), *(every.topk(top_k) if top_k else ()))


def _slopes(
    loss: Loss, settings: Mapping[str, float], lp: Tensor, tensors: Mapping[str, Tensor], row: Tensor
) -> Differentiated:
    leaf = lp.requires_grad_()
    summands = loss.summands(leaf, tensors, settings, row)
    (slope,) = torch.autograd.grad(summands.sum(), leaf)
    return Differentiated(leaf.detach(), slope, float(summands.detach().double().sum()))


def _scores(model: LiveModel, call: Call, micro: MicroBatch) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores (n, V) in float32 and targets of the real positions, block by block, or in one piece."""
    targets = micro.tensors["target_tokens"]
    split = _blocks_of(model, call, micro)
    if split is None:
        yield micro.pick(_whole(call, micro)), targets
        return
    for part in split.parts:
        yield split.logits(split.states[part]), targets[part]


def _routed(model: LiveModel, micro: MicroBatch) -> AbstractContextManager[None]:
    """Let the model run on the experts that a micro-batch brings along, if it does."""
    return nullcontext() if micro.routes is None else model.routers.replayed(micro.routes)


def _whole(call: Call, micro: MicroBatch) -> Tensor:
    """Scores of every position, padding included, (B * L, V) in float32."""
    logits: Tensor = call(input_ids=micro.input_ids, use_cache=False, **micro.seen).logits  # (B, L, V)
    return logits.flatten(0, 1).float()


@dataclass(frozen=True)
class _Blocks:
    """Hidden states (N, D) of the real positions, and the head that makes scores of some of them."""

    states: Tensor
    parts: list[slice]
    targets: Tensor
    logits: Callable[[Tensor], Tensor]

    def logprobs(self, states: Tensor, part: slice) -> Tensor:
        return logprobs(self.logits(states[part]), self.targets[part])


def _blocks_of(model: LiveModel, call: Call, micro: MicroBatch) -> _Blocks | None:
    """The micro-batch in blocks, or None where its scores are small, or where the model's head cannot run alone."""
    vocabulary = model.bare.get_input_embeddings().num_embeddings
    if micro.input_ids.numel() * vocabulary * 4 <= WHOLE_BYTES or "logits_to_keep" not in _parameters(model.bare):
        return None
    body = body_of(model.bare)
    kept: list[Any] = []
    hook = body.register_forward_hook(lambda module, args, output: kept.append(output))
    try:
        last = call(input_ids=micro.input_ids, use_cache=False, logits_to_keep=1, **micro.seen).logits  # (B, 1, V)
    finally:
        hook.remove()
    if len(kept) != 1 or not isinstance(getattr(kept[0], "last_hidden_state", None), Tensor):
        return None
    hidden = kept[0].last_hidden_state  # (B, L, D)

    def logits(states: Tensor) -> Tensor:
        stand_in = type(kept[0])(last_hidden_state=states[None])
        with _replaced(body, lambda *args, **kwargs: stand_in):
            scores: Tensor = call(input_ids=micro.input_ids[:1, : len(states)], use_cache=False).logits
        return scores[0].float()

    with torch.no_grad():
        alone = logits(hidden[:, -1])
    close = _CLOSE if hidden.dtype == torch.float32 else _CLOSE_IN_HALF
    if alone.shape != last[:, -1].shape or not torch.allclose(alone, last[:, -1].float(), rtol=close, atol=close):
        return None
    states = micro.pick(hidden.flatten(0, 1))
    size = max(1, BLOCK_BYTES // (vocabulary * 4))
    parts = [slice(start, start + size) for start in range(0, len(states), size)]
    return _Blocks(states, parts, micro.tensors["target_tokens"], logits)


def _parameters(model: nn.Module) -> Mapping[str, Any]:
    return inspect.signature(type(model).forward).parameters


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module run another forward instead of its own."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
