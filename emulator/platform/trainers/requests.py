"""Reads the parts that bodies of operations have alike."""

from collections.abc import Mapping
from typing import Any

from emulator.core.errors import InvalidArgument

Request = Mapping[str, Any]


def batch_of(request: Request, key: str) -> Mapping[str, Any]:
    """The datums and their loss; raises InvalidArgument where there is no object."""
    batch = request.get(key)
    if not isinstance(batch, Mapping):
        raise InvalidArgument(f"missing required field {key!r}")
    return batch


def named(request: Request, verb: str, key: str) -> str:
    """The name that a save is given, or by which one is meant; raises InvalidArgument for none."""
    name = request.get(key)
    if not isinstance(name, str) or not name:
        raise InvalidArgument(f"{verb}: {key} is required: give the checkpoint a name")
    return name
