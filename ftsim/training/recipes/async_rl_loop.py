"""Reinforcement learning whose sampling runs ahead of its training: the steps that come next are sampled meanwhile."""

from dataclasses import dataclass

from ftsim.training.checkpoints.identity import as_begun
from ftsim.training.checks import check_at_least
from ftsim.training.config import SamplingConfig
from ftsim.training.errors import ConfigError
from ftsim.training.loop import Recipe, Result, run
from ftsim.training.recipes import rl_loop
from ftsim.training.sampling.rollouts import FilterFn, Prompt, RewardFn


@dataclass
class Config(rl_loop.Config):
    """A run of `rl_loop` that trains on samples of a policy that is a bounded number of steps behind."""

    max_steps_off_policy: int = 1
    """Most steps that the policy which sampled may be behind the one that is trained; 0 samples and trains in turn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, {"max_steps_off_policy": 0})
        interval = self.weight_sync.weight_sync_interval
        if interval > self.max_steps_off_policy + 1:
            raise ConfigError(
                f"weight_sync_interval={interval} leaves the policy that samples {interval - 1} steps behind: set it "
                f"to at most max_steps_off_policy + 1, which is {self.max_steps_off_policy + 1}"
            )
        if not self.max_steps_off_policy:
            return
        if self.temperature != 1:
            raise ConfigError(
                f"temperature={self.temperature:g} needs max_steps_off_policy=0: samples of an earlier policy are "
                "weighed by the log-probabilities that it gave them, which are the policy's own at temperature 1 alone"
            )
        if self.policy_loss == "reinforce":
            raise ConfigError(
                "policy_loss reinforce weighs no sample by how likely it is now, so its gradient is wrong for samples "
                "of an earlier policy: use grpo, importance_sampling or another loss with a ratio, or "
                "max_steps_off_policy=0"
            )


def main(config: Config, reward_fn: RewardFn | None = None, filter_fn: FilterFn | None = None) -> Result:
    """Run, or go on with, the training `config` describes; returns job id, steps and promoted model."""
    said = as_begun(config)
    return run(config, recipe(config, reward_fn, filter_fn), said)


def recipe(
    config: Config, reward_fn: RewardFn | None = None, filter_fn: FilterFn | None = None
) -> Recipe[SamplingConfig, Prompt]:
    """Returns the parts that this recipe brings to a run."""
    # The weights on the deployment are up to an interval old when a step is begun, which counts too.
    ahead = config.max_steps_off_policy - (config.weight_sync.weight_sync_interval - 1)
    return rl_loop.group_recipe("async-rl", config, reward_fn, filter_fn, ahead=ahead)
