"""Rows are the same whatever file they lie in."""

import gzip
import json
import sys
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


def test_the_cells_of_a_csv_are_numbers_and_booleans_where_fields_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("weight,enable_thinking,prompt\n2.0,True,3\n0,,true\nx,1,\n")
    assert [row for _, row in read_rows(tmp_path / "a.csv")] == [
        {"weight": 2.0, "enable_thinking": True, "prompt": "3"},
        {"weight": 0, "prompt": "true"},
        {"weight": "x", "enable_thinking": "1"},
    ]


def test_a_column_of_json_holds_values_and_not_their_spelling(tmp_path: Path) -> None:
    """`datasets` writes such columns where rows are of different kinds, and DuckDB for its type of that name."""
    cells = arrow.array([json.dumps(one) for one in ("hello", [{"text": "a"}], {"x": None}, 42)], arrow.json_())
    nested = arrow.ListArray.from_arrays(
        arrow.array([0, 2, 4], arrow.int32()), arrow.StructArray.from_arrays([cells], names=["content"])
    )
    tools = arrow.ListArray.from_arrays(
        arrow.array([0, 2, 2], arrow.int32()), arrow.array([json.dumps({"name": "tide"}), None], arrow.json_())
    )
    parquet.write_table(arrow.table({"messages": nested, "tools": tools, "id": ['"7"', "8"]}), tmp_path / "a.parquet")
    assert [row for _, row in read_rows(tmp_path / "a.parquet")] == [
        {
            "messages": [{"content": "hello"}, {"content": [{"text": "a"}]}],
            "tools": [{"name": "tide"}, None],
            "id": '"7"',
        },
        {"messages": [{"content": {"x": None}}, {"content": 42}], "tools": [], "id": "8"},
    ]


def test_a_column_of_json_with_other_text_is_refused_by_its_row(tmp_path: Path) -> None:
    cells = arrow.array(['"a"', "b", '"\\ud800"', None], arrow.json_())
    parquet.write_table(arrow.table({"prompt": cells}), tmp_path / "a.parquet")
    first, second, third, last = (row for _, row in read_rows(tmp_path / "a.parquet"))
    assert (first, last) == ({"prompt": "a"}, {})
    assert isinstance(second, BadRow)
    assert isinstance(third, BadRow)
    assert str(second).startswith(f"{tmp_path}/a.parquet, row 2: a column of JSON holds text that is not JSON")
    assert third.kind == "encoding"


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    write(tmp_path, "part-1.jsonl", ROWS[1:])
    write(tmp_path, "part-0.parquet", ROWS[:1])
    for name in ("README.md", ".part-2.jsonl", "dataset_info.json"):
        (tmp_path / name).write_text("no rows")
    write(tmp_path, "part-3.JSONL", [])
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
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 9000, mtime=0)[:-20], "cannot be read: it ends too early"),
        ("a.csv", b"", "cannot be read after row 0"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "is written in UTF-16: save it as UTF-8"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), r"is packed with gzip: let its name end in \.gz"),
        ("a.txt", b"PAR1 and more", r"is a parquet file: let its name end in \.parquet"),
        ("a.tsv", b"a\tb\n", "cannot be read: save its rows as JSONL, CSV or parquet"),
        ("a.PARQUET", b"no table", "cannot be read after row 0"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        list(read_rows(tmp_path / name))


def test_a_folder_without_rows_and_a_list_of_other_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder without a file that ends in \.jsonl"):
        list(read_rows(tmp_path))
    (tmp_path / "part-1.tsv").write_text("a\tb\n")
    with pytest.raises(DataError, match=r"has part-1\.tsv, whose rows cannot be read"):
        list(read_rows(tmp_path))
    (tmp_path / "a.json").write_text("[1]")
    ((where, bad),) = read_rows(tmp_path / "a.json")
    assert isinstance(bad, BadRow)
    assert (where, bad.reason) == (f"{tmp_path}/a.json, row 1", "a JSON object is wanted, not a number")


def test_lines_end_at_newlines_alone_and_a_mark_of_their_order_is_no_text(tmp_path: Path) -> None:
    row = {"prompt": "a\u2028b\u0085c\x1cd", "completion": "e\u2029f"}
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines([row]).replace(b"\n", b"\r\n") + lines([row]))
    assert [found for _, found in read_rows(tmp_path / "a.jsonl")] == [row, row]


def test_a_line_in_another_encoding_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' + '{"a": "é"}\n'.encode("latin-1"))
    _, (_, bad) = read_rows(tmp_path / "a.jsonl")
    assert str(bad) == f"{tmp_path}/a.jsonl, line 2: not UTF-8 (byte 7): save the file as UTF-8"
    (tmp_path / "a.jsonl").write_bytes('{"a": 1}\n'.encode("utf-16-le"))
    (_, bad), *_ = read_rows(tmp_path / "a.jsonl")
    assert str(bad).endswith("line 1: it has bytes of value 0: the file is written in UTF-16, or damaged")


def test_a_table_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write(tmp_path, "a.csv", TEXTS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"a\.csv: tables are read by pyarrow.*pip install 'ftsim-emulator\[tables\]'$"):
        list(read_rows(table))
