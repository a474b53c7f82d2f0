"""A data set judged as a recipe would read it, in one pass: its bad rows, and what is trained of the others."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ftsim.training.clients import Tokenizer
from ftsim.training.data.files import BadRow, Row
from ftsim.training.data.forms import ALL
from ftsim.training.data.notes import Notes
from ftsim.training.data.preferences import Sides, pair_reader
from ftsim.training.data.store import fit
from ftsim.training.data.supervised import judged, supervised_reader
from ftsim.training.data.turns import Example, Turns
from ftsim.training.errors import DataError
from ftsim.training.sampling.rollouts import prompt_reader

Made = Sequence[Example] | Sides | None
"""What the reader of a recipe makes of a row; None for a row that is left out."""


@dataclass
class Report:
    """Counts are of rows and tokens; `lengths` counts examples by the power of two that their tokens stay below."""

    rows: int = 0
    bad: list[BadRow] = field(default_factory=list)
    trained: int = 0
    tokens: int = 0
    cut: int = 0
    """Rows that lose tokens to the limit."""
    dropped: int = 0
    """Good rows of which nothing is trained."""
    lengths: Counter[int] = field(default_factory=Counter)
    notes: Notes = field(default_factory=Notes)
    shown: list[Example] = field(default_factory=list)
    """The examples of the first rows, as they will be sent."""

    @property
    def kinds(self) -> Mapping[str, int]:
        """Count the bad rows by kind."""
        return Counter(one.kind for one in self.bad)


def check(
    dataset: str,
    recipe: str,
    tokenizer: Tokenizer,
    max_seq_len: int,
    *,
    max_completion_tokens: int = 64,
    truncate: bool = True,
    ground_truth_key: str | None = None,
    train_on_what: str = ALL,
    show: int = 0,
) -> Report:
    """Judge every row as `recipe` reads it; raises `DataError` for the file alone, and where no prompt can fit.

    A prompt of a recipe that samples leaves room for `max_completion_tokens` of an answer.
    """
    report = Report()
    turns = Turns(tokenizer, report.notes)
    read: Callable[[Row, str], Made]
    if recipe == "sft":
        read = supervised_reader(turns, report.notes, train_on_what)
    elif recipe in ("dpo", "orpo"):
        read = pair_reader(turns, report.notes)
    else:
        read = _prompts(turns, report.notes, ground_truth_key or "ground_truth")
        max_seq_len -= max_completion_tokens
        if max_seq_len < 1:
            raise DataError(f"answers of {max_completion_tokens} tokens leave no room for a prompt: raise max_seq_len")
    for made in judged(dataset, read):
        report.rows += 1
        if isinstance(made, BadRow):
            report.bad.append(made)
            continue
        examples = _count(report, made, max_seq_len, truncate=truncate)
        if report.rows <= show:
            report.shown += examples
    return report


def _prompts(turns: Turns, notes: Notes, ground_truth_key: str) -> Callable[[Row, str], Made]:
    read = prompt_reader(turns, notes, ground_truth_key)

    def untrained(row: Row, where: str) -> Made:
        tokens = read(row, where).tokens
        return [Example(tokens, [0.0] * len(tokens))]

    return untrained


def _count(report: Report, made: Made, max_seq_len: int, *, truncate: bool) -> Sequence[Example]:
    """Count a good row, and return all that it becomes."""
    whole = [*made.chosen, *made.rejected] if isinstance(made, Sides) else list(made or ())
    for one in whole:
        report.lengths[1 << len(one.tokens).bit_length()] += 1
    if whole and not any(one.loss_tokens for one in whole):  # prompts: a long one is left out, none is cut
        report.dropped += any(len(one.tokens) > max_seq_len for one in whole)
        report.tokens += sum(len(one.tokens) for one in whole)
        return whole
    if isinstance(made, Sides):
        fitted = made.fit(max_seq_len, truncate=truncate)
        left, cut = ([*fitted[0], *fitted[1]], fitted[2]) if fitted else ([], False)
    else:
        left, cut = fit(whole, max_seq_len, truncate=truncate)
    report.cut += cut
    report.dropped += not left
    report.tokens += sum(len(one.tokens) for one in left)
    report.trained += sum(one.loss_tokens for one in left)
    return whole
