"""Direct preference optimisation (Rafailov et al. 2023): `main(Config(...))` trains, saves, resumes and promotes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ftsim.training.checkpoints.identity import as_begun
from ftsim.training.checks import check_at_least, check_choice
from ftsim.training.clients import CustomLoss
from ftsim.training.config import BatchConfig
from ftsim.training.data.preferences import Pair
from ftsim.training.errors import ConfigError
from ftsim.training.loop import Data, Learner, Recipe, Result, Run, run
from ftsim.training.losses import PICTURES, dpo_loss, load_pairs, pair_learner
from ftsim.training.reference import REFERENCES, add_reference

METRICS = ("loss", "accuracy", "margin", "chosen", "rejected")


@dataclass
class Config(BatchConfig):
    """A preference run on pairs of a chosen and a rejected answer, compared with a reference model."""

    beta: float = 0.1
    """Strength of the pull towards the reference model."""
    label_smoothing: float = 0.0
    """Share of the preferences taken to be wrong."""
    reference: str = "start"
    """The reference model: "start" is the policy before its first step, "base" the base model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("reference", self.reference, REFERENCES)
        check_at_least(self, {"beta": 0, "label_smoothing": 0})
        if self.label_smoothing >= 0.5:
            raise ConfigError("label_smoothing must be below 0.5, where a preference says nothing")


def main(config: Config) -> Result:
    """Run, or go on with, the training `config` describes; returns job id, steps and promoted model."""
    said = as_begun(config)
    return run(config, recipe(config), said)


def recipe(config: Config) -> Recipe[Config, Pair | None]:
    """Returns the parts that this recipe brings to a run."""
    return Recipe("dpo", load_pairs, learner, rows="pairs", pictures=PICTURES)


@contextmanager
def learner(run: Run[Config], data: Data[Pair | None]) -> Iterator[Learner]:
    """Take steps on the DPO loss, on pairs that carry the reference model's log-probabilities."""
    config = run.config
    train, held_out = add_reference(
        run.manager,
        config,
        run.client,
        run.max_seq_len,
        data.train,
        data.held_out,
        kind=config.reference,
        at_start=run.done == 0,
    )

    def loss(pairs: Sequence[Pair], count: int) -> CustomLoss:
        return dpo_loss(pairs, beta=config.beta, label_smoothing=config.label_smoothing, divisor=count)

    yield pair_learner(run, train, held_out, loss, METRICS)
