"""Reinforcement learning on verifiable answers: sample, reward, compare within the group, step, hot-load, repeat."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ftsim.training.checks import check_at_least
from ftsim.training.clients import Tokenizer, TrainingClient
from ftsim.training.config import RunConfig
from ftsim.training.data.batches import Step
from ftsim.training.data.supervised import load_tokenizer
from ftsim.training.errors import ConfigError
from ftsim.training.loop import Result, run
from ftsim.training.reinforcement import Scores, sampling_recipe
from ftsim.training.sampling.advantages import Scored, check_loss, normalised
from ftsim.training.sampling.policy import Policy
from ftsim.training.sampling.rewards import resolve
from ftsim.training.sampling.rollouts import FilterFn, Group, Prompt, RewardFn, paid, sample_all, sampling_seed


@dataclass
class Config(RunConfig):
    """A reinforcement run on {"messages": [...], "ground_truth": ...} rows, all of whose fields the reward may use."""

    reward_fn: str = "ftsim.training.sampling.rewards:exact_match"
    """"module:function" that takes a completion's text and its row and gives a number."""
    filter_fn: str = "ftsim.training.sampling.rewards:has_signal"
    """"module:function" that takes a `Group` and says whether it is trained on; filtered groups count as consumed."""
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

    def __post_init__(self) -> None:
        super().__post_init__()
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

    @property
    def rows_per_step(self) -> tuple[int, int]:
        return self.prompts_per_step, 1


def main(config: Config, reward_fn: RewardFn | None = None, filter_fn: FilterFn | None = None) -> Result:
    """Run, or go on with, the training `config` describes; returns job id, steps and promoted model."""
    reward = reward_fn or resolve(config.reward_fn, "reward_fn")
    keep = filter_fn or resolve(config.filter_fn, "filter_fn")
    tokenizer = load_tokenizer(config.tokenizer_model)

    def collect(client: TrainingClient, policy: Policy, prompts: Sequence[Prompt], step: Step) -> Scores:
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

    return run(config, sampling_recipe("rl", tokenizer, collect))


def roll_out(
    config: Config, policy: Policy, tokenizer: Tokenizer, prompts: Sequence[Prompt], step: Step, reward: RewardFn
) -> list[Group]:
    """Returns a group of samples for every row of the step; each sample is fixed by (seed, step, row, place)."""
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
