"""Preference data: JSONL rows with a chosen and a rejected answer, and the pairs of datums they become."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftsim.training.data.batches import split
from ftsim.training.data.supervised import (
    Row,
    TextRow,
    check_messages,
    datum,
    fit,
    load_tokenizer,
    read_objects,
    tokenize,
)
from ftsim.training.errors import DataError


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt as datums; `weights` is 1 on the answer's tokens and 0 on the prompt's."""

    chosen: Any
    rejected: Any
    reference: Sequence[float] | None = None
    """What a reference model makes of the chosen and of the rejected answer, as log-probabilities."""


@dataclass(frozen=True)
class LoadedPairs:
    """Pairs by row of the file, None where the row is dropped, and how many were cut to fit."""

    pairs: Sequence[Pair | None]
    truncated: int

    @property
    def dropped(self) -> int:
        return sum(pair is None for pair in self.pairs)


def load_preferences(
    path: str, tokenizer: Any, max_seq_len: int, *, truncate: bool, max_examples: int | None = None
) -> LoadedPairs:
    """A JSONL file as pairs; `DataError` for bad lines, and when no pair is left to train on.

    A row holds `chosen` and `rejected`, each {"messages": [...]} or a list of messages, or all three of `prompt`,
    `chosen` and `rejected` as text. What both conversations begin with is the prompt.
    """
    pairs: list[Pair | None] = []
    truncated = 0
    for sides in read_objects(path, parse_pair, max_examples=max_examples):
        examples = [tokenize(side, tokenizer) for side in sides]
        fitted = [fit(example, max_seq_len, truncate=truncate) for example in examples]
        chosen, rejected = fitted
        # A pair that is cut to the same tokens on both sides prefers nothing.
        if chosen is None or rejected is None or chosen.tokens == rejected.tokens:
            pairs.append(None)
            continue
        truncated += fitted != examples
        pairs.append(Pair(datum(chosen), datum(rejected)))
    if all(pair is None for pair in pairs):
        raise DataError(f"{path}: no pair has two answers to compare within {max_seq_len} tokens")
    return LoadedPairs(pairs, truncated)


def load_split(config: Any, max_seq_len: int, say: Callable[[str], None]) -> tuple[list[Pair | None], list[Pair]]:
    """A recipe's pairs to train on, None where a row is dropped, and its held-out pairs; `DataError` on bad input."""
    tokenizer = load_tokenizer(config.tokenizer_model)
    loaded = load_preferences(
        config.dataset, tokenizer, max_seq_len, truncate=config.truncate, max_examples=config.max_examples
    )
    rows, held_out_rows = split(len(loaded.pairs), config.eval_split, config.seed)
    train, held_out = [loaded.pairs[row] for row in rows], [loaded.pairs[row] for row in held_out_rows]
    if all(pair is None for pair in train):
        raise DataError(f"{config.dataset}: eval_split leaves nothing to train on")
    if config.eval_dataset:
        held_out = list(load_preferences(config.eval_dataset, tokenizer, max_seq_len, truncate=config.truncate).pairs)
    say(f"{len(train)} pairs, {len(held_out)} held out; {loaded.truncated} cut, {loaded.dropped} dropped")
    return train, [pair for pair in held_out if pair is not None]


def parse_pair(row: Row, where: str) -> tuple[TextRow, TextRow]:
    """The chosen and the rejected side of one row; `DataError` says what is wrong with it."""
    missing = [field for field in ("chosen", "rejected") if field not in row]
    if missing:
        raise DataError(f"{where}: {missing[0]!r} is missing; the row has {sorted(row)}")
    chosen, rejected = row["chosen"], row["rejected"]
    if chosen == rejected:
        raise DataError(f"{where}: chosen and rejected are the same, so nothing is preferred")
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _text_sides(row.get("prompt"), chosen, rejected, where)
    sides = [_conversation(row, field, where) for field in ("chosen", "rejected")]
    shared = _shared(*sides)
    fields = (f"{field} after what both have in common" for field in ("chosen", "rejected"))
    return tuple(  # type: ignore[return-value]
        TextRow(where, check_messages(messages, where, field, shared), shared)
        for messages, field in zip(sides, fields, strict=True)
    )


def _text_sides(prompt: Any, chosen: str, rejected: str, where: str) -> tuple[TextRow, TextRow]:
    if not isinstance(prompt, str):
        raise DataError(f"{where}: chosen and rejected are text, so 'prompt' must be text too")
    if not chosen or not rejected:
        raise DataError(f"{where}: chosen and rejected must not be empty")
    return TextRow(where, prompt=prompt, completion=chosen), TextRow(where, prompt=prompt, completion=rejected)


def _conversation(row: Row, field: str, where: str) -> list[Any]:
    """All messages of one side, those of a separate `prompt` first."""
    side = row[field]
    messages = side.get("messages") if isinstance(side, Mapping) else side
    prompt = row.get("prompt", [])
    if not isinstance(messages, list) or not isinstance(prompt, list):
        raise DataError(
            f"{where}: {field} must be an object with messages, a list of messages, or text like prompt and the "
            "other side"
        )
    return [*prompt, *messages]


def _shared(chosen: Sequence[Any], rejected: Sequence[Any]) -> int:
    """How many messages both sides begin with."""
    pairs = zip(chosen, rejected, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(chosen), len(rejected)))


def as_data(pairs: Sequence[Pair]) -> list[Any]:
    """The datums of a batch: chosen and rejected in turn, 2N of N pairs."""
    return [one for pair in pairs for one in (pair.chosen, pair.rejected)]
