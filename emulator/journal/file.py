"""A journal as a file: a header, then one JSON object a line; keys, tokens and signatures are hidden."""

import base64
import platform as host
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from emulator.core.errors import InvalidArgument
from emulator.journal.journal import Event, Exchange, Journal, Touch
from emulator.journal.redact import Redactor
from emulator.state.world import Change

FORMAT = 1
LINE_LIMIT = 16_000_000
_PACKAGES = ("ftsim-emulator", "fireworks-ai", "torch", "transformers", "peft")
_PLAIN = (
    "method", "path", "query", "at", "status", "seconds", "request_size", "response_size", "request_type",
    "response_type", "error", "account", "began", "told", "ended", "whole",
)  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """A journal read from a file. `header` has seed, boot, account, complete, platform, light, versions."""

    header: dict[str, Any]
    entries: list[Exchange | Event]

    @property
    def exchanges(self) -> list[Exchange]:
        return [entry for entry in self.entries if isinstance(entry, Exchange)]


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what is computed; not installed ones are left out."""
    from importlib import metadata  # a twentieth of an emulator's start, which needs none of it

    found = {"python": host.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write(journal: Journal, *, seed: int, account: str) -> Iterator[bytes]:
    """The lines of a journal file."""
    header = {
        "kind": "journal",
        "format": FORMAT,
        "seed": seed,
        "boot": journal.boot,
        "account": account,
        "complete": journal.complete,
        "dropped": journal.dropped,
        "platform": journal.platform,
        "light": journal.light,
        "versions": versions(),
    }
    yield orjson.dumps(header) + b"\n"
    for entry in journal.entries:
        yield orjson.dumps(as_json(entry, journal.redactor)) + b"\n"


def read(lines: Iterable[bytes]) -> Saved:
    """Read a journal file; raises InvalidArgument that names the line. It may come from anybody: plain data only."""
    header: dict[str, Any] = {}
    entries: list[Exchange | Event] = []
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_LIMIT:
            raise InvalidArgument(f"line {number} of the journal is over {LINE_LIMIT} bytes")
        if not line.strip():
            continue
        try:
            body = orjson.loads(line)
            if number == 1:
                if body["kind"] != "journal" or body["format"] != FORMAT:
                    raise InvalidArgument(f"this is no journal of format {FORMAT}")
                header = body
            else:
                entries.append(_entry(body))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidArgument(f"line {number} of the journal cannot be read: {error}") from None
    if not header:
        raise InvalidArgument("the journal is empty")
    return Saved(header, entries)


def as_json(entry: Exchange | Event, redactor: Redactor) -> dict[str, Any]:
    """One entry, fit to leave the process."""
    if isinstance(entry, Event):
        detail = orjson.loads(redactor.bytes(orjson.dumps(entry.detail)))
        plain = {"what": entry.what, "at": entry.at, "lag": entry.lag, "began": entry.began}
        return {"kind": "event", **plain, "detail": detail}
    plain = {name: getattr(entry, name) for name in _PLAIN}
    return {
        "kind": "exchange",
        **plain,
        "lag": entry.lag,
        "path": redactor.text(entry.path),
        "query": redactor.text(entry.query),
        "error": redactor.text(entry.error),
        "unread": redactor.text(entry.unread),
        "request": _text(redactor.bytes(entry.request)),
        "response": _text(redactor.bytes(entry.response)),
        "changes": [list(change) for change in entry.changes],
        "quirks": [list(touch) for touch in entry.quirks],
    }


def _entry(body: dict[str, Any]) -> Exchange | Event:
    lag = int(body.get("lag", 0))
    if body["kind"] == "event":
        return Event(str(body["what"]), int(body["at"]), int(body["began"]), dict(body["detail"]), lag)
    request, response = _bytes(body["request"]), _bytes(body["response"])
    plain = {name: type(getattr(_BLANK, name))(body[name]) for name in _PLAIN}
    changes = [Change(*map(str, change)) for change in body["changes"]]
    quirks = [Touch(str(name), value) for name, value in body["quirks"]]
    unread = str(body.get("unread", ""))
    return Exchange(**plain, lag=lag, request=request, response=response, unread=unread, changes=changes, quirks=quirks)


_BLANK = Exchange("", "", "", 0)


def _text(raw: bytes) -> str | dict[str, str]:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode("ascii")}


def _bytes(value: Any) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else base64.b64decode(value["base64"])
