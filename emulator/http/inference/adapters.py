"""Answers of other APIs out of a chat completion: whole, or event by event out of its stream. There is one sampler."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from emulator.core.errors import InvalidArgument
from emulator.http.bodies import body
from emulator.http.inference import chat
from emulator.http.inference.events import EventStream
from emulator.http.web import Reply

_PROMPT = "fireworks-prompt-tokens"
Event = tuple[str, dict[str, Any]]
"""A server-sent event: its name and its data."""


class Writer(ABC):
    """Turns the chunks of a chat's stream into events of another API."""

    def opening(self, prompt: int) -> Sequence[Event]:
        """Write what comes before any token; the prompt has so many."""
        return ()

    @abstractmethod
    def delta(self, delta: Mapping[str, Any]) -> Sequence[Event]:
        """Write what a piece of the message adds."""

    @abstractmethod
    def closing(self, reason: str, usage: Mapping[str, Any], stop: str) -> Sequence[Event]:
        """Write what comes once the message is whole; `stop` is the stop string that ended it, "" for none."""

    def failing(self, error: Mapping[str, Any]) -> Sequence[Event]:
        """Write what ends a stream that broke off."""
        return [("error", {"type": "error", "error": {**error, "type": "api_error"}})]


def chat_tool(tool: Mapping[str, Any], parameters: Any) -> dict[str, Any]:
    """A tool of another API as a chat declares it; raises InvalidArgument."""
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidArgument(f"the schema of the tool {str(tool.get('name'))[:60]!r} must be an object")
    about = {"name": tool.get("name"), "parameters": parameters or {"type": "object"}}
    return {"type": "function", "function": {**about, "description": tool.get("description") or ""}}


def chat_choice(name: Any) -> dict[str, Any]:
    """A tool that must be called, as a chat names it."""
    return {"type": "function", "function": {"name": name}}


async def answered(
    request: Request,
    body: Mapping[str, Any],
    whole: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    writer: Callable[[], Writer],
    wanted: Mapping[str, Any] | None = None,
    begun: str = "",
) -> Response:
    """Answer `body`, a chat request, as `whole` or a `writer` writes it, and go on from what is `begun`.

    `wanted` is a response_format.
    """
    sent = _chat(body, begun)
    found = await chat.answer(request, sent, body, wanted)
    told = {name: value for name, value in found.headers.items() if name not in ("content-length", "content-type")}
    if isinstance(found, EventStream):
        found.body_iterator = _written(found.body_iterator, writer(), int(found.headers[_PROMPT]))
        return found
    return Reply(whole(orjson.loads(found.body)), headers=told)


async def format_as_sent(request: Request, within: str) -> Any:
    """The format in an object of the body, as it was sent: in a schema null is a value."""
    return ((await body(request)).get(within) or {}).get("format")


async def counted(request: Request, body: Mapping[str, Any], begun: str = "") -> int:
    """Count the tokens of the prompt that a chat request makes, without answering it."""
    return len((await chat.prompted(request, _chat(body, begun))).prompt)


def _chat(body: Mapping[str, Any], begun: str) -> chat.CreateChatCompletion:
    try:
        sent = chat.CreateChatCompletion.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidArgument(f"{'.'.join(map(str, first['loc']))[:120]}: {first['msg']}") from None
    sent._names_stop, sent._begun = True, begun
    return sent


async def _written(chunks: Any, writer: Writer, prompt: int) -> AsyncIterator[bytes]:
    yield _bytes(writer.opening(prompt))
    reason, stop = "stop", ""
    async for piece in chunks:
        for event in bytes(piece).split(b"\n\n"):
            name, _, data = event.rpartition(b"data: ")
            if not data or data == b"[DONE]":
                continue
            chunk = orjson.loads(data)
            if name.startswith(b"event: error"):
                yield _bytes(writer.failing(chunk["error"]))
                return
            events: list[Event] = []
            for choice in chunk["choices"]:
                events += writer.delta(choice["delta"])
                reason, stop = choice["finish_reason"] or reason, choice.get("stop_sequence", stop)
            if (usage := chunk.get("usage")) is not None:
                events += writer.closing(reason, usage, stop)
            yield _bytes(events)


def _bytes(events: Sequence[Event]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data)) for name, data in events)
