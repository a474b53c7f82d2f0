"""A journal as an HTTP Archive (HAR 1.2), for the viewers that browsers have."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from emulator.core.clock import rfc3339
from emulator.journal.journal import Exchange
from emulator.journal.redact import Redactor

_UNKNOWN = -1


def har(exchanges: Iterable[Exchange], *, base_url: str = "http://127.0.0.1", version: str = "") -> dict[str, Any]:
    """The archive. Headers are left out, for the journal does not keep them; keys and signatures are hidden."""
    redactor = Redactor()
    entries = [_entry(exchange, base_url, redactor) for exchange in exchanges]
    return {"log": {"version": "1.2", "creator": {"name": "ftsim", "version": version}, "entries": entries}}


def _entry(exchange: Exchange, base_url: str, redactor: Redactor) -> dict[str, Any]:
    query = redactor.text(exchange.query)
    milliseconds = round(1000 * exchange.seconds, 3)
    url = base_url + redactor.text(exchange.path) + (f"?{query}" if query else "")
    sent = {"postData": {"mimeType": exchange.request_type, "text": _text(exchange.request, redactor)}}
    return {
        "startedDateTime": rfc3339(exchange.at, 3),
        "time": milliseconds,
        "request": {
            "method": exchange.method, "url": url, "httpVersion": "HTTP/1.1", "cookies": [], "headers": [],
            "queryString": [{"name": name, "value": value} for name, value in parse_qsl(query, keep_blank_values=True)],
            "headersSize": _UNKNOWN, "bodySize": exchange.request_size, **(sent if exchange.request else {}),
        },
        "response": {
            "status": exchange.status, "statusText": "", "httpVersion": "HTTP/1.1", "cookies": [], "headers": [],
            "content": {
                "size": exchange.response_size, "mimeType": exchange.response_type,
                "text": _text(exchange.response, redactor),
            },
            "redirectURL": "", "headersSize": _UNKNOWN, "bodySize": exchange.response_size,
        },
        "cache": {},
        "timings": {"send": 0, "wait": milliseconds, "receive": 0},
        "_changes": [f"{change.how} {change.kind} {change.name}" for change in exchange.changes],
        "_quirks": [f"{touch.name}={touch.value!r}" for touch in exchange.quirks],
    }  # fmt: skip


def _text(raw: bytes, redactor: Redactor) -> str:
    return redactor.bytes(raw).decode("utf-8", "replace")
