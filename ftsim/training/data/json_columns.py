"""Columns of a table that hold JSON: each cell is a JSON value, spelt out as text.

`datasets` makes one of every column whose rows are of different kinds, such as contents of which some are text and some
are lists of parts; text stands in quotes there, which are no part of it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

Reader = Callable[[Any], Any]
_NAME = "arrow.json"


def readers(schema: Any) -> dict[str, Reader]:
    """Returns what reads the cells of those columns of an Arrow schema that hold JSON, at any depth.

    A reader raises `ValueError` for text that is not JSON.
    """
    return _of_fields(schema)


def _of_fields(fields: Any) -> dict[str, Reader]:
    found = {field.name: _of_field(field) for field in fields}
    return {name: reader for name, reader in found.items() if reader}


def _of_field(field: Any) -> Reader | None:
    from pyarrow import types

    kind = field.type
    # A version of pyarrow that does not know the type leaves its name beside the text.
    name = getattr(kind, "extension_name", None) or (field.metadata or {}).get(b"ARROW:extension:name", b"").decode()
    if name == _NAME:
        return json.loads
    if types.is_struct(kind):
        return _struct(_of_fields(kind))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _list(_of_field(kind.value_field))
    return None


def _struct(inner: Mapping[str, Reader]) -> Reader | None:
    return (lambda cell: read(cell, inner)) if inner else None


def _list(inner: Reader | None) -> Reader | None:
    return (lambda cell: [one if one is None else inner(one) for one in cell]) if inner else None


def read(row: Mapping[str, Any], inner: Mapping[str, Reader]) -> dict[str, Any]:
    """The row with those cells of JSON read that it has; raises `ValueError`."""
    return {**row, **{name: reader(row[name]) for name, reader in inner.items() if name in row}}
