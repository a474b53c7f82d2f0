"""Configurations: what all recipes can be told, and where a run computes and saves.

A recipe's own `Config` is a dataclass on `RunConfig`, or on `BatchConfig` when it trains on batches of a file.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, Self

from ftsim.training.checks import LABEL, check_at_least, check_common, check_evaluation, check_types
from ftsim.training.config_forms import (
    AdoptedCount,
    AdoptedText,
    DeployConfig,
    TrainerConfig,
    adopt,
    refuse_elsewhere,
)
from ftsim.training.errors import ConfigError

# Leaves room for "-step-", a step and "-rK" in a checkpoint's name, which the SDK cuts at 54 characters.
PREFIX_LIMIT = 32
_GIVEN = "_given"


@dataclass
class InfraConfig:
    """The machines of a run: its trainer, and the deployment that it samples from."""

    training_shape_id: str | None = None
    """Resource name of a training shape, with or without a version; None asks for hardware by hand."""
    reference_training_shape_id: str | None = None
    """Shape of the forward-only trainer a full-parameter run may need for its reference model; None = the same."""
    deployment_shape_id: str | None = None
    """Shape of the deployment of a recipe that samples; None takes the training shape's."""
    region: str | None = None
    """Region of the trainer; None leaves it to the service."""
    custom_image_tag: str | None = None
    """Trainer image tag; None takes the shape's."""
    accelerator_type: str | None = None
    """Accelerator type, only without a training shape."""
    accelerator_count: int | None = None
    """Accelerators per node, only without a training shape."""
    node_count: int | None = None
    """Number of nodes, only without a training shape."""
    trainer_timeout_s: float = 3600.0
    """Seconds that a placed trainer may take to become ready."""
    deployment_timeout_s: float = 5400.0
    """Seconds that a deployment may take to become ready."""

    def __post_init__(self) -> None:
        check_types(self, "infra.")
        by_hand = [
            name for name in ("accelerator_type", "accelerator_count", "node_count") if getattr(self, name) is not None
        ]
        if self.training_shape_id and by_hand:
            raise ConfigError(f"infra.{by_hand[0]} cannot go with infra.training_shape_id: the shape decides it")
        if self.trainer_timeout_s <= 0:
            raise ConfigError("infra.trainer_timeout_s must be positive")


@dataclass
class WeightSyncConfig:
    """The steps at which weights are saved, and sent to the deployment that samples."""

    dcp_save_interval: int = 0
    """Save a resumable checkpoint every N steps; 0 = off, and then nothing but the final save can be resumed."""
    checkpoint_prefix: str | None = None
    """Beginning of checkpoint names; None = the recipe's name on a job named by trainer_job_id, else nothing."""
    weight_sync_interval: int = 1
    """Hot-load the weights into the deployment every N steps (recipes that sample)."""
    first_checkpoint_type: str = "base"
    """Type of a full-parameter run's first snapshot; the deployment needs a `base` before any `delta`."""
    weight_sync_before_training: bool = False
    """Hot-load the initial weights before the first step."""
    weight_sync_timeout: int = 600
    """Seconds a hot load may take."""

    def __post_init__(self) -> None:
        check_types(self, "weight_sync.")
        if self.dcp_save_interval < 0:
            raise ConfigError("weight_sync.dcp_save_interval must be 0 (off) or a positive number of steps")
        if self.weight_sync_interval < 1:
            raise ConfigError("weight_sync.weight_sync_interval must be at least 1")
        if self.first_checkpoint_type not in ("base", "delta"):
            raise ConfigError("weight_sync.first_checkpoint_type must be 'base' or 'delta'")
        prefix = self.checkpoint_prefix
        if prefix and (not LABEL.fullmatch(prefix) or len(prefix) > PREFIX_LIMIT):
            raise ConfigError(
                f"weight_sync.checkpoint_prefix {prefix!r} must be 1 to {PREFIX_LIMIT} of a-z, 0-9 and hyphen, with no "
                "hyphen at either end"
            )


@dataclass
class RunConfig:
    """A run of any recipe. `log_path` identifies it: the same path resumes, another one is another run."""

    log_path: str
    """Folder of the run: its cursors (dataloader.json), rows.json, metrics.jsonl and pictures."""
    base_model: str
    """Resource name of the model to train."""
    dataset: str
    """JSONL file of rows; docs/recipes.md shows the rows that each recipe takes."""
    tokenizer_model: str
    """Hugging Face name or folder of the tokenizer."""
    tokenizer_revision: str | None = None
    """Branch, tag or commit of a tokenizer that has a Hugging Face name; None takes the newest."""
    output_model_id: str | None = None
    """Promote the final checkpoint to this model id."""
    init_from_checkpoint: str | None = None
    """Start from the weights of "job-id:checkpoint-name", at step 0."""
    restore_optimizer: bool = False
    """With init_from_checkpoint, load its optimizer too; False starts with a fresh one."""
    warm_start_from_adapter: str | None = None
    """Start a LoRA run from a promoted adapter (accounts/<account>/models/<model>)."""
    trainer_job_id: str | None = None
    """Use this job, which exists and is not released at the end; None derives one from log_path."""
    serverless: bool = False
    """Train on the serverless pool, which has no trainer job to bring up; LoRA only."""
    lora_rank: int = 0
    """Rank of the adapter; 0 trains all parameters."""
    lora_alpha: int = 32
    """Scale of the adapter."""
    learning_rate: float = 1e-5
    """Highest learning rate."""
    lr_schedule: str = "constant"
    """Shape after the warm-up: constant, linear or cosine."""
    warmup_steps: int = 0
    """Steps over which the rate rises from zero."""
    min_lr_ratio: float = 0.0
    """End of linear and cosine, as a share of learning_rate."""
    lr_scheduler: object = None
    """The SDK's form of the three above: a name, {"type": "cosine", ...} or its CosineSchedule(...)."""
    epochs: int = 1
    """Passes over the data."""
    max_seq_len: int | None = None
    """Longest sequence in tokens; None takes what the training shape allows."""
    renderer_name: str | None = None
    """Messages become text by the tokenizer's own chat template; other renderers are refused."""
    max_examples: int | None = None
    """Read at most this many rows."""
    on_bad_row: str = "fail"
    """fail tells all rows that cannot be trained on and stops; skip leaves them out, and says so."""
    beta1: float = 0.9
    """AdamW's decay of the first moment."""
    beta2: float = 0.95
    """AdamW's decay of the second moment."""
    eps: float = 1e-8
    """AdamW's addend to the root of the second moment."""
    weight_decay: float = 0.0
    """AdamW's decay of the weights."""
    grad_clip_norm: float = 1.0
    """Largest gradient norm; 0 = no clipping."""
    seed: int = 0
    """Fixes the order of the rows, held-out rows, samples and the adapter's initial weights."""
    save_final_checkpoint: bool = True
    """Save the end of the run; False keeps the periodic saves alone, and then a rerun trains what they do not hold."""
    step_timeout: float | None = None
    """Seconds that a step may take once it is awaited; None waits as long as it takes."""
    report_to: str | None = None
    """Also log to tensorboard, wandb or trackio (offline; several with commas), besides metrics.jsonl."""
    infra: InfraConfig = field(default_factory=InfraConfig)
    """April's form of `trainer` and `deployment`."""
    weight_sync: WeightSyncConfig = field(default_factory=WeightSyncConfig)
    """April's form of `dcp_save_interval` and the fields that begin with weight_sync."""
    trainer: TrainerConfig | None = None
    """The trainer, in November's form; copied to `infra`."""
    dcp_save_interval: int | None = None
    """Save a resumable checkpoint every N steps; copied to weight_sync.dcp_save_interval, whose default is 0 (off)."""

    def __new__(cls, *args: Any, **given: Any) -> Self:
        """Remember which fields the user sets: a default must not keep a run from going on."""
        made = super().__new__(cls)
        names = [one.name for one in fields(cls)]
        refuse_elsewhere(cls.__module__, given.keys() - set(names))
        vars(made)[_GIVEN] = frozenset({*given, *names[: len(args)]})
        return made

    def __post_init__(self) -> None:
        check_types(self)
        adopt(self)
        check_common(self)

    @property
    def rows_per_step(self) -> tuple[int, int]:
        """Rows per micro-batch, and micro-batches per optimizer step."""
        return 1, 1

    def saved_steps(self, total: int) -> list[int]:
        """Returns the steps of a run of `total` after which its state is saved."""
        every, last = self.weight_sync.dcp_save_interval, total if self.save_final_checkpoint else 0
        return [step for step in range(1, total + 1) if step == last or (every and step % every == 0)]

    def evaluated_steps(self, total: int) -> list[int]:
        """Returns the steps of a run of `total` after which held-out rows are evaluated."""
        return []

    def phase(self, recipe: str) -> str:
        """Returns the beginning of this run's checkpoint names: on a job that others train too, they must differ."""
        prefix = self.weight_sync.checkpoint_prefix
        return prefix if prefix is not None else recipe if self.trainer_job_id else ""


@dataclass
class BatchConfig(RunConfig):
    """A run that trains on batches of rows from a file, and evaluates on rows that it holds out."""

    batch_size: int = 8
    """Rows per micro-batch, which is one request."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimizer step."""
    truncate: bool = True
    """Cut rows longer than max_seq_len; False leaves them out. Both are counted."""
    group_by_length: bool = False
    """Put rows of like length into one batch; the order of the batches stays random."""
    eval_split: float = 0.0
    """Share of the rows held out for evaluation."""
    eval_dataset: str | None = None
    """File of rows for evaluation, instead of eval_split."""
    evaluation_dataset: str | None = None
    """Newer name of eval_dataset, to which it is copied."""
    eval_auto_carveout: bool = False
    """Refused: say with eval_split which share is held out."""
    eval_interval: int = 0
    """Evaluate every N steps; 0 = before the first and after the last only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_evaluation(self)

    @property
    def rows_per_step(self) -> tuple[int, int]:
        return self.batch_size, self.gradient_accumulation_steps

    def evaluated_steps(self, total: int) -> list[int]:
        every = self.eval_interval
        return [step for step in range(1, total + 1) if step == total or (every and step % every == 0)]


@dataclass
class SamplingConfig(RunConfig):
    """A run that trains on what its own policy samples on a deployment."""

    ground_truth_key: str | None = None
    """Where a row has its truth, such as answer or reward_model.ground_truth; rewards find it in ground_truth."""
    deployment_id: str | None = None
    """Sample from this deployment, which exists and is not deleted at the end; None derives one from log_path."""
    deployment_replicas: int = 1
    """Replicas of the deployment."""
    prompts_per_step: int = 8
    """Prompts per optimizer step."""
    completions_per_prompt: int = 4
    """Samples per prompt, which are compared with one another."""
    max_completion_tokens: int = 64
    """Longest sample in tokens."""
    temperature: float = 1.0
    """Sampling temperature, above 0; other than 1 it samples from a sharper or flatter policy than is trained."""
    rollout_concurrency: int = 64
    """Completion requests in flight at a time."""
    policy_loss: str = "grpo"
    """grpo or ppo, dapo, gspo, cispo, dro, dppo, importance_sampling, reinforce."""
    loss_config: dict[str, float] = field(default_factory=dict)
    """Settings of the loss on the server, such as {"clip_high_threshold": 1.28}."""
    kl_beta: float = 0.0
    """Price of a nat of divergence from the base model; above 0 a reference model is asked for log-probabilities."""
    deployment: DeployConfig | None = None
    """The deployment, in November's form; copied to `infra`, deployment_id and deployment_replicas."""
    weight_sync_interval: int | None = None
    """Hot-load the weights every N steps; copied to weight_sync.weight_sync_interval, whose default is 1."""
    weight_sync_before_training: bool | None = None
    """Hot-load the initial weights before the first step; copied to weight_sync."""
    weight_sync_timeout: int | None = None
    """Seconds a hot load may take; copied to weight_sync."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = ("prompts_per_step", "max_completion_tokens", "rollout_concurrency", "deployment_replicas")
        check_at_least(self, dict.fromkeys(counts, 1) | {"completions_per_prompt": 2, "kl_beta": 0})
        if not 0 < self.temperature <= 2:
            raise ConfigError(
                f"temperature must be above 0, where samples differ, and at most 2, not {self.temperature!r}"
            )
        if self.temperature != 1 and self.weight_sync.weight_sync_interval > 1:
            raise ConfigError(
                f"temperature={self.temperature:g} needs weight_sync.weight_sync_interval=1: log-probabilities at "
                "temperature 1 are the trainer's, which must be the policy that sampled"
            )

    @property
    def rows_per_step(self) -> tuple[int, int]:
        return self.prompts_per_step, 1


def is_set(config: object, name: str) -> bool:
    """Returns True for a field that the user set, by either of its names, and for any of a configuration not ours."""
    given = vars(config).get(_GIVEN)
    return given is None or name in given or isinstance(getattr(config, name), AdoptedText | AdoptedCount)


def mark_set(config: RunConfig, names: Iterable[str]) -> None:
    """Say which fields the user set, where a program has filled in defaults of its own."""
    vars(config)[_GIVEN] = frozenset(names)


class JobSettings(Protocol):
    """The fields of a configuration that a trainer job is made from; a program's own dataclass may have them."""

    log_path: str
    base_model: str
    lora_rank: int
    lora_alpha: int
    learning_rate: float
    seed: int
    trainer_job_id: str | None
    infra: InfraConfig


class StartSettings(Protocol):
    """The fields of a configuration that a start from other weights is checked against."""

    base_model: str
    lora_rank: int
