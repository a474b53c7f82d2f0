"""Reinforcement learning on verifiable answers: sample, reward, compare within the group, step, hot-load, repeat."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ftsim.training.config import check_at_least, check_common
from ftsim.training.data.batches import Step
from ftsim.training.data.supervised import load_tokenizer
from ftsim.training.errors import ConfigError
from ftsim.training.reinforcement import Scores, run
from ftsim.training.sampling.advantages import Scored, check_loss, normalised
from ftsim.training.sampling.policy import Policy
from ftsim.training.sampling.rewards import resolve
from ftsim.training.sampling.rollouts import FilterFn, Group, Prompt, RewardFn, paid, sample_all, sampling_seed
from ftsim.training.utils import InfraConfig, WeightSyncConfig


@dataclass
class Config:
    """A reinforcement run. `log_path` identifies it: the same path resumes, another one is another run."""

    log_path: str
    """Folder for dataloader.json, rows.json, metrics.jsonl and reward.png."""
    base_model: str
    """Resource name of the model to train."""
    dataset: str
    """JSONL file of {"messages": [...], "ground_truth": ...} rows; whatever else a row holds the reward may use."""
    tokenizer_model: str
    """Hugging Face name or folder of the tokenizer."""
    reward_fn: str = "ftsim.training.sampling.rewards:exact_match"
    """"module:function" that takes a completion's text and its row and gives a number."""
    filter_fn: str = "ftsim.training.sampling.rewards:has_signal"
    """"module:function" that takes a `Group` and says whether it is trained on; filtered groups count as consumed."""
    output_model_id: str | None = None
    """Promote the final checkpoint to this model id."""
    init_from_checkpoint: str | None = None
    """Start from the weights of "job-id:checkpoint-name", at step 0."""
    warm_start_from_adapter: str | None = None
    """Start a LoRA run from a promoted adapter (accounts/<account>/models/<model>)."""
    trainer_job_id: str | None = None
    """Use this job, which exists and is not released at the end; None derives one from log_path."""
    deployment_id: str | None = None
    """Sample from this deployment, which exists and is not deleted at the end; None derives one from log_path."""
    deployment_replicas: int = 1
    """Replicas of the deployment."""
    lora_rank: int = 0
    """Rank of the adapter; 0 trains all parameters."""
    lora_alpha: int = 32
    """Scale of the adapter."""
    learning_rate: float = 1e-5
    """Highest learning rate."""
    lr_schedule: str = "constant"
    """What follows the warm-up: constant, linear or cosine."""
    warmup_steps: int = 0
    """Steps over which the rate rises from zero."""
    min_lr_ratio: float = 0.0
    """Where linear and cosine end, as a share of learning_rate."""
    epochs: int = 1
    """Passes over the prompts."""
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
    max_seq_len: int | None = None
    """Longest prompt and completion together in tokens; None takes what the training shape allows."""
    max_examples: int | None = None
    """Read at most this many rows."""
    beta1: float = 0.9
    """AdamW, as are the next three."""
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    grad_clip_norm: float = 1.0
    """Largest gradient norm; 0 = no clipping."""
    seed: int = 0
    """Fixes the order of the rows, every sample and the adapter's initial weights."""
    infra: InfraConfig = field(default_factory=InfraConfig)
    weight_sync: WeightSyncConfig = field(default_factory=WeightSyncConfig)

    def __post_init__(self) -> None:
        check_common(self)
        check_loss(self.policy_loss, self.loss_config)
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


def main(config: Config, reward_fn: RewardFn | None = None, filter_fn: FilterFn | None = None) -> dict[str, Any]:
    """Run, or go on with, the training `config` describes; returns job id, steps and promoted model."""
    reward = reward_fn or resolve(config.reward_fn, "reward_fn")
    keep = filter_fn or resolve(config.filter_fn, "filter_fn")
    tokenizer = load_tokenizer(config.tokenizer_model)

    def collect(client: Any, policy: Policy, prompts: Sequence[Prompt], step: Step) -> Scores:
        """Sample a group per prompt and score every sample against its group."""
        groups = roll_out(config, policy, tokenizer, prompts, step, reward)
        kept = [group for group in groups if keep(group)]
        scored = [
            Scored(sample, advantage)
            for group in kept
            for sample, advantage in zip(group.samples, normalised(group.rewards), strict=True)
        ]
        rewards = [one for group in groups for one in group.rewards]
        return Scores(scored, {"reward": sum(rewards) / len(rewards), "filtered": len(groups) - len(kept)})

    return run(config, "rl", tokenizer, collect)


def roll_out(
    config: Config, policy: Policy, tokenizer: Any, prompts: Sequence[Prompt], step: Step, reward: RewardFn
) -> list[Group]:
    """A group of samples for every row of the step; each sample is fixed by (seed, step, row, place)."""
    rows, count = step.micro_batches[0], config.completions_per_prompt
    requests = [
        (prompts[row].tokens, sampling_seed(config.seed, step.index, row, place))
        for row in rows
        for place in range(count)
    ]
    samples = sample_all(
        policy.client, tokenizer, requests, max_tokens=config.max_completion_tokens, temperature=config.temperature
    )
    groups = []
    for at, row in enumerate(rows):
        mine = samples[at * count : (at + 1) * count]
        groups.append(
            Group(prompts[row], mine, [paid(reward(one.text, prompts[row].row), prompts[row]) for one in mine])
        )
    return groups
