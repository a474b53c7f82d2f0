"""Finds the entries of the failure catalogue whose symptom a message is: `diagnose(text)`.

The patterns stand in messages.tsv, the entries in the catalogue (`emulator.quirks.failures`).
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from emulator.quirks.failures import Entry, entries

_HERE = Path(__file__).parent
_GAP = r".{0,240}?"
"""The texts that `…` in a pattern may stand for: ids, names and numbers, never half a log."""
_QUOTES = "'\"`‘’“”"
_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")

WHO = {
    "S": "the service",
    "K": "the SDK",
    "R": "a recipe",
    "T": "a Tinker-style server",
    "C": "another client",
    "W": "a warning of the SDK or a recipe",
    "D": "the delta codec",
}


@dataclass(frozen=True)
class Symptom:
    """A message with the ids of its entries, the likeliest first."""

    who: str
    entries: tuple[str, ...]
    patterns: tuple[str, ...]

    def weight(self, text: str) -> int:
        """The number of literal characters of the longest pattern that `text`, made plain, holds; 0 without one."""
        return max((len(_letters(pattern)) for pattern in self.patterns if _compiled(pattern).search(text)), default=0)


@dataclass(frozen=True)
class Match:
    """An entry whose symptom was found, and who says such a thing."""

    entry: Entry
    who: str


def diagnose(text: str) -> list[Match]:
    """The entries that a message, a log or a traceback points to, the surest first; none for what is not known.

    The pattern with the most literal characters decides the order, so that "Extra inputs are not permitted" on
    `reset_prompt_cache` stands before the same words on any other field.
    """
    plain = _plain(text)
    weighed = [(symptom.weight(plain), symptom) for symptom in symptoms()]
    found = sorted((pair for pair in weighed if pair[0]), key=lambda pair: -pair[0])
    known = entries()
    matches: dict[str, Match] = {}
    for _, symptom in found:
        for identifier in symptom.entries:
            matches.setdefault(identifier, Match(known[identifier], WHO[symptom.who]))
    return list(matches.values())


@cache
def symptoms() -> tuple[Symptom, ...]:
    """Every row of messages.tsv."""
    rows = []
    for line in (_HERE / "messages.tsv").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            who, identifiers, *patterns = line.split("\t")
            rows.append(Symptom(who, tuple(identifiers.split()), tuple(patterns)))
    return tuple(rows)


def _plain(text: str) -> str:
    """One form of white space, quotes and dashes; a line that begins anew is marked, for patterns that begin with ^."""
    text = _TERMINAL.sub("", text).replace('\\"', '"').replace("—", "-")
    text = re.sub(f"[{_QUOTES}]", "'", text)
    return "\n" + re.sub(r"[ \t]*\n\s*", "\n", re.sub(r"[ \t]+", " ", text.strip()))


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # `^` stands for the beginning of a message: of a line, or behind the name of an exception.
    start, body = (r"\n(?:[\w.]+: )?", pattern[1:]) if pattern.startswith("^") else ("", pattern)
    pieces = [re.escape(_plain(piece)[1:]) for piece in body.split("…")]
    # A message may be broken into lines, and its names may stand in quotes or not.
    pieces = [piece.replace(r"\ ", r"\s").replace("'", "'?") for piece in pieces]
    return re.compile(start + rf"\s?{_GAP}\s?".join(pieces), re.IGNORECASE | re.DOTALL)


def _letters(pattern: str) -> str:
    return pattern.lstrip("^").replace("…", "")
