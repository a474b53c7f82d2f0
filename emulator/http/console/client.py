"""Asks the emulator as a client would: what a button of the console does is in the journal, and meets the switches."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.types import Message

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    """The answer to a client; `status` 0 and no body when the connection broke."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def json(self) -> Any:
        """The body as JSON, None where it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def message(self) -> str:
        """The words of a refusal, in whichever envelope."""
        if not self.status:
            return "the connection broke before the answer was whole"
        found: Any = self.json
        if isinstance(found, Mapping):
            error = found.get("error")
            inner: Any = error if isinstance(error, Mapping | str) else found
            text = inner if isinstance(inner, str) else inner.get("message") or inner.get("detail")
            return str(text or found)[:2000]
        return self.body[:2000].decode("utf-8", "replace")


async def ask(request: Request, method: str, path: str, key: str, sent: Mapping[str, Any] | None = None) -> Answer:
    """Send a request with this key through the whole application, and wait for the answer."""
    body = b"" if sent is None else orjson.dumps(sent)
    headers = [
        (b"host", HOST.encode()),
        (b"x-api-key", key.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"content-type", b"application/json"),
        (b"user-agent", b"ftsim-console"),
    ]
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": (HOST, 0),
        "server": (HOST, 80),
        "state": {},
    }
    status, whole = 0, False
    chunks: list[bytes] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal status, whole
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            chunks.append(message.get("body", b""))
            whole = not message.get("more_body", False)

    # In a task of its own: which exchange of the journal is the current one must not stay behind here.
    with contextlib.suppress(Exception):  # the application has answered 500 by then, or nothing
        await asyncio.create_task(request.app(scope, receive, send))
    return Answer(status, b"".join(chunks)) if whole else Answer(0, b"")
