"""Bodies of the requests of tinker's own client, where they are not those of the trainer gateway."""

from typing import Any, ClassVar

from pydantic import Field

from emulator.core import limits
from emulator.http.bodies import Ignored, Refusal, Refused, SnakeBody
from emulator.http.gateway import bodies as gateway

_TYPE = {"type": "the path says which request it is"}
_NOTES = "a checkpoint is listed without what its client notes down"
_FOREIGN = Refusal("checkpoints of other accounts cannot be loaded")


class CreateSession(gateway.CreateSession):
    """The client that opens a session."""

    ignored: ClassVar[Ignored] = {
        **gateway.CreateSession.ignored,
        "display_name": "a session is shown by its id",
    }


class FinishSession(SnakeBody):
    """The end of a client that is closed."""

    ignored: ClassVar[Ignored] = {
        "reason": "a session ends alike, whether its program succeeded or not",
        "detail": "a session ends alike, whether its program succeeded or not",
    }


class Telemetry(gateway.Telemetry):
    """The events that a client reports of itself."""

    ignored: ClassVar[Ignored] = {**gateway.Telemetry.ignored, "process_uuid": "processes are not told apart"}


class CreateModel(gateway.CreateModel):
    """A LoRA model; `base_model` may be the name on the hub."""

    optimizer_config: dict[str, Any] | None = Field(None, description="its type is adamw")


class OptimStep(gateway.OptimStep):
    """One step of the optimizer."""

    refused: ClassVar[Refused] = {"optimizer_params": Refusal("trainers step with adamw: send adam_params")}


class SaveWeights(gateway.SaveWeights):
    """A training state under a name; `ttl_seconds` is at least an hour."""

    ignored: ClassVar[Ignored] = {**_TYPE, "user_metadata": _NOTES}


class SaveSamplerWeights(gateway.Numbered):
    """Weights for a sampler under a name, or without one for a sampling session that is opened with them."""

    path: str | None = None
    sampling_session_seq_id: int | None = None
    ttl_seconds: int | None = None

    ignored: ClassVar[Ignored] = {**_TYPE, "user_metadata": _NOTES}
    refused: ClassVar[Refused] = {
        "kind": Refusal("a sampler's weights stay as they were saved", ("snapshot",)),
    }


class SaveExternal(gateway.Numbered):
    """An adapter under a name, for whoever takes it away; `age_encryption_recipients` are public keys, at most ten."""

    path: str
    ttl_seconds: int | None = None
    age_encryption_recipients: list[str] | None = None

    ignored: ClassVar[Ignored] = _TYPE


class LoadWeights(SnakeBody):
    """A training state for a model, or for one that is made with it (`session_id`, `model_seq_id`)."""

    path: str
    optimizer: bool = False
    model_id: str | None = None
    seq_id: int | None = None
    session_id: str | None = None
    model_seq_id: int | None = None
    base_model: str | None = None
    optimizer_config: dict[str, Any] | None = Field(None, description="its type is adamw")

    ignored: ClassVar[Ignored] = {**_TYPE, "user_metadata": "a model is shown without what its client notes down"}
    refused: ClassVar[Refused] = {"weights_access_token": _FOREIGN}


class WeightsInfo(SnakeBody):
    """Names one checkpoint."""

    tinker_path: str


class RequestId(SnakeBody):
    """Names one request."""

    request_id: str


class SamplingSession(SnakeBody):
    """The weights of a sampling client: a save, or a base model."""

    session_id: str
    sampling_session_seq_id: int
    model_path: str | None = None
    base_model: str | None = None

    ignored: ClassVar[Ignored] = _TYPE


class Settings(SnakeBody):
    """Settings of a sample; an empty `stop` lets it go on past the end of a turn."""

    max_tokens: int | None = Field(None, ge=0)
    seed: int | None = None
    stop: str | list[int] | list[str] | None = None
    temperature: float = Field(1.0, ge=0.0)
    top_k: int = Field(-1, ge=-1)
    top_p: float = Field(1.0, ge=0.0, le=1.0)


class Prompt(SnakeBody):
    """Tokens, in pieces."""

    chunks: list[dict[str, Any]]


class Sample(SnakeBody):
    """A prompt to continue, with log-probabilities."""

    prompt: Prompt
    sampling_params: Settings | None = None
    num_samples: int = Field(1, ge=1, le=limits.CHOICES.value)
    sampling_session_id: str | None = None
    seq_id: int | None = None
    model_path: str | None = None
    base_model: str | None = None
    prompt_logprobs: bool = False
    topk_prompt_logprobs: int = Field(0, ge=0, le=limits.TOPS.value)
    topk_sample_logprobs: int = Field(0, ge=0, le=limits.TOPS.value)

    ignored: ClassVar[Ignored] = _TYPE
    refused: ClassVar[Refused] = {
        "target_prompt_logprobs": Refusal("a prompt is scored by its own tokens: take topk_prompt_logprobs"),
        "prompt_alt_tokens_k": Refusal("nothing is drawn beside the prompt's own tokens"),
        "prompt_logprobs_last_n": Refusal("a prompt is scored whole: leave it out and take the last ones"),
        "record_stability_info": Refusal("stable_reinforce is not trained here"),
    }


class KeepFor(SnakeBody):
    """Seconds from now until a checkpoint expires; null keeps it."""

    ttl_seconds: int | None = None
