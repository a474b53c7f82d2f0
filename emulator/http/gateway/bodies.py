"""Bodies of requests to a trainer (WIRE 2.4 to 2.10): declared for the document, judged inside the operation.

No request is refused by these models: a bad datum fails its future and never the client (WIRE 2.7).
"""

from typing import Any, ClassVar

from pydantic import Field

from emulator.backend import LoraSpec
from emulator.core.adam import AdamSettings
from emulator.http.bodies import Ignored, Refusal, Refused, SnakeBody, takes

_TYPE = {"type": "the path says which request it is"}
_SDK = "nothing here depends on the client's version"


class Nothing(SnakeBody):
    """Nothing."""


class ClientConfig(SnakeBody):
    """Names the client that asks how it may talk."""

    ignored: ClassVar[Ignored] = {"sdk_version": _SDK}


class CreateSession(SnakeBody):
    """The client that opens a session."""

    ignored: ClassVar[Ignored] = {
        **_TYPE,
        "sdk_version": _SDK,
        **dict.fromkeys(
            ("tags", "user_metadata", "project_id"), "a session is shown without what its client notes down"
        ),
    }


class Heartbeat(SnakeBody):
    """Names the session that is still in use."""

    session_id: str

    ignored: ClassVar[Ignored] = _TYPE


class Telemetry(SnakeBody):
    """The events that a client reports of itself."""

    ignored: ClassVar[Ignored] = dict.fromkeys(
        ("events", "platform", "sdk_version", "session_id"), "it is thanked for and not kept"
    )


@takes(LoraSpec)
class LoraConfig(SnakeBody):
    """The adapter of a model."""

    rank: int = 0


class CreateModel(SnakeBody):
    """A model on a trainer: its adapter if it has one; `base_only` makes a frozen reference."""

    session_id: str
    model_seq_id: int
    base_model: str = ""
    lora_config: LoraConfig | None = None
    base_only: bool = False
    projection_head_dim: int | None = None

    ignored: ClassVar[Ignored] = {**_TYPE, "user_metadata": "a model is shown without what its client notes down"}


class OneModel(SnakeBody):
    """Names one model."""

    model_id: str

    ignored: ClassVar[Ignored] = _TYPE


class WeightsInfo(SnakeBody):
    """Names one checkpoint."""

    tinker_path: str


class RetrieveFuture(SnakeBody):
    """Asks for a result, or for its size alone."""

    request_id: str

    ignored: ClassVar[Ignored] = {
        "allow_metadata_only": "a result is given whole, unless the switch futures.answer says otherwise"
    }


class Numbered(SnakeBody):
    """A place in a model's sequence of operations."""

    model_id: str
    seq_id: int


class Batch(SnakeBody):
    """Datums, the loss and its settings."""

    data: list[dict[str, Any]]
    loss_fn: str
    loss_fn_config: dict[str, Any] | None = None


class Forward(Numbered):
    """Log-probabilities or a loss, without gradients."""

    forward_input: Batch

    ignored: ClassVar[Ignored] = _TYPE


class ForwardBackward(Numbered):
    """A loss and its gradients."""

    forward_backward_input: Batch

    ignored: ClassVar[Ignored] = _TYPE


@takes(AdamSettings)
class Adam(SnakeBody):
    """AdamW's settings."""

    ignored: ClassVar[Ignored] = {"emit_grad_norm_metrics": "the norm of the gradients is always in the metrics"}


class OptimStep(Numbered):
    """One step of the optimizer."""

    adam_params: Adam | None = None
    grad_accumulation_normalization: str | None = None

    ignored: ClassVar[Ignored] = _TYPE


class SaveWeights(Numbered):
    """A training state under a name."""

    path: str
    ttl_seconds: int | None = None

    ignored: ClassVar[Ignored] = _TYPE
    refused: ClassVar[Refused] = {"overwrite": Refusal("a name is written once, or once more for the same step")}


class SaveSamplerWeights(Numbered):
    """Weights for a sampler under a name."""

    path: str
    checkpoint_type: str = Field("base", description="base, delta or merged_base")
    export_precision: str | None = None
    ttl_seconds: int | None = Field(None, description="acts where the switch save.ttl lets it; else they stay")

    ignored: ClassVar[Ignored] = {
        **_TYPE,
        "sampling_session_seq_id": "no sampling session stands behind a save",
        "metadata": "a checkpoint is listed without what its client notes down",
    }


class LoadWeights(Numbered):
    """A training state, with or without its optimizer."""

    path: str
    optimizer: bool | None = None

    ignored: ClassVar[Ignored] = _TYPE
    refused: ClassVar[Refused] = {"weights_access_token": Refusal("checkpoints of other accounts cannot be loaded")}


class LoadAdapter(SnakeBody):
    """A promoted adapter to go on from."""

    model_id: str
    adapter_path: str
    seq_id: int | None = None

    ignored: ClassVar[Ignored] = _TYPE


class SamplingRoute(SnakeBody):
    """A base model or run that may be sampled without a session."""

    base_model: str | None = None
    training_run: str | None = None
