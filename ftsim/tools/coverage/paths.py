"""Calls without a client: the paths of OpenAI's and Anthropic's libraries, and all operations of the gateway."""

import re
from typing import Any

from emulator.core import unserved
from emulator.core.endpoints import DEDICATED, ENDPOINTS, NATIVE, POOLED, Callers
from ftsim.tools.coverage.judge import FAILS, MISSING, REFUSED, WORKS, Call
from ftsim.tools.coverage.stage import BASE, Stage

_CHAT: dict[str, Any] = {"model": BASE, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
LIBRARIES: tuple[tuple[str, str, str, dict[str, Any] | None], ...] = (
    ("chat.completions.create", "POST", "/inference/v1/chat/completions", _CHAT),
    ("chat.completions.create, streamed", "POST", "/inference/v1/chat/completions", {**_CHAT, "stream": True}),
    ("completions.create", "POST", "/inference/v1/completions", {"model": BASE, "prompt": "Hi", "max_tokens": 4}),
    ("models.list", "GET", "/inference/v1/models", None),
    ("models.retrieve", "GET", f"/inference/v1/models/{BASE}", None),
    ("embeddings.create", "POST", "/inference/v1/embeddings", {"model": BASE, "input": "Hi"}),
    ("responses.create", "POST", "/inference/v1/responses", {"model": BASE, "input": "Hi"}),
    ("responses.create, streamed", "POST", "/inference/v1/responses", {"model": BASE, "input": "Hi", "stream": True}),
    ("responses.retrieve", "GET", "/inference/v1/responses/some-id", None),
    ("audio.transcriptions.create", "POST", "/inference/v1/audio/transcriptions", {"model": BASE}),
    ("messages.create (Anthropic)", "POST", "/inference/v1/messages", _CHAT),
    ("messages.count_tokens (Anthropic)", "POST", "/inference/v1/messages/count_tokens", _CHAT),
    ("responses.input_tokens.count", "POST", "/inference/v1/responses/input_tokens", {"model": BASE, "input": "Hi"}),
)


def of_libraries(stage: Stage) -> list[Call]:
    """Call what these libraries call, with `/inference/v1` as their base URL."""
    return [_asked(stage, f"{name}: `{method} {path}`", method, path, body) for name, method, path, body in LIBRARIES]


def of_gateway(stage: Stage) -> list[Call]:
    """Call each operation that is known and not emulated; those that are served have tests of their own."""
    served = [
        Call(f"{row.method} {row.path}", WORKS)
        for row in ENDPOINTS
        if row.callers is Callers.ACCOUNT and not row.path.startswith((DEDICATED, POOLED, NATIVE))
    ]
    path = re.compile(r"{\w+}")
    refused = [
        _asked(
            stage,
            f"{one.method} {one.path}",
            one.method,
            path.sub("some-id", one.path.replace("{account}", stage.clients.account)),
            None,
        )
        for one in unserved.operations()
    ]
    return served + refused


def _asked(stage: Stage, name: str, method: str, path: str, body: dict[str, Any] | None) -> Call:
    answer = stage.clients.http.request(method, path, json=body)
    if answer.is_success:
        return Call(name, WORKS)
    said = answer.json()
    told = str((said.get("error") or said).get("message", ""))
    if "no such path" in told:
        return Call(name, MISSING)
    return Call(name, REFUSED if answer.status_code < 500 or answer.status_code == 501 else FAILS, told)
