"""Formats of answers in the grammar of llguidance, which says token by token what may follow."""

import json
import re
from collections.abc import Mapping

from emulator.core.answer_format import Format, Json, OneOf, Part, Words

_AS_DUMPS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as `json.dumps` writes it: with free white space a small model may write nothing else."""


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
                return self._rule(f"%json {json.dumps({**schema, 'x-guidance': _AS_DUMPS})}")
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


def _escaped(text: str) -> str:
    """Text as it stands between the slashes of a regular expression."""
    return re.sub(r"[^\w\s]", lambda found: f"\\x{{{ord(found[0]):x}}}", text)
