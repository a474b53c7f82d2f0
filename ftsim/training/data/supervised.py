"""Supervised data: the rows of a file as the datums they become."""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ftsim.training.clients import Tokenizer
from ftsim.training.data.files import BadRow, Row, read_rows
from ftsim.training.data.forms import read_supervised
from ftsim.training.data.notes import Notes
from ftsim.training.data.store import Rows, Store, fit
from ftsim.training.data.turns import Turns
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


def read_objects(
    path: str | Path, parse: Callable[[Row, str], T], *, max_examples: int | None = None, skip: Notes | None = None
) -> Iterator[T | None]:
    """Apply `parse` to every row and its place; all bad rows are told in one `DataError`, at the end.

    With `skip` a bad row is None, and is noted there.
    """
    bad: list[BadRow] = []
    for count, (where, row) in enumerate(read_rows(path)):
        if count == max_examples:
            break
        try:
            if isinstance(row, BadRow):
                raise row
            read = parse(row, where)
        except DataError as error:
            one = error if isinstance(error, BadRow) else BadRow(where, str(error).removeprefix(f"{where}: "))
            if skip is None:
                bad.append(one)
            else:
                skip.add("bad rows are skipped", f"{one}")
                yield None
        else:
            if not bad:
                yield read
    if bad:
        raise told(bad)


def told(bad: list[BadRow]) -> DataError:
    """One error for all bad rows: each by itself as far as that can be read."""
    if len(bad) == 1:
        return bad[0]
    named = "\n".join(str(one) for one in bad[:MOST_NAMED])
    rest = f"\nand {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
    return DataError(f"{named}{rest}\n{len(bad)} rows are bad: mend them, or leave them out with on_bad_row=skip")


def load_supervised(
    path: str,
    tokenizer: Tokenizer,
    max_seq_len: int,
    *,
    truncate: bool,
    max_examples: int | None = None,
    on_bad_row: str = "fail",
) -> Loaded:
    """A data set as datums; `DataError` for bad rows, and when no row is left to train on."""
    notes, store, truncated = Notes(), Store(), 0
    turns = Turns(tokenizer, notes)
    skip = notes if on_bad_row == "skip" else None

    def parse(row: Row, where: str) -> Any:
        return fit(turns.examples(read_supervised(row, where, notes)), max_seq_len, truncate=truncate)

    for made in read_objects(path, parse, max_examples=max_examples, skip=skip):
        examples, cut = made or ([], False)
        store.add(examples)
        truncated += cut
    if not any(Rows(store).usable):
        raise DataError(f"{path}: no row has anything to train on within {max_seq_len} tokens")
    return Loaded(store, truncated, notes)


def load_tokenizer(name: str) -> Any:
    """The tokenizer of `tokenizer_model`: a folder or a Hugging Face name; `ConfigError` when it does not load."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except Exception as error:
        raise ConfigError(f"tokenizer_model {name!r} does not load: {_offline(name) or error}") from error


def _offline(name: str) -> str | None:
    """Find what the offline hub has instead, None when the hub is not offline or has this name."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE or Path(name).exists():
        return None
    folders = Path(constants.HF_HUB_CACHE).glob("models--*")
    names = sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)
    if name in names:
        return None
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{meant}the hub is offline, and its cache has {', '.join(names) or 'nothing'}; or give a folder"
