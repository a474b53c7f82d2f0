"""Preference data: rows with a better and a worse answer in the forms in use, and the pairs of datums they become."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ftsim.training.clients import Tokenizer
from ftsim.training.config import BatchConfig
from ftsim.training.data.batches import split
from ftsim.training.data.conversation import ConversationError, Message, read_messages, without_nulls
from ftsim.training.data.files import BadRow, Row
from ftsim.training.data.forms import chat, check_trained, note_fields, said, text_of, unspelt, weight_of
from ftsim.training.data.notes import Notes
from ftsim.training.data.store import Data, Store, fit
from ftsim.training.data.supervised import load_tokenizer, read_objects
from ftsim.training.data.turns import Example, Text, TextRow, Turns
from ftsim.training.errors import DataError


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, each as datums; `weights` is not 0 on the answer's tokens and 0 on the prompt's."""

    chosen: Sequence[Any]
    rejected: Sequence[Any]
    reference: Sequence[float] | None = None
    """What a reference model makes of the chosen and of the rejected answer, as log-probabilities."""
    weight: float = 1.0
    """What scales the loss of the pair."""


@dataclass(frozen=True)
class LoadedPairs:
    """Pairs by row of the file, None where the row is dropped, how many were cut to fit, and what is to be said."""

    pairs: Sequence[Pair | None]
    truncated: int
    notes: Notes
    digest: str
    """Digest of the tokens and weights of all pairs in their order."""

    @property
    def dropped(self) -> int:
        return sum(pair is None for pair in self.pairs)


@dataclass(frozen=True)
class Sides:
    """The examples of the better and of the worse side of a row."""

    chosen: Sequence[Example]
    rejected: Sequence[Example]
    weight: float

    def fit(self, max_seq_len: int, *, truncate: bool) -> tuple[list[Example], list[Example], bool] | None:
        """Both sides within `max_seq_len` positions and whether either was cut; None when nothing is preferred."""
        (chosen, cut), (rejected, other) = (
            fit(side, max_seq_len, truncate=truncate) for side in (self.chosen, self.rejected)
        )
        # A pair that is cut to the same tokens on both sides prefers nothing.
        return (chosen, rejected, cut or other) if chosen and rejected and chosen != rejected else None


def pair_reader(turns: Turns, notes: Notes) -> Callable[[Row, str], Sides | None]:
    """Returns what makes the two sides of a preference row and its place; None for a tie."""

    def read(row: Row, where: str) -> Sides | None:
        sides = parse_pair(row, where, notes)
        if sides is None:
            return None
        weight = sides[0].weight
        # The weight scales the loss of the pair once; in the tokens it would scale what the loss is made of as well.
        bare = [replace(side, weight=1.0 if weight else 0.0) for side in sides]
        return Sides(turns.examples(bare[0]), turns.examples(bare[1]), weight)

    return read


def load_preferences(
    path: str,
    tokenizer: Tokenizer,
    max_seq_len: int,
    *,
    truncate: bool,
    max_examples: int | None = None,
    on_bad_row: str = "fail",
) -> LoadedPairs:
    """A data set as pairs; `DataError` for bad rows, and when no pair is left to train on."""
    notes, store = Notes(), Store()
    pairs, truncated = list[Pair | None](), 0
    skip = notes if on_bad_row == "skip" else None
    for made in read_objects(path, pair_reader(Turns(tokenizer, notes), notes), max_examples=max_examples, skip=skip):
        fitted = made and made.fit(max_seq_len, truncate=truncate)
        if not made or not fitted:
            pairs.append(None)
            continue
        chosen, rejected, cut = fitted
        truncated += cut
        store.add(chosen)
        store.add(rejected)
        pairs.append(Pair(Data(store, len(store) - 2), Data(store, len(store) - 1), weight=made.weight))
    if all(pair is None for pair in pairs):
        raise DataError(f"{path}: no pair has two answers to compare within {max_seq_len} tokens")
    order = json.dumps([pair and pair.weight for pair in pairs])
    return LoadedPairs(pairs, truncated, notes, hashlib.sha256((store.digest + order).encode()).hexdigest())


@dataclass(frozen=True)
class SplitPairs:
    """A recipe's pairs to train on, None where a row is dropped, its held-out pairs, and the digests of both files."""

    train: Sequence[Pair | None]
    held_out: Sequence[Pair]
    digest: str
    held_out_digest: str | None


def load_split(config: BatchConfig, max_seq_len: int, say: Callable[[str], None]) -> SplitPairs:
    """Read the pairs of `dataset`, and those that are held out or stand in `eval_dataset`; `DataError` on bad input."""
    tokenizer = load_tokenizer(config.tokenizer_model, config.tokenizer_revision)

    def load(path: str, most: int | None) -> LoadedPairs:
        return load_preferences(
            path,
            tokenizer,
            max_seq_len,
            truncate=config.truncate,
            max_examples=most,
            on_bad_row=config.on_bad_row,
        )

    loaded = load(config.dataset, config.max_examples)
    rows, held_out_rows = split(len(loaded.pairs), config.eval_split, config.seed)
    train, held_out = [loaded.pairs[row] for row in rows], [loaded.pairs[row] for row in held_out_rows]
    if all(pair is None for pair in train):
        raise DataError(f"{config.dataset}: eval_split leaves nothing to train on")
    other = load(config.eval_dataset, None) if config.eval_dataset else None
    if other is not None:
        held_out = list(other.pairs)
    if other is not None:
        other.notes.tell(say)
    loaded.notes.tell(say)
    say(f"{len(train)} pairs, {len(held_out)} held out; {loaded.truncated} cut, {loaded.dropped} dropped")
    kept = [pair for pair in held_out if pair is not None]
    return SplitPairs(train, kept, loaded.digest, other.digest if other is not None else None)


def parse_pair(row: Row, where: str, notes: Notes) -> tuple[TextRow, TextRow] | None:
    """The better and the worse side of one row, None for a tie; raises `BadRow`."""
    row = without_nulls(row)
    try:
        if "preferred_output" in row or "non_preferred_output" in row:
            return _vendor(row, where, notes)
        if "samples" in row:
            return _scored(row, where, notes)
        return _chosen(row, where, notes)
    except ConversationError as error:
        raise BadRow(where, str(error), "message") from error


def _chosen(row: Row, where: str, notes: Notes) -> tuple[TextRow, TextRow]:
    """`chosen` and `rejected` as text, a message, messages, or {"messages": ...}, whole or after a `prompt`."""
    for field in ("chosen", "rejected"):
        if field not in row:
            raise BadRow(where, f"{field!r} is missing; the row has {sorted(row)}")
    note_fields(row, ("prompt", "chosen", "rejected", "system"), notes, where)
    row = {**row, **{field: unspelt(row[field], field) for field in ("prompt", "chosen", "rejected") if field in row}}
    chosen, rejected, prompt = row["chosen"], row["rejected"], row.get("prompt")
    if row.get("system") and (prompt is not None or not isinstance(chosen, str)):
        asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt or []
        prompt = said({**row, "messages": asked})
    if chosen == rejected:
        raise BadRow(where, "chosen and rejected are the same, so nothing is preferred")
    if isinstance(chosen, str) and isinstance(rejected, str) and not isinstance(prompt, list):
        if prompt is None:
            raise BadRow(where, "chosen and rejected are text, so 'prompt' must be there, as text or as messages")
        if not chosen or not rejected:
            raise BadRow(where, "chosen and rejected must not be empty")
        text, weight = text_of(prompt, "prompt", where), weight_of(row, where)
        return Text(where, text, chosen, weight), Text(where, text, rejected, weight)
    sides = [_side(row[field], prompt, field, where) for field in ("chosen", "rejected")]
    return _compared(sides, row, where, notes)


def _side(side: object, prompt: object, field: str, where: str) -> list[Message]:
    """All messages of one side, those of the prompt once, whether or not the side repeats them."""
    if isinstance(side, str) and isinstance(prompt, list):
        side = [{"role": "assistant", "content": side}]
    elif isinstance(side, Mapping):
        side = side.get("messages", [side] if "role" in side else None)
    if not isinstance(side, list):
        raise BadRow(
            where,
            f"{field} must be an object with messages, a list of messages, or text like prompt and the other side",
        )
    answer = read_messages(side, field)
    whole = answer[0].role not in ("assistant", "tool")
    if prompt is None or prompt == []:
        return answer
    if isinstance(prompt, str):
        if not whole:
            return [*read_messages([{"role": "user", "content": prompt}], "prompt"), *answer]
        if not any(one.role == "user" and one.content.strip() == prompt.strip() for one in answer):
            raise BadRow(where, f"{field} is a whole conversation that does not hold the prompt")
        return answer
    before = read_messages(prompt, "prompt")
    return answer if answer[: len(before)] == before else [*before, *answer]


def _vendor(row: Row, where: str, notes: Notes) -> tuple[TextRow, TextRow]:
    """{"input": {"messages", "tools"}, "preferred_output": [...], "non_preferred_output": [...]}."""
    fields = ("input", "preferred_output", "non_preferred_output")
    for field in fields:
        if field not in row:
            raise BadRow(where, f"{field!r} is missing; the row has {sorted(row)}")
    note_fields(row, fields, notes, where)
    given = row["input"]
    given = {"messages": given} if isinstance(given, list) else given
    if not isinstance(given, Mapping):
        raise BadRow(where, "input must be an object with messages")
    note_fields(given, ("messages",), notes, where)
    before = read_messages(given.get("messages"), "input.messages")
    sides = [[*before, *read_messages(row[field], field)] for field in fields[1:]]
    if sides[0] == sides[1]:
        raise BadRow(where, "preferred_output and non_preferred_output are the same, so nothing is preferred")
    return _compared(sides, {**given, **row}, where, notes)


def _scored(row: Row, where: str, notes: Notes) -> tuple[TextRow, TextRow] | None:
    """{"samples": [{"messages": ..., "evals": {"score": ...}}, ...]}: the best against the worst, none for a tie."""
    note_fields(row, ("samples",), notes, where)
    samples = row["samples"]
    if not isinstance(samples, list) or len(samples) < 2:
        raise BadRow(where, "samples must be a list of at least two")
    scores = [_score(sample, f"samples.{at}", where) for at, sample in enumerate(samples)]
    best, worst = scores.index(max(scores)), scores.index(min(scores))
    if best == worst:
        notes.add("ties are left out: all samples of a row have one score", where)
        return None
    sides = [read_messages(samples[at].get("messages"), f"samples.{at}.messages") for at in (best, worst)]
    if sides[0] == sides[1]:
        raise BadRow(where, "the best and the worst sample are the same, so nothing is preferred")
    return _compared(sides, {**without_nulls(samples[best]), **row}, where, notes)


def _score(sample: object, place: str, where: str) -> float:
    evals = sample.get("evals") if isinstance(sample, Mapping) else None
    score = (
        evals.get("score")
        if isinstance(evals, Mapping)
        else sample.get("score")
        if isinstance(sample, Mapping)
        else None
    )
    if isinstance(score, bool) or not isinstance(score, int | float) or score != score:
        raise BadRow(where, f"{place} has no number at evals.score")
    return float(score)


def _compared(sides: Sequence[list[Message]], row: Row, where: str, notes: Notes) -> tuple[TextRow, TextRow]:
    """Both sides as conversations that are trained after what they have in common."""
    chosen, rejected = sides
    shared = next((at for at, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), None)
    shared = min(len(chosen), len(rejected)) if shared is None else shared
    for one in (chosen[shared : shared + 1], rejected[shared : shared + 1]):
        if one and one[0].role != "assistant":
            raise BadRow(
                where,
                f"the sides differ in message {shared}, which is the {one[0].role}'s: compare answers to one prompt",
            )
    read = []
    for messages, field in zip(sides, ("chosen", "rejected"), strict=True):
        side = replace(chat(messages, row, where), train_from=shared)
        check_trained(side, notes, f"{field} after what both have in common: ")
        if any(one.factor < 0 for one in messages):
            raise BadRow(
                where, f"{field} has a message with a weight below 0, which has no meaning in a comparison", "weight"
            )
        read.append(side)
    return read[0], read[1]


def as_data(pairs: Sequence[Pair]) -> list[Any]:
    """The datums of a batch: those of the chosen and of the rejected side in turn; `sides` says how many of each."""
    return [one for pair in pairs for side in (pair.chosen, pair.rejected) for one in side]


def sides(pairs: Sequence[Pair]) -> list[int]:
    """For each datum of `as_data` the number of its side, 0 to 2N - 1."""
    lengths = [len(side) for pair in pairs for side in (pair.chosen, pair.rejected)]
    return [number for number, length in enumerate(lengths) for _ in range(length)]
