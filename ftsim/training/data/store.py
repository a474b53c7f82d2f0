"""Examples of many rows, kept in a file of the process: what is trained later takes no memory now."""

import hashlib
import tempfile
import weakref
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from ftsim.training.data.turns import Example
from ftsim.training.sdk import types

IN_MEMORY = 16 << 20
"""Bytes that are kept in memory before a file takes them."""


class Store:
    """The examples of rows in the order they were added; a row without any is a dropped one."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - it lives as long as the store
        weakref.finalize(self, self._file.close)
        self._places = array("q")
        self._end = 0
        self._digest = hashlib.sha256()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def digest(self) -> str:
        """SHA-256 over the tokens and weights of all rows in their order."""
        return self._digest.hexdigest()

    def usable(self, row: int) -> bool:
        return self._places[row] >= 0

    def add(self, examples: Sequence[Example]) -> None:
        """Add a row; no examples drop it."""
        self._places.append(self._end if examples else -1)
        record = [np.asarray([len(examples), *(len(one.tokens) for one in examples)], dtype=np.int64).tobytes()]
        for one in examples:
            record.append(np.asarray(one.tokens, dtype=np.int32).tobytes())
            record.append(np.asarray(one.weights, dtype=np.float32).tobytes())
        content = b"".join(record)
        self._digest.update(content)
        if examples:
            self._file.seek(self._end)
            self._file.write(content)
            self._end += len(content)

    def count(self, row: int) -> int:
        """The number of examples in a row."""
        if not self.usable(row):
            return 0
        self._file.seek(self._places[row])
        return int(self._numbers(1, np.int64)[0])

    def examples(self, row: int) -> list[Example]:
        """The examples of a row, none for a dropped one."""
        sizes = self._numbers(self.count(row), np.int64)
        return [Example(self._numbers(size, np.int32), self._numbers(size, np.float32)) for size in sizes]

    def _numbers(self, count: int, form: type) -> list[Any]:
        return np.frombuffer(self._file.read(count * np.dtype(form).itemsize), dtype=form).tolist()  # type: ignore[no-any-return]


class Data(Sequence[Any]):
    """The datums of one row of a store, made when they are asked for."""

    def __init__(self, store: Store, row: int) -> None:
        self._store, self._row = store, row

    def __len__(self) -> int:
        return self._store.count(self._row)

    @overload
    def __getitem__(self, at: int) -> Any: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Any]: ...

    def __getitem__(self, at: int | slice) -> Any:
        return list(self)[at]

    def __iter__(self) -> Iterator[Any]:
        return map(datum, self._store.examples(self._row))


class Rows(Sequence[Data | None]):
    """Some rows of a store in some order; None for a dropped one."""

    def __init__(self, store: Store, rows: Sequence[int] | None = None) -> None:
        self._store = store
        self._rows = range(len(store)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Data | None: ...

    @overload
    def __getitem__(self, at: slice) -> "Rows": ...

    def __getitem__(self, at: int | slice) -> "Data | Rows | None":
        if isinstance(at, slice):
            return Rows(self._store, self._rows[at])
        row = self._rows[at]
        return Data(self._store, row) if self._store.usable(row) else None

    @property
    def usable(self) -> list[bool]:
        """The rows that have something to train on."""
        return [self._store.usable(row) for row in self._rows]


class Datums(Sequence[Any]):
    """The datums of all rows that are not dropped, one row after another; each is made when it is asked for."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        found = [(row, nth) for row in range(len(rows)) for nth in range(len(rows[row] or ()))]
        self._places = array("q", (one for place in found for one in place))

    def __len__(self) -> int:
        return len(self._places) // 2

    @overload
    def __getitem__(self, at: int) -> Any: ...

    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...

    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return [self[one] for one in range(len(self))[at]]
        row = self._rows[self._places[2 * at]]
        return row and row[self._places[2 * at + 1]]


def datum(example: Example) -> Any:
    """The SDK's datum: position i reads token i and predicts token i + 1 (WIRE 2.8)."""
    length = len(example.tokens) - 1
    return types.Datum(
        model_input=types.ModelInput.from_ints(list(example.tokens[:-1])),  # (T,)
        loss_fn_inputs={
            "target_tokens": types.TensorData(data=list(example.tokens[1:]), dtype="int64", shape=[length]),
            "weights": types.TensorData(data=list(example.weights[1:]), dtype="float32", shape=[length]),
        },
    )


def fit(examples: Sequence[Example], max_seq_len: int, *, truncate: bool) -> tuple[list[Example], bool]:
    """The examples of a row within `max_seq_len` positions and whether any was cut; none when nothing is left.

    Without `truncate` a row of which one example is too long is left out whole.
    """
    long = any(len(one.tokens) > max_seq_len + 1 for one in examples)
    if long and not truncate:
        return [], False
    cut = [Example(one.tokens[: max_seq_len + 1], one.weights[: max_seq_len + 1]) for one in examples]
    left = [one for one in cut if one.loss_tokens]
    return left, long and bool(left)
