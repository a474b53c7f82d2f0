"""A JSON array is read value by value, and as `json` reads it whole."""

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from ftsim.training.data import json_array

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(leaves, lambda one: st.lists(one) | st.dictionaries(st.text(), one), max_leaves=8)


def read(content: bytes, chunk: int, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(json_array, "CHUNK", chunk)
    return list(json_array.values(io.BytesIO(content)))


@settings(deadline=None)
@given(
    rows=st.lists(trees, max_size=5), chunk=st.integers(1, 40), indent=st.sampled_from([None, 2]), plain=st.booleans()
)
def test_values_are_those_of_json_at_any_size_of_chunk(
    rows: list[Any], chunk: int, indent: int | None, plain: bool
) -> None:
    content = json.dumps(rows, indent=indent, ensure_ascii=plain).encode("utf-8", "replace")
    with pytest.MonkeyPatch.context() as patch:
        assert read(content, chunk, patch) == json.loads(content)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "content",
    [
        b"[",
        b"[1",
        b"[1,",
        b"[1,]",
        b"[1 2]",
        b'["a',
        b'[{"a": tru]',
        b"[1] x",
        b"[}",
        b'["\\ud8"]',
        b"x",
        b"",
        b"[[[1]",
    ],
)
def test_what_is_no_array_is_refused(content: bytes, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r".+"):
        json.loads(content)
    with pytest.raises(ValueError, match=r".+"):
        read(content, chunk, monkeypatch)


def test_a_fault_is_found_where_it_is_and_not_at_the_end_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            found = super().read(size)
            self.taken += len(found)
            return found

    monkeypatch.setattr(json_array, "CHUNK", 64)
    stored = Counted(b'[{"a": 1}, {"b" 2}, ' + b'{"c": 3}, ' * 1000 + b'{"d": 4}]')
    found = json_array.values(stored)
    assert next(found) == {"a": 1}
    with pytest.raises(ValueError, match="':'"):
        next(found)
    assert stored.taken == 64
