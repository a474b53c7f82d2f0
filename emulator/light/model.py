"""The model that the light backend trains: four logits, their gradients, their AdamW."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.backend import BackendError, ModelSpec
from emulator.core.adam import ADAM
from emulator.light.files import SIZE
from emulator.light.losses import Loss, Position, Settings

LARGEST = 3.4e38
NO_IMAGES = "the light backend sees no images: use the one with real models (pip install '.[train]')"
_TENSORS = ("target_tokens", "weights", "logprobs", "advantages")
_MASKS = ("mask", "loss_mask")


def softmax(logits: Sequence[float]) -> list[float]:
    """Sum exactly, as everything here does: `sum` gives other last bits from Python 3.12 on."""
    top = max(logits)
    grown = [math.exp(value - top) for value in logits]
    total = math.fsum(grown)
    return [value / total for value in grown]


def vector(tokens: Sequence[int], weights: Sequence[float], size: int = 0) -> list[float]:
    """The direction of how often each remainder by SIZE stands among the tokens, and of the weights, of length 1.

    With a `size` its first numbers, as long again.
    """
    counts = [1 + sum(token % SIZE == k for token in tokens) for k in range(SIZE)]
    told = [*counts, *(weight * len(tokens) for weight in weights)][: size or None]
    length = math.sqrt(math.fsum(value * value for value in told))
    return [value / length for value in told]


@dataclass(frozen=True)
class Datum:
    """The targets of one datum, flat, their shape as the client sent it, and what its tensors hold for each."""

    targets: Sequence[int]
    shape: Sequence[int]
    positions: Sequence[Position]

    @classmethod
    def parse(cls, raw: Any, needed: Sequence[str], *, trains: bool) -> "Datum":
        """From a request's JSON; `needed` are tensors it must have. Raises BackendError.

        Any token id will do: it counts as its remainder by SIZE. A forward takes tensors that nothing uses; a request
        that `trains` takes beside those it knows a mask that leaves out nothing, as the backend with real models does.
        """
        inputs = raw.get("loss_fn_inputs") if isinstance(raw, Mapping) else None
        if not isinstance(inputs, Mapping) or "target_tokens" not in inputs:
            raise BackendError("missing required field 'target_tokens'")
        _refuse_images(raw.get("model_input"))
        targets = _numbers(inputs, "target_tokens")
        if not all(value == int(value) >= 0 for value in targets):
            raise BackendError("target_tokens holds what is no token id")
        tensors = {name: _numbers(inputs, name) for name in ("weights", "logprobs", "advantages") if name in inputs}
        for name in needed:
            if name not in tensors:
                raise BackendError(f"missing required field {name!r}")
        for name, values in tensors.items():
            if len(values) != len(targets):
                raise BackendError(f"{name} has {len(values)} numbers for {len(targets)} target tokens")
        for name in sorted(set(inputs) - set(_TENSORS)):
            mask = _numbers(inputs, name)
            if trains and name not in _MASKS:
                raise BackendError(f"unknown loss input {name[:60]!r}; known ones are {', '.join(_TENSORS)}")
            if trains:
                acting = "advantages" if "advantages" in needed else "weights"
                _check_mask(name, mask, tensors.get(acting, [1.0] * len(targets)), acting)
        nothing, ones = [0.0] * len(targets), [1.0] * len(targets)
        columns = (
            tensors.get("weights", ones),
            tensors.get("logprobs", nothing),
            tensors.get("advantages", nothing),
        )
        shape = inputs["target_tokens"].get("shape") or [len(targets)]
        return cls([int(value) % SIZE for value in targets], shape, list(map(Position, *columns)))


def _refuse_images(model_input: Any) -> None:
    chunks = model_input.get("chunks") if isinstance(model_input, Mapping) else None
    for chunk in chunks if isinstance(chunks, list) else ():
        if isinstance(chunk, Mapping) and str(chunk.get("type")).startswith("image"):
            raise BackendError(NO_IMAGES)


@dataclass
class LightModel:
    """Weights, gradient and moments of one model; with LoRA the trained vector is added to the frozen base."""

    spec: ModelSpec
    base: list[float]
    trained: list[float]
    gradient: list[float] = field(default_factory=lambda: [0.0] * SIZE)
    moment: list[float] = field(default_factory=lambda: [0.0] * SIZE)
    square: list[float] = field(default_factory=lambda: [0.0] * SIZE)
    loss_tokens: int = 0
    sequences: int = 0
    updates: int = 0
    """Steps behind the moments, which a load without the optimizer sets back."""
    step: int = 0
    saved: tuple[str, list[float]] | None = None
    """Identity and weights of the last full save: what the next delta is taken against."""

    @property
    def rank(self) -> int:
        return self.spec.lora.rank if self.spec.lora else 0

    @property
    def weights(self) -> list[float]:
        return [b + t for b, t in zip(self.base, self.trained, strict=True)] if self.rank else self.trained

    def run(
        self, data: Sequence[Datum], loss: Loss, settings: Settings, *, backward: bool
    ) -> tuple[list[list[float]], float]:
        """Log-probabilities of the targets of each datum and the summed loss; `backward` accumulates the gradient."""
        probabilities = softmax(self.weights)
        logs = [math.log(max(p, 1e-300)) for p in probabilities]
        outputs, total = [], 0.0
        for datum in data:
            slopes = [0.0] * SIZE
            moved = 0
            for target, position in zip(datum.targets, datum.positions, strict=True):
                summand, slope = loss.summand(logs[target], position, settings)
                total += summand
                slopes[target] += slope
                moved += slope != 0
            outputs.append([logs[target] for target in datum.targets])
            if backward:
                whole = math.fsum(slopes)
                for k in range(SIZE):  # d lp[target] / d logit[k] = (k == target) - p[k]
                    self.gradient[k] += slopes[k] - probabilities[k] * whole
                self.loss_tokens += moved
                self.sequences += moved > 0
        return outputs, total

    def take_step(self, given: Mapping[str, Any], normalization: str | None) -> dict[str, float]:
        """One AdamW step (WIRE 2.9) on what was accumulated; raises BackendError for a setting it does not have."""
        adam = _adam(given)
        counted = {"num_loss_tokens": self.loss_tokens, "num_sequences": self.sequences}
        unit = max(counted.get(normalization or "", 1), 1)
        gradient = [value / unit for value in self.gradient]
        norm = math.sqrt(math.fsum(value * value for value in gradient))
        if 0 < adam["grad_clip_norm"] < norm:
            gradient = [value * adam["grad_clip_norm"] / (norm + 1e-6) for value in gradient]
        self.updates += 1
        trained = list(self.trained)
        for k, value in enumerate(gradient):
            self.moment[k] = adam["beta1"] * self.moment[k] + (1 - adam["beta1"]) * value
            self.square[k] = adam["beta2"] * self.square[k] + (1 - adam["beta2"]) * value * value
            mean = self.moment[k] / (1 - adam["beta1"] ** self.updates)
            spread = math.sqrt(self.square[k] / (1 - adam["beta2"] ** self.updates))
            trained[k] *= 1 - adam["learning_rate"] * adam["weight_decay"]
            trained[k] -= adam["learning_rate"] * mean / (spread + adam["eps"])
        told = {"grad_norm": norm} | {name: float(count) for name, count in counted.items()}
        self.forget_gradient()
        if not all(abs(value) <= LARGEST for value in trained):
            raise BackendError("the step leads out of what float32 holds: the weights were left as they are")
        self.trained = trained
        self.step += 1
        return {**told, "lr": adam["learning_rate"], "step": float(self.step)}

    def state(self) -> dict[str, Any]:
        """The state that a resumable save keeps; floats survive JSON to the last bit."""
        kept = {"weights": self.trained, "moment": self.moment, "square": self.square}
        return {**kept, "updates": self.updates, "step": self.step}

    def take_state(self, state: Mapping[str, Any], *, optimizer: bool, keep_optimizer: bool) -> None:
        """Go on from a saved state, with its moments, with those there are, or with none."""
        self.trained, self.step = list(state["weights"]), int(state.get("step", 0))
        if optimizer:
            self.moment, self.square = list(state["moment"]), list(state["square"])
            self.updates = int(state["updates"])
        elif not keep_optimizer:
            self.forget_optimizer()
        self.forget_gradient()

    def forget_gradient(self) -> None:
        self.gradient, self.loss_tokens, self.sequences = [0.0] * SIZE, 0, 0

    def forget_optimizer(self) -> None:
        self.moment, self.square, self.updates = [0.0] * SIZE, [0.0] * SIZE, 0


def _check_mask(name: str, mask: Sequence[float], factors: Sequence[float], acting: str) -> None:
    if len(mask) != len(factors):
        raise BackendError(f"{name} has {len(mask)} numbers for {len(factors)} target tokens")
    if any(one != 1 for one, factor in zip(mask, factors, strict=True) if factor):
        raise BackendError(
            f"{name!r} leaves out positions that {acting!r} trains, and no loss here reads it: "
            f"multiply {acting!r} by it, and send the datum without it"
        )


def _numbers(inputs: Mapping[str, Any], name: str) -> list[float]:
    tensor = inputs[name]
    values = tensor.get("data") if isinstance(tensor, Mapping) else None
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise BackendError(f"{name!r} must be a tensor whose data is a flat list of numbers")
    if not all(-LARGEST <= value <= LARGEST for value in values):  # NaN neither
        raise BackendError(f"{name!r} holds a number that float32 does not")
    return values


def _adam(given: Mapping[str, Any]) -> dict[str, float]:
    adam = dict(ADAM)
    for name, value in given.items():
        if name == "emit_grad_norm_metrics" or value is None:
            continue
        if name not in adam:
            raise BackendError(f"unknown adam_params key {str(name)[:60]!r}; known: {', '.join(ADAM)}")
        below_one = not name.startswith("beta") or (isinstance(value, int | float) and value < 1)
        if type(value) not in (int, float) or not 0 <= value < math.inf or not below_one:
            raise BackendError(f"adam_params.{name} = {str(value)[:60]} is out of range")
        adam[name] = float(value)
    return adam
