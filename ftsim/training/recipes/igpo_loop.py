"""Multi-turn reinforcement learning whose turns are paid for what they find out.

After Wang et al. 2025, "Information Gain-based Policy Optimization" (arXiv 2510.14967): a turn's reward is by how much
it raises the policy's own probability of the right answer; the last turn is paid for the outcome; all rewards of a
group are normalised together and added up backwards, so that a turn also gets its share of what follows from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ftsim.training.checkpoints.identity import as_begun
from ftsim.training.checks import check_at_least, check_choice
from ftsim.training.clients import TrainingClient
from ftsim.training.config import SamplingConfig
from ftsim.training.data.batches import Step
from ftsim.training.data.supervised import load_tokenizer
from ftsim.training.errors import ConfigError
from ftsim.training.loop import Recipe, Result, run
from ftsim.training.recipes import rl_loop
from ftsim.training.reinforcement import Rollout, Scores, sampling_recipe
from ftsim.training.sampling.advantages import Scored, discounted, normalised
from ftsim.training.sampling.environments import Environment, search
from ftsim.training.sampling.episodes import information_gains, play
from ftsim.training.sampling.policy import Policy
from ftsim.training.sampling.rewards import resolve
from ftsim.training.sampling.rollouts import FilterFn, Group, Prompt


@dataclass
class Config(rl_loop.Config):
    """A multi-turn run: all of `rl_loop.Config` (without its reward_fn), and how turns are played and paid."""

    environment: str = "ftsim.training.sampling.environments:search"
    """"module:function" that answers the policy's turns and pays for the outcome."""
    max_turns: int = 3
    """Turns after which an episode ends, answered or not."""
    answer_template: str = "answer: {ground_truth}"
    """The right answer as the policy would say it; the fields in braces are the row's."""
    information_gain: str = "probability"
    """Figure that a turn has to raise: probability (of the answer, per token, as in the paper) or logprob."""
    gain_weight: float = 1.0
    """Weight of the gain against the outcome; 0 pays for the outcome alone."""
    discount: float = 1.0
    """A turn's share of the next turn's advantage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward_fn != rl_loop.Config.reward_fn:
            raise ConfigError("reward_fn is not used here: the outcome is paid for by `environment`; name yours there")
        check_choice("information_gain", self.information_gain, ("probability", "logprob"))
        check_at_least(self, {"max_turns": 1, "gain_weight": 0, "discount": 0})
        if self.discount > 1:
            raise ConfigError("discount must lie between 0 and 1")


def main(config: Config, environment: Environment | None = None, filter_fn: FilterFn | None = None) -> Result:
    """Run, or go on with, the training `config` describes; returns job id, steps and promoted model."""
    said = as_begun(config)
    return run(config, recipe(config, environment, filter_fn), said)


def recipe(
    config: Config, environment: Environment | None = None, filter_fn: FilterFn | None = None
) -> Recipe[SamplingConfig, Prompt]:
    """Returns the parts that this recipe brings to a run."""
    world = environment or resolve(config.environment, "environment")
    keep = filter_fn or resolve(config.filter_fn, "filter_fn")
    tokenizer = load_tokenizer(config.tokenizer_model, config.tokenizer_revision)

    def collect(client: TrainingClient, policy: Policy, prompts: Sequence[Prompt], step: Step) -> Rollout:
        return Rollout(lambda: play_and_score(client, policy, prompts, step))

    def play_and_score(client: TrainingClient, policy: Policy, prompts: Sequence[Prompt], step: Step) -> Scores:
        """Play a group of episodes per prompt and score every turn against all turns of its group."""
        count = config.completions_per_prompt
        episodes = play(config, policy, tokenizer, prompts, step, world)
        gains = information_gains(config, client, tokenizer, episodes)
        scored: list[Scored] = []
        filtered = 0
        for at in range(0, len(episodes), count):
            group = list(zip(episodes[at : at + count], gains[at : at + count], strict=True))
            # The last turn has nothing after it to find out; it is paid for what came of the episode.
            rewards = [[*(config.gain_weight * gain for gain in found), one.outcome] for one, found in group]
            turns = [sample for one, _ in group for sample in one.samples]
            flat = [reward for episode in rewards for reward in episode]
            if not keep(Group(group[0][0].prompt, turns, flat)):
                filtered += 1
                continue
            share = iter(normalised(flat))
            totals = [discounted([next(share) for _ in episode], config.discount) for episode in rewards]
            scored += map(Scored, turns, [advantage for episode in totals for advantage in episode])
        return Scores(
            scored,
            {
                "reward": sum(one.outcome for one in episodes) / len(episodes),
                "gain": sum(map(sum, gains)) / len(episodes),
                "turns": sum(len(one.samples) for one in episodes) / len(episodes),
                "filtered": filtered,
            },
        )

    return sampling_recipe("igpo", tokenizer, collect, needs_truth=world is search)
