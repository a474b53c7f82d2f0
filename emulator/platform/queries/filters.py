"""The part of the AIP-160 filter language that clients of this API send: comparisons joined by AND (WIRE 1.3, 1.6)."""

import json
import operator as compare
import re
from collections.abc import Mapping
from typing import Any

from emulator.core.errors import InvalidArgument

_TERM = re.compile(r'\s*([A-Za-z_][\w.]*)\s*(>=|<=|!=|=|:|>|<)\s*("(?:[^"\\]|\\.)*"|[^\s"()]+)\s*')
_AND = re.compile(r"AND\b", re.IGNORECASE)
_CAMEL = re.compile(r"_([a-z0-9])")
_COMPARE = {
    "=": compare.eq,
    "!=": compare.ne,
    ">=": compare.ge,
    "<=": compare.le,
    ">": compare.gt,
    "<": compare.lt,
}
Term = tuple[tuple[str, ...], str, str]


def parse(text: str) -> list[Term]:
    """Terms as (path, operator, literal); raises InvalidArgument where the text is not understood."""
    terms: list[Term] = []
    at = 0
    while text[at:].strip():
        match = _TERM.match(text, at)
        if match is None:
            raise InvalidArgument(f'invalid filter at {text[at : at + 60]!r}: write field="value" joined by AND')
        literal = _text(match[3]) if match[3].startswith('"') else match[3]
        terms.append((tuple(_camel(part) for part in match[1].split(".")), match[2], literal))
        at = match.end()
        if joint := _AND.match(text, at):
            at = joint.end()
        elif text[at:].strip():
            raise InvalidArgument(f"invalid filter at {text[at : at + 60]!r}: join comparisons by AND")
    return terms


def _text(quoted: str) -> str:
    """The text of a literal in quotes; raises InvalidArgument for an unknown escape, or a raw tab."""
    try:
        return str(json.loads(quoted))
    except ValueError:
        raise InvalidArgument(
            f"invalid filter at {quoted[:60]!r}: within quotes, write control characters and backslashes as in JSON"
        ) from None


def matches(terms: list[Term], resource: Mapping[str, Any]) -> bool:
    """Say whether a resource (camelCase, as on the wire) fulfils every term; a field that it lacks equals nothing."""
    return all(_holds(_look_up(resource, path), operator, literal) for path, operator, literal in terms)


def _look_up(resource: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        resource = resource.get(part) if isinstance(resource, Mapping) else None
    return resource


def _holds(value: Any, operator: str, literal: str) -> bool:
    if value is None:
        return operator == "!="
    if operator == ":":
        return literal == "*" or literal.lower() in str(value).lower()
    left, right = _comparable(value, literal)
    return bool(_COMPARE[operator](left, right))


def _comparable(value: Any, literal: str) -> tuple[Any, Any]:
    if isinstance(value, bool):
        return str(value).lower(), literal.lower()
    try:
        return float(value), float(literal)
    except ValueError:
        return str(value), literal


def _camel(name: str) -> str:
    return _CAMEL.sub(lambda match: match[1].upper(), name)
