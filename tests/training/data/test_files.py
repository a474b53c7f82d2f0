"""Rows are the same whatever file they lie in."""

import gzip
import json
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as arrow
import pytest
from pyarrow import csv, parquet

from ftsim.training.data.files import BadRow, digest_of, read_rows
from ftsim.training.errors import DataError

ROWS = [
    {"messages": [{"role": "user", "content": "Grüße, 港?"}, {"role": "assistant", "content": "Two\nlines"}]},
    {"messages": [{"role": "user", "content": "b"}], "tools": [{"name": "tide"}]},
]
TEXTS = [{"prompt": 'a, "b"\nc', "completion": "1"}, {"completion": "2"}]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / name
    full = [dict.fromkeys(key for one in rows for key in one) | row for row in rows]
    match path.suffixes[0]:
        case ".parquet":
            parquet.write_table(arrow.Table.from_pylist(full), path)
        case ".csv":
            csv.write_csv(arrow.Table.from_pylist(full), path)
        case ".json":
            path.write_bytes(json.dumps(rows).encode())
        case _:
            path.write_bytes(gzip.compress(lines(rows)) if name.endswith(".gz") else lines(rows))
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.jsonl.gz", "a.parquet", "a.txt"])
def test_every_form_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    assert [row for _, row in read_rows(write(tmp_path, name, ROWS))] == ROWS


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_an_empty_cell_is_an_absent_field_and_a_cell_may_have_lines(tmp_path: Path, name: str) -> None:
    assert [row for _, row in read_rows(write(tmp_path, name, TEXTS))] == TEXTS


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    write(tmp_path, "part-1.jsonl", ROWS[1:])
    write(tmp_path, "part-0.parquet", ROWS[:1])
    (tmp_path / "README.md").write_text("no rows")
    assert [row for _, row in read_rows(tmp_path)] == ROWS
    before = digest_of(str(tmp_path))
    write(tmp_path, "part-1.jsonl", ROWS)
    assert digest_of(str(tmp_path)) != before


def test_a_store_is_read_by_its_address() -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/set/0.jsonl", lines(ROWS[:1]))
    store.pipe("/set/1.jsonl", lines(ROWS[1:]))
    assert [row for _, row in read_rows("memory://set")] == ROWS
    assert [row for _, row in read_rows("memory://set/1.jsonl")] == ROWS[1:]
    assert len(digest_of("memory://set")) == 64
    with pytest.raises(DataError, match="cannot be read"):
        list(read_rows("memory://nothing.jsonl"))
    with pytest.raises(DataError, match="cannot be read: Protocol not known"):
        list(read_rows("neverland://x.jsonl"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "is written in UTF-16: save it as UTF-8"),
        ("a.json", '[{"a": "é"}]'.encode("latin-1"), r"not UTF-8 \(byte 8\): save the file as UTF-8"),
        ("a.json", b"[1, 2", "not JSON"),
        ("a.csv", "a,b\né,1\n".encode("latin-1"), "UTF"),
        ("a.parquet", b"no table", "cannot be read after row 0"),
        ("a.jsonl.gz", b"not packed", "cannot be read: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 9000)[:-20], "cannot be read: it ends too early"),
        ("a.csv", b"", "cannot be read after row 0"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        list(read_rows(tmp_path / name))


def test_a_folder_without_rows_and_a_list_of_other_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder without a file that ends in \.jsonl"):
        list(read_rows(tmp_path))
    (tmp_path / "a.json").write_text("[1]")
    ((where, bad),) = read_rows(tmp_path / "a.json")
    assert isinstance(bad, BadRow)
    assert (where, bad.reason) == (f"{tmp_path}/a.json, row 1", "a JSON object is wanted, not a number")


def test_a_line_in_another_encoding_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' + '{"a": "é"}\n'.encode("latin-1"))
    _, (_, bad) = read_rows(tmp_path / "a.jsonl")
    assert str(bad) == f"{tmp_path}/a.jsonl, line 2: not UTF-8 (byte 7): save the file as UTF-8"
