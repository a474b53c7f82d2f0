"""Odds-ratio preference optimisation (Hong et al. 2024): `main(Config(...))` trains, saves, resumes and promotes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ftsim.training.checkpoints.identity import as_begun
from ftsim.training.checks import check_at_least
from ftsim.training.clients import CustomLoss
from ftsim.training.config import BatchConfig
from ftsim.training.data.preferences import Pair
from ftsim.training.loop import Data, Learner, Recipe, Result, Run, run
from ftsim.training.losses import PICTURES, load_pairs, orpo_loss, pair_learner

METRICS = ("loss", "nll", "odds_loss", "accuracy", "margin", "chosen", "rejected")


@dataclass
class Config(BatchConfig):
    """A preference run on pairs of a chosen and a rejected answer, without a reference model."""

    odds_weight: float = 0.1
    """Weight of the odds-ratio term beside the supervised one (lambda in the paper)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, {"odds_weight": 0})


def main(config: Config) -> Result:
    """Run, or go on with, the training `config` describes; returns job id, steps and promoted model."""
    said = as_begun(config)
    return run(config, recipe(config), said)


def recipe(config: Config) -> Recipe[Config, Pair | None]:
    """Returns the parts that this recipe brings to a run."""
    return Recipe("orpo", load_pairs, learner, rows="pairs", pictures=PICTURES)


@contextmanager
def learner(run: Run[Config], data: Data[Pair | None]) -> Iterator[Learner]:
    """Take steps on the odds-ratio loss."""

    def loss(pairs: Sequence[Pair], count: int) -> CustomLoss:
        return orpo_loss(pairs, odds_weight=run.config.odds_weight, divisor=count)

    yield pair_learner(run, data.train, data.held_out, loss, METRICS)
