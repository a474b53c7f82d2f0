"""Formats of answers in the grammar of llguidance, which says token by token what may follow."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from emulator.core.answer_format import Format, Json, OneOf, Part, Words

_AS_DUMPS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as `json.dumps` writes it: with free white space a small model may write nothing else."""
_BY_NAME, _IN_ORDER, _ALONE = ("properties", "$defs", "definitions"), ("anyOf", "allOf", "prefixItems"), ("items",)
"""Where schemas stand within a schema: in an object, in a list, alone."""
_NAMED = {"properties", "required"}
_OF_OBJECTS = {*_NAMED, "patternProperties", "propertyNames", "minProperties", "unevaluatedProperties"}
_OF_OTHERS = {"$ref", "anyOf", "allOf"}
_UNCLEAR = {"oneOf", "not", "if", "$dynamicRef"}
"""What a schema under these allows no more, the whole may allow instead."""


def grammar_of(wanted: Format, markers: Mapping[str, int]) -> str:
    """The grammar of a format; `markers` are the ids of tokens that text cannot spell, by what they stand for."""
    return _Writer(markers).write(wanted)


class _Writer:
    def __init__(self, markers: Mapping[str, int]) -> None:
        self._markers = markers
        longest_first = sorted(filter(None, markers), key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None
        self._rules: list[str] = []

    def write(self, wanted: Format) -> str:
        start = f"start: {self._parts(wanted)}"
        return "\n".join([start, *self._rules])

    def _parts(self, parts: Format) -> str:
        return " ".join(filter(None, map(self._part, parts))) or '""'

    def _part(self, part: Part) -> str:
        match part:
            case str():
                return self._literal(part)
            case Json(schema):
                return self._rule(f"%json {json.dumps({**closed(schema), 'x-guidance': _AS_DUMPS})}")
            case Words():
                return self._words(part)
            case OneOf():
                return self._one_of(part)

    def _literal(self, text: str) -> str:
        """Text; a marker is named by its id: as text it cannot be drawn."""
        parts = self._split.split(text) if self._split else [text]
        return " ".join(
            f"<[{self._markers[part]}]>" if part in self._markers else json.dumps(part) for part in parts if part
        )

    def _words(self, words: Words) -> str:
        regex = f"/(?s:.{{{words.least},{'' if words.most is None else words.most}}})/"
        for text in words.without:
            regex += f" & ~/(?s:.*){_escaped(text)}(?s:.*)/"
        if words.then in self._markers:
            return f"{self._rule(regex, terminal=True)} {self._literal(words.then)}"
        return self._rule(regex, f"[suffix={json.dumps(words.then)}]")

    def _one_of(self, choice: OneOf) -> str:
        ways = " | ".join(self._parts(way) for way in choice.ways if way)
        return f"({ways}){'' if all(choice.ways) else '?'}"

    def _rule(self, content: str, attributes: str = "", *, terminal: bool = False) -> str:
        name = f"PART{len(self._rules)}" if terminal else f"part{len(self._rules)}"
        self._rules.append(f"{name}{attributes}: {content}")
        return name


def closed(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with objects that have the properties it names and no others, unless it says something of others.

    A small model that may add properties goes on adding them until its limit, and its answer is never whole. A schema
    that puts an object together of several is left as it is: closed, these would exclude each other.
    """
    return _closed(schema) if _plain(schema) else schema


def _closed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    found = _each(schema, _closed)
    named, required = found.get("properties"), found.get("required", [])
    told = isinstance(named, Mapping) and isinstance(required, list) and not found.keys() & (_OF_OBJECTS - _NAMED)
    if told and named and all(name in named for name in map(str, required)):
        found.setdefault("additionalProperties", False)
    return found


def _plain(schema: Any) -> bool:
    """True if nothing in the schema says of one object in two places what it has."""
    if not isinstance(schema, Mapping):
        return True
    inside: list[Any] = []
    _each(schema, inside.append)
    several = schema.keys() & _OF_OTHERS and schema.keys() & _OF_OBJECTS
    whole = schema.get("allOf", [])
    plain = not several and not schema.keys() & _UNCLEAR and isinstance(whole, list) and len(whole) < 2
    return plain and all(map(_plain, inside))


def _each(schema: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """The schema with a change to those that stand directly within it."""
    found = dict(schema)
    for key, value in schema.items():
        if key in _BY_NAME and isinstance(value, Mapping):
            found[key] = {name: change(one) for name, one in value.items()}
        elif key in _IN_ORDER and isinstance(value, list):
            found[key] = [change(one) for one in value]
        elif key in _ALONE:
            found[key] = change(value)
    return found


def _escaped(text: str) -> str:
    """Text as it stands between the slashes of a regular expression."""
    return re.sub(r"[^\w\s]", lambda found: f"\\x{{{ord(found[0]):x}}}", text)
