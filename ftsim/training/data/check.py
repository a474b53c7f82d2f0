"""A data set judged as a recipe would read it, in one pass: its bad rows, and what is trained of the others."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ftsim.training.clients import Tokenizer
from ftsim.training.data.files import BadRow, Row, read_rows
from ftsim.training.data.forms import read_supervised
from ftsim.training.data.notes import Notes
from ftsim.training.data.preferences import parse_pair
from ftsim.training.data.store import fit
from ftsim.training.data.turns import Example, Turns
from ftsim.training.errors import DataError
from ftsim.training.sampling.rollouts import read_prompt

Examples = Callable[[Row, str], Sequence[Example]]
"""(row, its place) -> what it becomes, none for a row that is left out; raises `DataError`."""


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
    truncate: bool = True,
    ground_truth_key: str | None = None,
    show: int = 0,
) -> Report:
    """Judge every row as `recipe` (sft, dpo, orpo, rl, igpo) reads it; raises `DataError` for the file alone."""
    report = Report()
    examples = _reader(recipe, Turns(tokenizer, report.notes), report.notes, ground_truth_key)
    for where, row in read_rows(dataset):
        report.rows += 1
        try:
            if isinstance(row, BadRow):
                raise row
            made = examples(row, where)
        except DataError as error:
            reason = str(error).removeprefix(f"{where}: ")
            report.bad.append(error if isinstance(error, BadRow) else BadRow(where, reason, "template"))
            continue
        _count(report, made, max_seq_len, truncate=truncate)
        if report.rows <= show:
            report.shown += made
    return report


def _reader(recipe: str, turns: Turns, notes: Notes, ground_truth_key: str | None) -> Examples:
    def supervised(row: Row, where: str) -> Sequence[Example]:
        return turns.examples(read_supervised(row, where, notes))

    def preferences(row: Row, where: str) -> Sequence[Example]:
        return [one for side in parse_pair(row, where, notes) or () for one in turns.examples(side)]

    def prompts(row: Row, where: str) -> Sequence[Example]:
        prompt = read_prompt(row, where, notes, ground_truth_key or "ground_truth")
        tokens = turns.prompt_tokens(prompt.conversation)
        return [Example(tokens, [0.0] * len(tokens))]

    return {"sft": supervised, "dpo": preferences, "orpo": preferences}.get(recipe, prompts)


def _count(report: Report, made: Sequence[Example], max_seq_len: int, *, truncate: bool) -> None:
    for one in made:
        report.lengths[1 << len(one.tokens).bit_length()] += 1
    if made and not any(one.loss_tokens for one in made):  # prompts: a long one is left out, none is cut
        report.dropped += any(len(one.tokens) > max_seq_len for one in made)
        report.tokens += sum(len(one.tokens) for one in made)
        return
    left, cut = fit(made, max_seq_len, truncate=truncate)
    report.cut += cut
    report.dropped += not left
    report.tokens += sum(len(one.tokens) for one in left)
    report.trained += sum(one.loss_tokens for one in left)
