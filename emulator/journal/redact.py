"""Secrets are never written down: keys, tokens, passwords, signatures of links; by their names and their shapes."""

import re
from collections.abc import Iterable, Iterator
from functools import cache

HIDDEN = b"[hidden]"

NAMES = (
    r"[\w.-]{0,40}?api[_-]?key",
    r"(?:access|private|secret|signing|encryption|account|shared|ssh)[_-]?key(?:[_-]?id)?",
    r"[\w.-]{0,40}?secret(?:[_-]?(?:access[_-]?)?key|[_-]?value)?",
    r"[\w.-]{0,40}?(?:password|passwd|passphrase)",
    r"pwd",
    r"credentials?",
    r"connection[_-]?string",
    r"[\w.-]{0,40}?(?:access|refresh|auth|api|bearer|session|security|oauth|bot|hf|hub|github|gitlab)[_-]?token",
    r"id[_-]?token",
    r"(?:proxy[_-]?)?authorization",
    r"(?:set[_-]?)?cookie",
    r"jwt",
    r"signature",
    r"sig",
)
"""Names whose values are secrets, in any case, with `_`, `-` or nothing between words.

`token` alone is one only where its value cannot be a piece of text: rows of log-probabilities have such a field.
"""
_BEHIND = (b'"', b"'", b"\\", b"%", b"=", b":", b" ")
_OWNERS = (
    b"access",
    b"refresh",
    b"auth",
    b"api",
    b"bearer",
    b"session",
    b"security",
    b"bot",
    b"hf",
    b"hub",
    b"gitlab",
    b"id",
)
_KEYS = (b"api", b"access", b"private", b"signing", b"encryption", b"account", b"shared", b"ssh")
_JOINED = (b"", b"_", b"-")
_IN_NAMES = (
    *(b"secret", b"passw", b"passphrase", b"pwd", b"credential", b"connection", b"authorization", b"cookie", b"jwt"),
    *(b"signature", *(b"sig" + behind for behind in _BEHIND)),
    *(what + between + b"key" for what in _KEYS for between in _JOINED),
)
"""One of these stands in every text that has a name with a value, in lower case, unless the name ends with `token`."""
_IN_TOKENS = tuple(b"token" + behind for behind in _BEHIND)
"""Likewise where it does; `tokens`, which all bodies have, is no such name."""
_IN_LONG_TOKENS = tuple(owner + between + b"token" for owner in _OWNERS for between in _JOINED)
"""Likewise where it is longer than `token`: `prompt-tokens`, which all completions have, is no such name."""
_APART = rb"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-F]{2}))"  # nothing but an escape of a URL stands directly before it
SHAPES = (
    _APART + rb"(?:fw|tml)[_-][A-Za-z0-9_-]{16,}",
    _APART + rb"hf_[A-Za-z0-9]{16,}",
    _APART + rb"sk-[A-Za-z0-9_-]{16,}",
    _APART + rb"(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,}",
    _APART + rb"(?:AKIA|ASIA)[A-Z0-9]{16}",
    _APART + rb"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[A-Za-z0-9_-]{16,})",
    _APART + rb"xox[a-z]-[A-Za-z0-9-]{10,}",
    _APART + rb"AIza[A-Za-z0-9_-]{30,}",
    _APART + rb"ya29\.[A-Za-z0-9_-]{16,}",
    _APART + rb"(?:nvapi-|npm_|pypi-|dop_v1_|r8_)[A-Za-z0-9_-]{20,}",
    _APART + rb"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
)
"""Values that are secrets whatever they are called."""
_IN_SHAPES = (
    *(
        b"fw_",
        b"fw-",
        b"tml_",
        b"tml-",
        b"hf_",
        b"sk-",
        b"k_live_",
        b"k_test_",
        b"AKIA",
        b"ASIA",
        b"github_pat_",
        b"glpat-",
    ),
    *(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"xox", b"AIza", b"ya29.", b"nvapi-", b"npm_", b"pypi-", b"dop_v1_"),
    *(b"r8_", b"eyJ", b"-----BEGIN "),
)
"""One of these stands in every text that holds such a value."""

_NAME = rb"(?:" + "|".join(NAMES).encode() + rb")"
_QUOTE = rb"(?P<quote>\\*\"|'|%22)"
_COLON = rb"(?:\s|%20|\+)*(?::|%3A)(?:\s|%20|\+)*"
_TO_THE_END = rb".*?(?=(?<!\\)(?P=quote)|\Z)"  # of the string that it is in, however deep that is quoted
_LIKE_A_KEY = rb"(?=[\w.~+/=-]*[A-Za-z])(?=[\w.~+/=-]*[0-9])[\w.~+/=-]{8,}"
_FIELDS = (
    rb"(?P<said>" + _QUOTE + _NAME + rb"(?P=quote)" + _COLON + rb"(?P=quote))" + _TO_THE_END,
    rb"(?P<said>" + _QUOTE + rb"token(?P=quote)" + _COLON + rb"(?P=quote))" + _LIKE_A_KEY + rb"(?=(?P=quote)|\Z)",
    rb"(?P<said>" + _QUOTE + _NAME + rb"(?P=quote)" + _COLON + rb")-?[0-9][0-9.]*",
    rb"(?P<said>(?<![\w-])" + _NAME + rb"=" + _QUOTE + rb")" + _TO_THE_END,
    rb"(?P<said>(?<![\w-])" + _NAME + rb"=)(?!\\*[\"'])[^&\s\"'\\#;,]+",
    rb"(?P<said>(?<![\w-])token=[\"']?)" + _LIKE_A_KEY,
    rb"(?P<said>--(?:" + _NAME + rb"|token)[ =])(?!\\*[\"'])[^\s\"'\\]+",
    rb"(?P<said>(?<![\w-])" + _NAME + rb":[ \t]*)(?!\\*[\"'])[^\s\"'\\]+(?:[ ][^\r\n\"'\\]+)?",
    rb"(?P<said>\bbearer\s+)[^\s\"',;\\]+",
    rb"(?P<said>(?::|%3A)(?:/|%2F){2}[^/\s:@%\"]*(?::|%3A))[^/\s@\"]+?(?=@|%40)",
)

_ALONE = (1, 5, 6)
"""Which of these are for the name `token`."""


@cache
def _patterns() -> list[re.Pattern[bytes]]:
    """Compiled at the first use, not at a start."""
    return [re.compile(field, re.IGNORECASE | re.DOTALL) for field in _FIELDS]


def _looked_for(low: bytes) -> Iterator[re.Pattern[bytes]]:
    """The patterns that may find something in a text in lower case.

    To look for a word is far faster than to look for a pattern, and a body may have megabytes of numbers.
    """
    patterns = _patterns()
    tokens = _has(low, _IN_TOKENS)
    if _has(low, _IN_NAMES) or (tokens and _has(low, _IN_LONG_TOKENS)):
        yield from patterns[:8]
    elif tokens:
        yield from (patterns[at] for at in _ALONE)
    if b"bearer" in low:
        yield patterns[8]
    if b"@" in low or b"%40" in low:
        yield patterns[9]


def _has(text: bytes, words: Iterable[bytes]) -> bool:
    return any(word in text for word in words)


@cache
def _shapes() -> re.Pattern[bytes]:
    return re.compile(b"|".join(SHAPES), re.DOTALL)


class Redactor:
    """Replaces known keys, and whatever looks like one, by `[hidden]`."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self.keys = sorted({key.encode() for key in keys if key}, key=len, reverse=True)
        """The known keys, the longest first."""

    def known(self, raw: bytes) -> bytes:
        """Without the known keys; cheap enough for every body."""
        for key in self.keys:
            if key in raw:
                raw = raw.replace(key, HIDDEN)
        return raw

    def bytes(self, raw: bytes) -> bytes:
        """Without anything that must not leave the process."""
        raw = self.known(raw)
        for field in _looked_for(raw.lower()):
            raw = field.sub(rb"\g<said>" + HIDDEN, raw)
        return _shapes().sub(HIDDEN, raw) if _has(raw, _IN_SHAPES) else raw

    def text(self, text: str) -> str:
        return self.bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
