"""The protocol of a backend: all that the pretend platform may ask of whatever really computes.

What crosses this line is plain data and folders. `ftsim.compute.backend` implements it with models, tests with dicts.

Threading: calls to one `Trainer` come from one thread at a time, in `seq_id` order; to a `Replica` from many.
Errors: raise `BackendError`; the gateway turns it into a failed future (WIRE 2.6).
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from emulator.core.answer_format import Format
from emulator.core.settings import setting

Category = Literal["user", "server"]
CheckpointType = Literal["base", "delta", "merged_base"]
Transition = Literal["ASYNC", "SYNC"]


class BackendError(Exception):
    """A computation that cannot be done; `category` says whose fault it is (WIRE 2.6)."""

    def __init__(self, message: str, category: Category = "user") -> None:
        super().__init__(message)
        self.message = message
        self.category: Category = category


class ReplicaClosed(BackendError):
    """A replica was shut down, or is being, when it was asked: whoever asks again reaches another."""

    def __init__(self) -> None:
        super().__init__("this replica is shut down", "server")


@dataclass(frozen=True)
class BaseModel:
    """A base model by resource name; `folder` holds its files when the name is not in the backend's catalogue.

    The rest is what the platform's own catalogue says of it; `tokenizer` is its name on the hub, "" where unknown.
    """

    name: str
    folder: Path | None = None
    model_type: str = "qwen3"
    moe: bool = False
    tokenizer: str = ""


@dataclass(frozen=True)
class LoraSpec:
    """LoRA settings of create_model (WIRE 2.5); rank ≥ 1."""

    rank: int
    alpha: float = setting(32.0)
    seed: int | None = setting(None)
    train_attn: bool = setting(True)
    train_mlp: bool = setting(True)
    train_unembed: bool = setting(True)
    init_method: str | None = setting(None)


@dataclass(frozen=True)
class ModelSpec:
    """One model on a trainer. `lora is None` means full-parameter; `base_only` means frozen reference weights."""

    model_id: str
    base_model: BaseModel
    lora: LoraSpec | None = None
    base_only: bool = False
    projection_head_dim: int | None = None


@dataclass(frozen=True)
class ModelInfo:
    """The facts that get_info tells about a model (WIRE 2.4)."""

    arch: str
    model_name: str
    tokenizer_id: str
    lora_rank: int


@dataclass(frozen=True)
class SavedState:
    """Describes a save: the optimizer step then, and for a delta the snapshot it must be applied to.

    `write` brings the files there from a copy, on another thread, beside steps; None where they are. `acknowledged` is
    called once all is safe, without `write` before the next step: only then is the save the base of the next delta.
    """

    step: int
    previous_snapshot: str | None = None
    acknowledged: Callable[[], None] = lambda: None
    write: Callable[[], None] | None = None


class Live(Protocol):
    """A model on a trainer, whatever computes it."""

    @property
    def spec(self) -> ModelSpec: ...


M = TypeVar("M", bound=Live)


class LiveModels(Generic[M]):
    """The models that live on a trainer, by id: the part of a `Trainer` that all kinds of them have alike."""

    def __init__(self) -> None:
        self._models: dict[str, M] = {}

    def unload_model(self, model_id: str) -> None:
        self._models.pop(model_id, None)

    def close(self) -> None:
        self._models.clear()

    def _model(self, model_id: str) -> M:
        """The model of this id; raises BackendError."""
        if model_id not in self._models:
            raise BackendError(f"model {model_id!r} is not loaded on this trainer; create it again")
        return self._models[model_id]

    def _trainable(self, model_id: str) -> M:
        """The model of this id, if it may do more than run forward; raises BackendError."""
        model = self._model(model_id)
        if model.spec.base_only:
            raise BackendError(f"model {model_id!r} was created with base_only: it can run forward and nothing else")
        return model


class Trainer(Protocol):
    """The compute side of one trainer job. Several models may live on it; every method raises `BackendError`."""

    def create_model(self, spec: ModelSpec) -> Mapping[str, Any]:
        """Build the model; returns capability fields to add to the create_model result (WIRE 2.5), maybe none."""

    def unload_model(self, model_id: str) -> None:
        """Forget the model; unloading an unknown model is a no-op."""

    def info(self, model_id: str) -> ModelInfo: ...

    def forward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """`batch` is `forward_input` as parsed from JSON (WIRE 2.8); returns a ForwardBackwardOutput mapping."""

    def forward_backward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """As `forward`, and adds the gradients of this batch to those already accumulated."""

    def optim_step(
        self, model_id: str, adam_params: Mapping[str, Any], normalization: str | None
    ) -> Mapping[str, float]:
        """Apply the accumulated gradients (WIRE 2.9) and clear them; returns metrics."""

    def save_state(self, model_id: str, folder: Path) -> SavedState:
        """Write a resumable checkpoint (`torch.distributed.checkpoint`) into the empty `folder`."""

    def load_state(self, model_id: str, folder: Path, *, optimizer: bool, keep_optimizer: bool = False) -> None:
        """Load a resumable checkpoint; with `optimizer=False` the moments are reset, or with `keep_optimizer` left."""

    def save_sampler(
        self,
        model_id: str,
        folder: Path,
        *,
        identity: str,
        checkpoint_type: CheckpointType = "base",
        export_precision: str | None = None,
    ) -> SavedState:
        """Write weights for sampling into the empty `folder`.

        Full-parameter: Hugging Face folder (`base`) or arc_v2 against the acknowledged snapshot saved last (`delta`).
        LoRA: a PEFT folder whatever the type, except `merged_base`: a Hugging Face folder (WIRE 5.3).
        """

    def load_adapter(self, model_id: str, folder: Path) -> None:
        """Load LoRA weights from a PEFT folder; resets the optimizer."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class GenerateRequest:
    """One prompt to continue (WIRE 3.1). `seed` fixes the sample; `echo_last` implies echo; `images` are files.

    `stop` strings and `stop_tokens` end it. With `ignore_eos` an end-of-turn token is a token like any other.
    `max_tokens` is lowered to what the context leaves, unless the answer is wanted `whole`. Penalties of frequency and
    presence count the tokens drawn so far, that of repetition looks at the prompt too.
    """

    prompt: Sequence[int]
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    min_p: float = 0.0
    typical_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    format: Format | None = None
    stop: Sequence[str] = ()
    stop_tokens: Sequence[int] = ()
    echo: bool = False
    echo_last: int | None = None
    top_logprobs: int = 0
    ignore_eos: bool = False
    whole: bool = False
    routing: bool = False
    """Tell with each token which experts the position chose that it follows from."""
    prefix: str = ""
    """The scope under which computed positions are kept, for prompts that begin with them; "" keeps none."""
    images: Sequence[bytes] = ()


@dataclass(frozen=True)
class GeneratedToken:
    """A token with its log-probability under the raw distribution and under the one it was really sampled from.

    `raw` is its bytes where they are no text by themselves, None where they are those of `text`.
    """

    token_id: int
    text: str
    logprob: float
    sampling_logprob: float | None
    top: Sequence[tuple[int, float]] = ()
    raw: bytes | None = None
    routing: bytes | None = None
    """Experts of the position before the token, layers x chosen: one byte each, two where there are over 256."""


@dataclass(frozen=True)
class Generation:
    """A finished continuation; `prompt_tokens` has a row for each echoed token, `stopped_by` is the stop string met."""

    tokens: Sequence[GeneratedToken]
    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: Sequence[GeneratedToken] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    stopped_by: str = ""


Tell = Callable[[Sequence[GeneratedToken], str], None]
"""Hears of new tokens (echoed ones of the prompt first, all at once) and of the text that can be shown with them.

The text is whole characters that no stop string can take back. The backend's thread calls: neither wait nor raise.
"""


class Replica(Protocol):
    """One serving copy of a deployment; it really holds weights. A failed load leaves what it served in place."""

    def load_base(self, folder: Path, identity: str, transition: Transition = "ASYNC") -> None:
        """Serve the full weights in `folder` (Hugging Face layout) from now on."""

    def apply_delta(
        self,
        folder: Path,
        identity: str,
        transition: Transition = "ASYNC",
        *,
        compression_format: str = "arc_v2",
        in_place: bool = False,
    ) -> None:
        """Apply an arc delta, verified first; with `in_place` a failure spoils the weights (FAILURES E11)."""

    def load_adapter(self, folder: Path, identity: str, transition: Transition = "ASYNC") -> None:
        """Serve the base weights with this PEFT adapter from now on."""

    def generate(self, request: GenerateRequest, tell: Tell | None = None) -> "Future[Generation]":
        """Queue a request, to be batched; `tell` hears of every token, a cancelled future leaves the batch."""

    def embed(self, prompt: Sequence[int], size: int = 0) -> "Future[Sequence[float]]":
        """Queue a prompt for the first `size` (0: all) numbers of its vector, of length 1; raises `BackendError`."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; raises `BackendError`, before it is looked at, where the context could not hold it."""

    def expand(self, prompt: Sequence[int], images: Sequence[bytes]) -> list[int]:
        """The prompt with a place for every token of its images, given one for each; raises `BackendError`."""

    def decode(self, tokens: Sequence[int]) -> str: ...

    @property
    def chat_template(self) -> str:
        """The source of the model's chat template, empty when it has none."""

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        settings: Mapping[str, Any] | None = None,
        begun: str = "",
    ) -> list[int]:
        """Prompt tokens of a conversation and of an answer that is `begun`, through the model's chat template.

        `settings` are further variables of the template, such as enable_thinking."""

    def fingerprint(self) -> str:
        """A digest of the weights served now; equal digests mean bit-equal weights."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class ModelDescription:
    """Facts about a Hugging Face or PEFT folder, read from the folder."""

    model_type: str
    parameter_count: int
    context_length: int
    moe: bool
    lora_rank: int = 0
    target_modules: Sequence[str] = ()


class Backend(Protocol):
    """The factory the emulator is given; cheap to construct, torch is imported at the first trainer or replica."""

    def ready(self) -> bool:
        """Tell whether trainers can be opened without a long first import (GET /readyz)."""

    def warm(self) -> None:
        """Do the long first import now."""

    def knows(self, base_model: str) -> bool:
        """Tell whether the backend has weights for this resource name."""

    def folder(self, base_model: BaseModel) -> Path:
        """Hugging Face files of a base model, built on first use; raises `BackendError` when unknown."""

    def describe(self, folder: Path, base_model: BaseModel | None = None) -> ModelDescription:
        """Open a blob as promotion does, an adapter over `base_model`, and say what it is; raises `BackendError`."""

    def computes(self, base_model: str) -> str:
        """Say in words how models of this resource name are computed; "" where there is nothing to choose."""

    def open_trainer(self, base_model: BaseModel, *, lora_rank: int, max_context_length: int) -> Trainer: ...

    def open_replica(self, base_model: BaseModel, *, max_context_length: int) -> Replica: ...
