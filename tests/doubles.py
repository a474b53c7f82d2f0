"""The light backend with what tests want to know and to disturb, and the writers of its files."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from emulator.backend import BackendError, BaseModel, GenerateRequest, Generation, ModelSpec, Tell
from emulator.light import LightBackend
from emulator.light.files import (
    ADAPTER,
    SIZE,
    TENSOR,
    pack,
    read_tensors,
    read_weights,
    unpack,
    write_adapter as write_any_adapter,
    write_base,
    write_delta,
    write_safetensors,
    write_training,
)
from emulator.light.replica import FIRST_TOKEN, LightReplica, spoken
from emulator.light.trainer import LightTrainer

BASE = "accounts/fireworks/models/qwen3-8b"
MOE = "accounts/fireworks/models/qwen3-30b-a3b"

IDLE_STEP = {"grad_norm": 0.0, "num_loss_tokens": 0.0, "num_sequences": 0.0, "lr": 1e-4, "step": 1.0}
"""What a model's first optimizer step answers when no gradients were accumulated."""

__all__ = [
    "ADAPTER", "BASE", "FIRST_TOKEN", "IDLE_STEP", "MOE", "SIZE", "TENSOR", "DictBackend", "DictReplica", "DictTrainer",
    "pack", "read_tensors", "unpack", "write_adapter", "write_base", "write_delta", "write_safetensors",
    "write_training",
]  # fmt: skip


def write_adapter(folder: Path, rank: int = 8, added: Sequence[float] = (0.0,) * SIZE, base: str = BASE) -> Path:
    return write_any_adapter(folder, rank, added, base)


class DictTrainer(LightTrainer):
    """Notes in `calls` what it is asked to compute."""

    def __init__(self, base: list[float], calls: list[str]) -> None:
        super().__init__(base)
        self._calls = calls

    def create_model(self, spec: ModelSpec) -> Mapping[str, Any]:
        self._calls.append(f"create {spec.model_id}")
        return super().create_model(spec)

    def forward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        self._calls.append(f"forward {model_id}")
        return super().forward(model_id, batch)

    def forward_backward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        self._calls.append(f"forward_backward {model_id}")
        return super().forward_backward(model_id, batch)

    def optim_step(
        self, model_id: str, adam_params: Mapping[str, Any], normalization: str | None
    ) -> Mapping[str, float]:
        self._calls.append(f"optim_step {model_id}")
        return super().optim_step(model_id, adam_params, normalization)


class DictReplica(LightReplica):
    """A serving copy. `before` is called before each token, in a thread; it may wait, and raise."""

    def __init__(self, base: list[float], before: Callable[[int], None] | None = None) -> None:
        super().__init__(base)
        self._before = before

    def generate(self, request: GenerateRequest, tell: Tell | None = None) -> "Future[Generation]":
        if self._before is None:
            return super().generate(request, tell)
        future: Future[Generation] = Future()
        slow = (self.answer(request), request.stop, future, tell, self._before)
        threading.Thread(target=_recite, args=slow, daemon=True).start()
        return future


def _recite(
    result: Generation,
    stops: Sequence[str],
    future: "Future[Generation]",
    tell: Tell | None,
    before: Callable[[int], None],
) -> None:
    """Tell a generation token by token, until it is cancelled or `before` fails."""
    news = spoken(result, stops)
    try:
        if tell is not None and result.prompt_tokens:
            tell(*news[0])
        for at, (tokens, text) in enumerate(news[len(news) - len(result.tokens) :]):
            before(at)
            if future.cancelled():
                return
            if tell is not None:
                tell(tokens, text)
    except BackendError as error:
        future.set_exception(error)
    else:
        if future.set_running_or_notify_cancel():
            future.set_result(result)


class DictBackend(LightBackend):
    """The factory. `calls` tells what trainers were asked to do, in order; `unknown` are names without weights.

    `before_token` slows generations down, or breaks them (see DictReplica).
    """

    def __init__(self, root: Path, unknown: Sequence[str] = ()) -> None:
        super().__init__(root)
        self._unknown = frozenset(unknown)
        self.calls: list[str] = []
        self.before_token: Callable[[int], None] | None = None

    def knows(self, base_model: str) -> bool:
        return base_model not in self._unknown

    def open_trainer(self, base_model: BaseModel, *, lora_rank: int, max_context_length: int) -> LightTrainer:
        return DictTrainer(read_weights(self.folder(base_model)), self.calls)

    def open_replica(self, base_model: BaseModel, *, max_context_length: int) -> LightReplica:
        return DictReplica(read_weights(self.folder(base_model)), self.before_token)
