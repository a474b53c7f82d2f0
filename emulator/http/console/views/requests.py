"""Lists what the emulator was asked, newest first, and shows one exchange whole: what it changed, what touched it."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from emulator.core.clock import rfc3339
from emulator.core.endpoints import endpoint
from emulator.core.errors import NotFound
from emulator.http.console.views.lists import SIZE, Tone, size
from emulator.journal.journal import Exchange, Journal

SHOWN = 100_000
"""Bytes of a body that are shown."""

_SHORT = re.compile(r"^(?:/v1/accounts/[^/]+|/training/v1/rlorTrainerJobs/[^/]+|/training/v1)/")


@dataclass(frozen=True)
class Filter:
    """Says which exchanges are wanted; empty fields want all. `status` is 404, 4xx or 5xx; `words` stand in it."""

    endpoint: str = ""
    method: str = ""
    status: str = ""
    words: str = ""
    quirked: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Filter":
        """The filter in a query; what it does not know is passed over."""
        return cls(
            query.get("endpoint", ""),
            query.get("method", "").upper(),
            query.get("status", "").lower(),
            query.get("words", ""),
            query.get("quirked", "") == "on",
        )

    @property
    def query(self) -> dict[str, str]:
        """The fields that are set, as a query has them."""
        told = {"endpoint": self.endpoint, "method": self.method, "status": self.status, "words": self.words}
        return {name: value for name, value in told.items() if value} | ({"quirked": "on"} if self.quirked else {})

    def wants(self, one: Exchange) -> bool:
        return (
            (not self.quirked or bool(one.quirks))
            and (not self.method or one.method == self.method)
            and (not self.status or self.status in (str(one.status), f"{one.status // 100}xx"))
            and (not self.endpoint or named(one.method, one.path) == self.endpoint)
            and (not self.words or _holds(one, self.words))
        )


@dataclass(frozen=True)
class RequestLine:
    """An exchange in the list; `status` 0 is one that is not answered yet, or whose connection broke."""

    number: int
    at: str
    time: str
    method: str
    path: str
    short: str
    endpoint: str
    status: int
    tone: Tone
    milliseconds: str
    sizes: str
    quirks: list[str]
    changes: int
    account: str


@dataclass(frozen=True)
class RequestList:
    """A page of the list. `older` is the number to go on below, 0 at the end; `dropped` were kept no longer."""

    lines: list[RequestLine]
    older: int
    kept: int
    dropped: int
    endpoints: list[str]


@dataclass(frozen=True)
class Body:
    """A body as text, whole or not."""

    text: str
    size: str
    kind: str
    cut: bool


@dataclass(frozen=True)
class RequestPage:
    """One exchange."""

    line: RequestLine
    query: str
    error: str
    request: Body
    response: Body
    changes: list[tuple[str, str, str]]
    quirks: list[tuple[str, str]]
    test: str
    facts: list[tuple[str, str]] = field(default_factory=list)


@lru_cache(maxsize=4096)
def named(method: str, path: str) -> str:
    """The name of an endpoint; a run asks for the same few paths again and again."""
    return endpoint(method, path)[0]


def chosen(journal: Journal, wanted: Filter, below: int = 0) -> Iterator[Exchange]:
    """Exchanges, newest first, from under this number on."""
    for entry in reversed(journal.entries):
        if isinstance(entry, Exchange) and (not below or entry.began < below) and wanted.wants(entry):
            yield entry


def requests(journal: Journal, wanted: Filter, below: int = 0) -> RequestList:
    """One page; a page is read to its end only, however long the journal is."""
    found: list[Exchange] = []
    for one in chosen(journal, wanted, below):
        found.append(one)
        if len(found) > SIZE:
            break
    older = found[SIZE - 1].began if len(found) > SIZE else 0
    lines = [line(journal, one) for one in found[:SIZE]]
    seen = sorted({one.endpoint for one in lines} | ({wanted.endpoint} if wanted.endpoint else set()))
    return RequestList(lines, older, len(journal.entries), journal.dropped, seen)


def line(journal: Journal, one: Exchange) -> RequestLine:
    path = journal.redactor.text(one.path) if "signature" in one.query or len(one.path) > 200 else one.path
    stamp = rfc3339(one.at, 3)
    return RequestLine(
        number=one.began,
        at=stamp,
        time=stamp[11:23],
        method=one.method,
        path=path,
        short=_SHORT.sub("…/", path),
        endpoint=named(one.method, one.path),
        status=one.status,
        tone=_tone(one),
        milliseconds=f"{1000 * one.seconds:.1f}" if one.ended else "–",
        sizes=f"{size(one.request_size)} / {size(one.response_size)}",
        quirks=[touch.name for touch in one.quirks],
        changes=len(one.changes),
        account=one.account,
    )


def request(journal: Journal, number: int) -> RequestPage:
    """Raises NotFound for an exchange that is kept no longer."""
    found = next((e for e in journal.entries if isinstance(e, Exchange) and e.began == number), None)
    if found is None:
        raise NotFound(f"request {number} is not kept (any more): the journal holds the newest ones")
    clean, kind = journal.redactor, found.response_type
    return RequestPage(
        line=line(journal, found),
        query=clean.text(found.query),
        error=clean.text(found.error),
        request=_body(journal, found.request, found.request_size, found.request_type),
        response=_body(journal, found.response, found.response_size, kind),
        changes=[(change.how, change.kind, change.name) for change in found.changes],
        quirks=[(touch.name, repr(touch.value)) for touch in found.quirks],
        test=as_test(journal, found),
        facts=[("at", rfc3339(found.at)), ("account", found.account or "none"), ("answered in", _took(found))],
    )


def as_test(journal: Journal, one: Exchange) -> str:
    """A test that asks the same of an emulator with the same switches, and wants the same status."""
    clean, name = journal.redactor, named(one.method, one.path)
    word = "".join(letter if letter.isalnum() else "_" for letter in name).strip("_").lower()
    lines = ["import httpx", "", ""]
    lines += [f"def test_{word}_answers_{one.status}(fireworks_emulator):"]
    for touch in one.quirks:
        lines.append(f"    fireworks_emulator.quirks.set({touch.name!r}, {touch.value!r}, times=1)")
    query = f"?{clean.text(one.query)}" if one.query else ""
    lines += ["    answer = httpx.request(", f"        {one.method!r},"]
    lines += [f'        f"{{fireworks_emulator.url}}{_braced(clean.text(one.path) + query)}",']
    lines += ['        headers={"X-Api-Key": fireworks_emulator.api_key},']
    sent = one.json
    if sent is not None:
        shown = json.loads(clean.bytes(one.request))
        lines.append(f"        json={shown!r},")
    elif one.request:
        lines.append("        # its body was no JSON, or was not kept whole")
    lines += ["    )", f"    assert answer.status_code == {one.status}, answer.text"]
    message = one.answer.get("message") if isinstance(one.answer, dict) else None
    if isinstance(message, str) and message:
        lines.append(f"    assert {clean.text(message)[:80]!r} in answer.text")
    return "\n".join(lines) + "\n"


def _braced(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("{", "{{").replace("}", "}}")


def _body(journal: Journal, raw: bytes, whole: int, kind: str) -> Body:
    text = journal.redactor.bytes(raw[: SHOWN + 512])[:SHOWN].decode("utf-8", "replace")
    if len(raw) <= SHOWN:
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return Body(text, size(whole), kind or "no type", whole > min(len(raw), SHOWN))


def _holds(one: Exchange, words: str) -> bool:
    sought = words.encode()
    return words in one.path or words in one.query or sought in one.request or sought in one.response


def _tone(one: Exchange) -> Tone:
    if not one.ended:
        return "busy"
    if one.error or one.status == 0 or one.status >= 500:
        return "bad"
    return "bad" if one.status >= 400 else "good"


def _took(one: Exchange) -> str:
    return f"{1000 * one.seconds:.1f} ms" if one.ended else "not yet"
