"""Rows of a data set, one after another: JSONL, JSON arrays, CSV and parquet, packed or not, in a folder, on any store.

Nothing holds more than a row, or a batch of a table, at a time.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ftsim.training.data import json_array, json_columns
from ftsim.training.data.conversation import kind, without_nulls
from ftsim.training.errors import DataError

Row = Mapping[str, Any]
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
UNREAD = (".arrow", ".feather", ".orc", ".avro", ".tsv", ".xlsx", ".pkl", ".zip", ".tar", ".tgz", ".lz4")
"""Suffixes of files that hold rows which nothing here reads: a folder with one of them would lose those rows."""
_ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json")
"""Names under which `datasets` describes the files beside them."""
_BATCH = 256
_HEADS = {
    b"\xff\xfe": "is written in UTF-16: save it as UTF-8",
    b"\xfe\xff": "is written in UTF-16: save it as UTF-8",
    b"\x1f\x8b": "is packed with gzip: let its name end in .gz",
    b"PAR1": "is a parquet file: let its name end in .parquet",
    b"PK\x03\x04": "is a zip archive: unpack it",
    b"ARROW1": "is an Arrow file: save it as parquet",
}
"""Beginnings of files that are no text in UTF-8, and what to do about them."""
_CELLS = {"weight": (int, float), "enable_thinking": (bool,)}
"""Columns of a CSV whose cells are numbers or booleans: every cell is text there."""


class BadRow(DataError):
    """A row that cannot be trained on; `reason` without its place, `kind` for grouping."""

    def __init__(self, where: str, reason: str, kind: str = "form") -> None:
        super().__init__(f"{where}: {reason}")
        self.where, self.reason, self.kind = where, reason, kind


def read_rows(dataset: str | Path) -> Iterator[tuple[str, Row | BadRow]]:
    """Every row with its place, file and line, or the reason why there is none; raises `DataError` for the file.

    `dataset` is a file, a folder of such files in the order of their names, or an fsspec address of either.
    """
    found = False
    for shard in shards(str(dataset)):
        for one in _read(shard):
            found = True
            yield one
    if not found:
        raise DataError(f"{dataset} holds no rows: one JSON object per line is wanted")


def shards(dataset: str) -> list[str]:
    """The files of a data set; raises `DataError` when there is none."""
    if "://" not in dataset:
        folder = Path(dataset)
        if not folder.is_dir():
            return [dataset]
        found = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
        names = [str(folder / name) for name in _readable(dataset, found)]
    else:
        try:
            import fsspec

            store, path = fsspec.core.url_to_fs(dataset)
            if not store.isdir(path):
                return [dataset]
            root = path.rstrip("/") + "/"
            below = [name.removeprefix(root) for name in sorted(store.find(path))]
            names = [store.unstrip_protocol(root + name) for name in _readable(dataset, below)]
        except (OSError, ValueError, ImportError) as error:
            raise DataError(f"{dataset} cannot be read: {error}") from error
    if not names:
        raise DataError(f"{dataset} is a folder without a file that ends in {', '.join(SUFFIXES)}")
    return names


def _readable(dataset: str, names: Sequence[str]) -> list[str]:
    """The files of a folder that hold rows; hidden ones, and what `datasets` notes beside them, are not looked at.

    Raises `DataError` for a file whose rows would be lost because nothing reads it.
    """
    seen = [name for name in names if not any(part.startswith(".") for part in PurePosixPath(name).parts)]
    lost = next((name for name in seen if name.lower().endswith(UNREAD)), None)
    if lost is not None:
        raise DataError(
            f"{dataset} has {lost}, whose rows cannot be read: save them as JSONL, CSV or parquet, or take it away"
        )
    return [name for name in seen if _form(name) and PurePosixPath(name).name not in _ABOUT]


def opened(path: str) -> Any:
    """The bytes of a file wherever it is, as they are stored; `OSError` and `ImportError` as its store raises them."""
    if "://" not in path:
        return open(path, "rb")
    import fsspec

    return fsspec.open(path, "rb").open()


def digest_of(dataset: str) -> str:
    """SHA-256 over the bytes of all files of a data set; raises `DataError` when one cannot be read."""
    digest = hashlib.sha256()
    for path in shards(dataset):
        with _reasons(path), opened(path) as stored:
            while chunk := stored.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _form(name: str) -> tuple[str, str | None] | None:
    """The suffix that names the form of a file, and how it is packed; None for a file that is none of ours."""
    suffixes = PurePosixPath(name.lower()).suffixes
    packed = PACKED.get(suffixes[-1]) if suffixes else None
    suffix = (suffixes[:-1] if packed else suffixes)[-1:]
    return (suffix[0], packed) if suffix and suffix[0] in SUFFIXES else None


def _read(path: str) -> Iterator[tuple[str, Row | BadRow]]:
    form, packed = _form(path) or (".jsonl", None)
    if path.lower().endswith(UNREAD):
        raise DataError(f"{path} cannot be read: save its rows as JSONL, CSV or parquet")
    with _reasons(path), opened(path) as stored:
        if packed:
            import fsspec

            stored = fsspec.compression.compr[packed](stored, mode="rb")
        match form:
            case ".csv" | ".parquet":
                yield from _table(path, stored, form)
            case _ if form == ".json" and _first(stored) == b"[":
                yield from _array(path, stored)
            case _:
                yield from _lines(path, stored)


@contextmanager
def _reasons(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except EOFError as error:
        raise DataError(f"{path} cannot be read: it ends too early ({error})") from error
    except ImportError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _first(stored: IO[bytes]) -> bytes:
    """The first character of a file, which is then read from its beginning."""
    head = stored.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    stored.seek(0)
    return head


def _lines(path: str, stored: IO[bytes]) -> Iterator[tuple[str, Row | BadRow]]:
    for number, line in enumerate(stored, start=1):
        if number == 1:
            _check_head(path, line)
        if line.strip():
            where = f"{path}, line {number}"
            try:
                yield where, _json_object(line, where)
            except BadRow as bad:
                yield where, bad


def _check_head(path: str, head: bytes) -> None:
    """Raises `DataError` for a file that begins as no text in UTF-8 does."""
    if wrong := next((_HEADS[start] for start in _HEADS if head.startswith(start)), None):
        raise DataError(f"{path} {wrong}")


def _json_object(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadRow(where, f"not UTF-8 (byte {error.start}): save the file as UTF-8", "encoding") from error
    except (ValueError, RecursionError) as error:
        if b"\0" in line:
            raise BadRow(
                where, "it has bytes of value 0: the file is written in UTF-16, or damaged", "encoding"
            ) from error
        raise BadRow(where, f"not JSON ({error})", "json") from error
    row = _object(row, where)
    return whole(row, where) if b"\\u" in line else row


def whole(row: Row, where: str) -> Row:
    """The row, unless JSON spells half a character in it, which no tokenizer takes."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise BadRow(
            where, f"{half!r} is half of a character, a surrogate without the other half", "encoding"
        ) from error
    return row


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise BadRow(where, f"a JSON object is wanted, not {kind(row)}", "json")
    return row


def _array(path: str, stored: IO[bytes]) -> Iterator[tuple[str, Row | BadRow]]:
    number = 0
    try:
        for value in json_array.values(stored):
            number += 1
            where = f"{path}, row {number}"
            try:
                yield where, whole(_object(value, where), where)
            except BadRow as bad:
                yield where, bad
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}): save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON after row {number} ({error})") from error


def _table(path: str, stored: IO[bytes], form: str) -> Iterator[tuple[str, Row | BadRow]]:
    """Rows of a table: a cell without a value is an absent field, and so is one in a tool or in its arguments."""
    try:
        import pyarrow as arrow
        from pyarrow import csv, parquet
    except ImportError:
        raise DataError(
            f"{path}: tables are read by pyarrow, which is not here: pip install 'ftsim-emulator[tables]'"
        ) from None
    number = 0
    try:
        if form == ".parquet":
            table = parquet.ParquetFile(stored)
            spelt = json_columns.readers(table.schema_arrow)
            batches = table.iter_batches(batch_size=_BATCH)
        else:
            spelt = {}
            _check_head(path, stored.read(8))
            stored.seek(0)
            # Newlines in quotes are the rule where a cell is a text; cells stay text, an empty one is absent.
            parse = csv.ParseOptions(newlines_in_values=True)
            names = csv.open_csv(stored, parse_options=parse).schema.names
            stored.seek(0)
            convert = csv.ConvertOptions(
                column_types=dict.fromkeys(names, arrow.string()),
                strings_can_be_null=True,
                null_values=[""],
                quoted_strings_can_be_null=False,
            )
            batches = csv.open_csv(stored, parse_options=parse, convert_options=convert)
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                where = f"{path}, row {number}"
                found: Row | BadRow
                cells = _pruned(row if form == ".parquet" else _typed(row))
                try:
                    # What a cell of JSON says of null is said by the row, as in JSONL, and stays.
                    found = whole(json_columns.read(cells, spelt), where) if spelt else cells
                except BadRow as bad:
                    found = bad
                except (ValueError, RecursionError) as error:
                    found = BadRow(where, f"a column of JSON holds text that is not JSON ({error})", "json")
                yield where, found
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        reason = str(error)
        hint = ": save it as UTF-8" if "UTF8" in reason or "UTF-8" in reason else ""
        raise DataError(f"{path} cannot be read after row {number}: {reason}{hint}") from error


def _typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a CSV with its numbers and booleans as such; a cell that is none stays text, which is then refused."""
    return {name: _cell(value, _CELLS[name]) if name in _CELLS else value for name, value in row.items()}


def _cell(value: object, types: tuple[type, ...]) -> object:
    try:
        found = json.loads(str(value).strip().lower())
    except ValueError:
        return value
    return found if type(found) in types else value


def _pruned(value: Any) -> Any:
    """A table gives every row every field that any row has: those without a value were not there."""
    if isinstance(value, dict):
        return {key: _pruned(one) for key, one in without_nulls(value).items()}
    return [_pruned(one) for one in value] if isinstance(value, list) else value
