"""Supervised data: the rows of a file as the datums they become."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ftsim.training.clients import Tokenizer
from ftsim.training.data.files import BadRow, Row, read_rows
from ftsim.training.data.forms import ALL, read_supervised
from ftsim.training.data.light_tokenizer import opened
from ftsim.training.data.notes import Notes
from ftsim.training.data.store import Rows, Store, fit
from ftsim.training.data.turns import Example, Turns
from ftsim.training.errors import ConfigError, DataError

T = TypeVar("T")
MOST_NAMED = 10
"""Bad rows that an error names one by one."""


@dataclass(frozen=True)
class Loaded:
    """Datums by row of the file, None where the row is dropped, how many were cut to fit, and what is to be said."""

    store: Store
    truncated: int
    notes: Notes = field(default_factory=Notes)

    @property
    def data(self) -> Rows:
        return Rows(self.store)

    @property
    def dropped(self) -> int:
        return self.data.usable.count(False)


def judged(path: str | Path, parse: Callable[[Row, str], T], max_examples: int | None = None) -> Iterator[T | BadRow]:
    """Yields what `parse` makes of a row and its place, or why it is bad; raises `DataError` for the file alone.

    Recipes and `ftsim data check` both read with it, so that a row is as bad for one as for the other.
    """
    for count, (where, row) in enumerate(read_rows(path)):
        if count == max_examples:
            return
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            read: T | BadRow = parse(row, where)
        except DataError as error:
            read = error if isinstance(error, BadRow) else BadRow(where, _reason(error, where), "template")
        yield read


def read_objects(
    path: str | Path, parse: Callable[[Row, str], T], *, max_examples: int | None = None, skip: Notes | None = None
) -> Iterator[T | None]:
    """Yields what `parse` makes of every row; all bad rows are told in one `DataError`, at the end.

    With `skip` a bad row is None, and is noted there.
    """
    bad: list[BadRow] = []
    for read in judged(path, parse, max_examples):
        if not isinstance(read, BadRow):
            if not bad:
                yield read
        elif skip is None:
            bad.append(read)
        else:
            skip.add("bad rows are skipped", f"{read}")
            yield None
    if bad:
        raise told(bad)


def _reason(error: DataError, where: str) -> str:
    return str(error).removeprefix(f"{where}: ")


def told(bad: list[BadRow]) -> DataError:
    """One error for all bad rows: each by itself as far as that can be read, and how many there are of each kind."""
    if len(bad) == 1:
        return bad[0]
    named = "\n".join(str(one) for one in bad[:MOST_NAMED])
    rest = f"\nand {len(bad) - MOST_NAMED} more, which ftsim data check names" if len(bad) > MOST_NAMED else ""
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(Counter(one.kind for one in bad).items()))
    return DataError(
        f"{named}{rest}\n{len(bad)} rows are bad ({kinds}): mend them, or leave them out with on_bad_row=skip"
    )


def supervised_reader(turns: Turns, notes: Notes, train_on_what: str = ALL) -> Callable[[Row, str], list[Example]]:
    """Returns what makes examples of a supervised row and its place, none where nothing of it is trained."""
    return lambda row, where: turns.examples(read_supervised(row, where, notes, train_on_what))


def load_supervised(
    path: str,
    tokenizer: Tokenizer,
    max_seq_len: int,
    *,
    truncate: bool,
    max_examples: int | None = None,
    on_bad_row: str = "fail",
    train_on_what: str = ALL,
) -> Loaded:
    """A data set as datums; `DataError` for bad rows, and when no row is left to train on."""
    notes, store, truncated = Notes(), Store(), 0
    parse = supervised_reader(Turns(tokenizer, notes), notes, train_on_what)
    skip = notes if on_bad_row == "skip" else None
    for made in read_objects(path, parse, max_examples=max_examples, skip=skip):
        examples, cut = fit(made or [], max_seq_len, truncate=truncate)
        store.add(examples)
        truncated += cut
    if not any(Rows(store).usable):
        raise DataError(f"{path}: no row has anything to train on within {max_seq_len} tokens")
    return Loaded(store, truncated, notes)


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """The tokenizer of `tokenizer_model`: a folder or a Hugging Face name; `ConfigError` when it does not load."""
    whole = partial(_by_transformers, name, revision)
    if not Path(name).exists():
        return opened(name, revision, whole) or whole()
    if revision is not None:
        raise ConfigError(f"tokenizer_revision {revision!r}: {name} is a folder, which has no revisions; leave it out")
    return whole()


def _by_transformers(name: str, revision: str | None) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **({} if revision is None else {"revision": revision}))
    except Exception as error:
        raise ConfigError(f"tokenizer_model {name!r} does not load: {_offline(name) or error}") from error
    # A row that is too long is cut or left out, which is said; the library would warn of errors that never come.
    getattr(tokenizer, "deprecation_warnings", {})["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


def _offline(name: str) -> str | None:
    """Find what the offline hub has instead, None when the hub is not offline or has this name."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE or Path(name).exists():
        return None
    folders = Path(constants.HF_HUB_CACHE).glob("models--*")
    names = sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)
    if name in names:
        return None
    near = difflib.get_close_matches(name, names, n=3)
    meant = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    alike = [known for known in names if known.startswith(name.partition("/")[0] + "/")] or names
    return f"{meant}the hub is offline, and its cache has {', '.join(alike) or 'nothing'}; or give a folder"
