"""Reinforcement learning on verifiable answers: sample, reward, compare within the group, step, hot-load, repeat."""

from collections.abc import Sequence
from dataclasses import dataclass

from ftsim.training.checkpoints.identity import as_begun
from ftsim.training.clients import Tokenizer, TrainingClient
from ftsim.training.config import SamplingConfig
from ftsim.training.data.batches import Step
from ftsim.training.data.supervised import load_tokenizer
from ftsim.training.loop import Recipe, Result, run
from ftsim.training.reinforcement import Rollout, Scores, sampling_recipe
from ftsim.training.sampling.advantages import Scored, check_loss, normalised
from ftsim.training.sampling.policy import Policy
from ftsim.training.sampling.rewards import exact_match, resolve
from ftsim.training.sampling.rollouts import (
    FilterFn,
    Group,
    Prompt,
    RewardFn,
    Sample,
    Sampling,
    begin_sampling,
    paid,
    sampling_seed,
)


@dataclass
class Config(SamplingConfig):
    """A reinforcement run on {"messages": [...], "ground_truth": ...} rows, all of whose fields the reward may use."""

    reward_fn: str = "ftsim.training.sampling.rewards:exact_match"
    """"module:function" that takes a completion's text and its row and gives a number."""
    filter_fn: str = "ftsim.training.sampling.rewards:has_signal"
    """"module:function" that takes a `Group` and says whether it is trained on; filtered groups count as consumed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_loss(self.policy_loss, self.loss_config)


def main(config: Config, reward_fn: RewardFn | None = None, filter_fn: FilterFn | None = None) -> Result:
    """Run, or go on with, the training `config` describes; returns job id, steps and promoted model."""
    said = as_begun(config)
    return run(config, recipe(config, reward_fn, filter_fn), said)


def recipe(
    config: Config, reward_fn: RewardFn | None = None, filter_fn: FilterFn | None = None
) -> Recipe[SamplingConfig, Prompt]:
    """Returns the parts that this recipe brings to a run."""
    return group_recipe("rl", config, reward_fn, filter_fn)


def group_recipe(
    name: str, config: Config, reward_fn: RewardFn | None, filter_fn: FilterFn | None, *, ahead: int | None = None
) -> Recipe[SamplingConfig, Prompt]:
    """Returns a recipe that samples a group per prompt and scores every sample against its group."""
    reward = reward_fn or resolve(config.reward_fn, "reward_fn")
    keep = filter_fn or resolve(config.filter_fn, "filter_fn")
    tokenizer = load_tokenizer(config.tokenizer_model, config.tokenizer_revision)

    def collect(client: TrainingClient, policy: Policy, prompts: Sequence[Prompt], step: Step) -> Rollout:
        asked = [(row, prompts[row]) for row in step.micro_batches[0]]
        sampling = begin_groups(config, policy, tokenizer, asked, step)

        def score() -> Scores:
            groups = paid_groups(config, sampling.samples(), [prompt for _, prompt in asked], reward)
            kept = [group for group in groups if keep(group)]
            scored = [
                Scored(sample, advantage)
                for group in kept
                for sample, advantage in zip(group.samples, normalised(group.rewards), strict=True)
            ]
            rewards = [one for group in groups for one in group.rewards]
            return Scores(scored, {"reward": sum(rewards) / len(rewards), "filtered": len(groups) - len(kept)})

        return Rollout(score, sampling.cancel)

    return sampling_recipe(name, tokenizer, collect, needs_truth=reward is exact_match, ahead=ahead)


def begin_groups(
    config: Config, policy: Policy, tokenizer: Tokenizer, asked: Sequence[tuple[int, Prompt]], step: Step
) -> Sampling:
    """Ask for a group of samples for every row of the step; each sample is fixed by (seed, step, row, place)."""
    requests = [
        (prompt.tokens, sampling_seed(config.seed, step.index, row, place))
        for row, prompt in asked
        for place in range(config.completions_per_prompt)
    ]
    return begin_sampling(
        policy.client, tokenizer, requests, max_tokens=config.max_completion_tokens, temperature=config.temperature
    )


def paid_groups(config: Config, samples: Sequence[Sample], prompts: Sequence[Prompt], reward: RewardFn) -> list[Group]:
    """Returns the samples by prompt, each with what it is worth."""
    count, groups = config.completions_per_prompt, []
    for at, prompt in enumerate(prompts):
        mine = samples[at * count : (at + 1) * count]
        groups.append(Group(prompt, mine, [paid(reward(one.text, prompt.row), prompt) for one in mine]))
    return groups
