"""The parts that the recipes use of what others hand them: the SDK's clients, a tokenizer.

Any object with these methods will do, so that a test or a fork may bring its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

CustomLoss = Callable[[list[Any], list[Any]], tuple[Any, dict[str, float]]]
"""`forward_backward_custom` calls it: datums and their log-probabilities (T,) to a scalar loss and metrics."""


class Datum(Protocol):
    """The SDK's datum: the tokens that are read, and per position the target and what its loss needs."""

    @property
    def model_input(self) -> Any: ...

    @property
    def loss_fn_inputs(self) -> Mapping[str, Any]: ...


class Future(Protocol):
    """The SDK's answer to a request that the trainer works on."""

    def result(self, timeout: float | None = None) -> Any:
        """Block until the request is done; the SDK's own errors pass through."""


class CheckpointClient(Protocol):
    """The part of the SDK's training client that saves and loads."""

    def save_state(self, name: str) -> Future: ...

    def save_weights_for_sampler_ext(self, name: str, *, checkpoint_type: str) -> object: ...

    def load_state(self, path: str) -> Future: ...

    def load_state_with_optimizer(self, path: str) -> Future: ...

    def load_adapter(self, path: str) -> Future: ...

    def resolve_checkpoint_path(self, name: str, source_job_id: str | None = None) -> str: ...


class TrainingClient(CheckpointClient, Protocol):
    """The part of the SDK's training client that the recipes call; `Datum` is the SDK's."""

    def forward(self, data: list[Any], loss_fn: str) -> Future: ...

    def forward_backward(
        self, data: list[Any], loss_fn: str, loss_fn_config: dict[str, float] | None = None
    ) -> Future: ...

    def forward_backward_custom(self, data: list[Any], loss_fn: CustomLoss) -> Future: ...

    def optim_step(self, adam_params: object, *, grad_accumulation_normalization: str | None = None) -> Future: ...

    def create_base_training_client(self, base_model: str) -> "TrainingClient": ...


class SamplingClient(Protocol):
    """The part of the SDK's sampling client that the recipes call."""

    def sample(self, prompt: object, num_samples: int, sampling_params: object) -> Any:
        """Returns a `concurrent.futures.Future` of the SDK's response."""


class ControlPlane(Protocol):
    """The part of the SDK's `FireworksClient` that checkpoints need."""

    def list_checkpoints(self, job_id: str) -> list[dict[str, Any]]: ...

    def promote_checkpoint(self, *, name: str, output_model_id: str, base_model: str) -> dict[str, Any]: ...


class Account(Protocol):
    """Whom the SDK's control-plane clients speak for, and to which service."""

    @property
    def api_key(self) -> str: ...

    @property
    def account_id(self) -> str: ...

    @property
    def base_url(self) -> str: ...


class Manager(ControlPlane, Account, Protocol):
    """The part of the SDK's `TrainerJobManager` that the recipes call; a job is the service's JSON."""

    def try_get(self, job_id: str) -> dict[str, Any] | None: ...

    def get(self, job_id: str) -> dict[str, Any]: ...

    def create(self, config: object) -> object: ...

    def wait_for_existing(self, job_id: str, *, poll_interval_s: float, timeout_s: float) -> Any: ...

    def resume_and_wait(self, job_id: str, *, poll_interval_s: float, timeout_s: float) -> Any: ...

    def reconnect_and_wait(self, job_id: str, *, poll_interval_s: float, timeout_s: float) -> Any: ...

    def resolve_training_profile(self, shape_id: str) -> Any: ...


class Tokenizer(Protocol):
    """The part of a `transformers` tokenizer that the recipes use."""

    eos_token: str | None
    eos_token_id: int | None

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool = False) -> str: ...

    def apply_chat_template(
        self,
        conversation: Sequence[Sequence[Mapping[str, Any]]],
        *,
        tokenize: bool,
        add_generation_prompt: bool,
        **variables: object,
    ) -> list[str]:
        """Render a list of conversations; `variables` are the template's own."""
