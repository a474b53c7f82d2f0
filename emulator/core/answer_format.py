"""Forms that an answer must have: literal text, JSON and free text, one after another; and where a stop string cuts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Json:
    """JSON by a schema, as `json.dumps` writes it."""

    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Words:
    """Free text and, where it first occurs, the `then` that ends it: one marker of the tokenizer, or plain text.

    It has `least` to `most` characters, and none of `without` stands in it.
    """

    then: str
    without: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None


@dataclass(frozen=True)
class OneOf:
    """One of several ways to go on; an empty way says that what the others say may be left out."""

    ways: Sequence[Sequence["Part"]]


Part = str | Json | Words | OneOf
Format = Sequence[Part]
"""The form of a whole answer. Text is literal; a marker in it that is one token of the tokenizer is that token."""


def cut(text: str, stops: Sequence[str]) -> tuple[str, str]:
    """A text up to the first stop string in it, and which that is: the shortest of those that begin there, "" for none.

    As soon as the shortest is there the text is over, whatever would have followed.
    """
    found = [(at, len(stop), stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not found:
        return text, ""
    at, _, stop = min(found)
    return text[:at], stop
