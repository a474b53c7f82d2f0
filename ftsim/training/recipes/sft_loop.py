"""Supervised fine-tuning: `main(Config(...))` trains, saves, resumes and promotes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ftsim.training.checkpoints.identity import as_begun
from ftsim.training.checks import check_at_least
from ftsim.training.config import BatchConfig
from ftsim.training.data.batches import Step, split
from ftsim.training.data.forms import ALL, TRAIN_ON_WHAT
from ftsim.training.data.store import Datums, Rows
from ftsim.training.data.supervised import load_supervised, load_tokenizer
from ftsim.training.errors import ConfigError, DataError
from ftsim.training.loop import Data, Figures, Learner, Recipe, Result, Run, Say, run
from ftsim.training.steps import grad_norm, mean_loss, submit


@dataclass
class Config(BatchConfig):
    """A supervised run on {"messages": [...]} or {"prompt": ..., "completion": ...} rows."""

    learning_rate: float = 1e-4
    """Highest learning rate."""
    epochs: int = 3
    """Passes over the data."""
    train_on_what: str = ALL
    """all_assistant_messages, last_assistant_message, last_assistant_turn, or customized: those marked trainable."""
    pipeline_depth: int = 1
    """Steps submitted before the first of them is awaited."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, {"pipeline_depth": 0})
        if self.train_on_what not in TRAIN_ON_WHAT:
            raise ConfigError(
                f"train_on_what {self.train_on_what!r} is not one of {', '.join(TRAIN_ON_WHAT)}: only what the "
                "assistant says is trained, never what others tell it"
            )


def main(config: Config) -> Result:
    """Run, or go on with, the training `config` describes; returns job id, steps and promoted model."""
    said = as_begun(config)
    return run(config, recipe(config), said)


def recipe(config: Config) -> Recipe[Config, Any]:
    """Returns the parts that this recipe brings to a run."""
    return Recipe("sft", load, learner)


def load(config: Config, max_seq_len: int, say: Say) -> Data[Any]:
    """Read training data, None where a row is dropped, and held-out data; bad input raises `DataError` right here."""
    tokenizer = load_tokenizer(config.tokenizer_model, config.tokenizer_revision)
    loaded = load_supervised(
        config.dataset,
        tokenizer,
        max_seq_len,
        truncate=config.truncate,
        max_examples=config.max_examples,
        on_bad_row=config.on_bad_row,
        train_on_what=config.train_on_what,
    )
    rows, held_out_rows = split(len(loaded.data), config.eval_split, config.seed)
    train, held_out = Rows(loaded.store, rows), Rows(loaded.store, held_out_rows)
    if not any(train.usable):
        raise DataError(f"{config.dataset}: eval_split leaves nothing to train on")
    evaluated = None
    if config.eval_dataset:
        evaluated = load_supervised(
            config.eval_dataset,
            tokenizer,
            max_seq_len,
            truncate=config.truncate,
            on_bad_row=config.on_bad_row,
            train_on_what=config.train_on_what,
        )
        held_out = evaluated.data
        evaluated.notes.tell(say)
    loaded.notes.tell(say)
    say(f"{len(train)} rows, {len(held_out)} held out; {loaded.truncated} cut, {loaded.dropped} dropped")
    lengths = [sum(one.model_input.length for one in row or ()) for row in train] if config.group_by_length else None
    digests = (loaded.store.digest, None if evaluated is None else evaluated.store.digest)
    return Data(train, train.usable, Datums(held_out), lengths, *digests)


@contextmanager
def learner(run: Run[Config], data: Data[Any]) -> Iterator[Learner]:
    """Take steps on the cross-entropy of the trained tokens, `pipeline_depth` steps submitted ahead."""
    config, client = run.config, run.client

    def begin(step: Step, rate: float) -> Callable[[], Figures]:
        batches = [[one for row in rows for one in data.train[row] or ()] for rows in step.micro_batches]
        submitted = submit(client, batches, "cross_entropy", rate, config)

        def figures() -> Figures:
            sums, update = submitted.result()
            tokens = sums.get("response_tokens", 0.0)
            return {"loss": sums["loss:sum"] / tokens, "tokens": int(tokens)} | grad_norm(update)

        return figures

    def evaluate() -> Figures:
        return {"eval_loss": mean_loss(client, data.held_out, config.batch_size)}

    yield Learner(begin, evaluate if data.held_out else None, ahead=config.pipeline_depth)
