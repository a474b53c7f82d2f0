"""Server-sent events, written while tokens are drawn (WIRE 3.1; FAILURES E23)."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import orjson
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from emulator.backend import Generation
from emulator.core.clock import Clock
from emulator.core.errors import PlatformError
from emulator.http.inference.live import ChoiceFinished, Live, TokensAdded
from emulator.http.inference.measured import named, perf_metrics, usage
from emulator.http.inference.requests import Sampling, attended, correlated, streamed_name
from emulator.http.web import platform_of
from emulator.platform.deployments.completions import Target
from emulator.quirks import deployments

Choice = dict[str, Any]
DONE = b"data: [DONE]\n\n"


class ChunkWriter(Protocol):
    """Writes the choices of one endpoint's chunks."""

    @property
    def pondered(self) -> int | None:
        """Tokens of the thoughts of all choices that are finished, None where nothing is read as one."""

    def opening(self) -> Sequence[Choice]:
        """Write what stands in a chunk of its own before any token, maybe nothing."""

    def added(self, news: TokensAdded) -> Choice | None:
        """Write what new tokens add, None when that is nothing yet."""

    def finished(self, news: ChoiceFinished) -> Choice:
        """Write the rest of a choice, and why it ended."""


class EventStream(StreamingResponse):
    """Cancels its generation when it ends, however it ends: a client that leaves frees its rows in the batch."""

    media_type = "text/event-stream"

    def __init__(self, live: Live, body: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(body, headers=headers)
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.close()


async def stream(
    request: Request, on: Target, sent: Sampling, live: Live, writer: ChunkWriter, head: Mapping[str, Any], prompts: int
) -> EventStream:
    """Begin an answer with the first token; `head` stands in every chunk, `prompts` is tokens of all prompts.

    Each chunk names the model as it is when the chunk is written: a load may have come in between (FAILURES E32).

    A choice that fails before any token fails the request (raises Internal), a client that leaves before any ends it
    (raises Cancelled); later a failure ends the stream with an error.
    """
    began = Clock.elapsed()
    try:
        async with attended(request, live):
            first = await live.news()
    except BaseException:
        live.close()
        raise
    cut = platform_of(request).world.quirks.spend(deployments.INFERENCE_TRUNCATE_STREAM, on.subject)
    measured = {"prompt-tokens": str(prompts), "server-time-to-first-token": f"{Clock.elapsed() - began:.6f}"}
    headers = correlated(request, {**measured, **named(on)})  # the rest is known at the end, and stands there
    return EventStream(live, _body(request, on, sent, live, first, writer, head, prompts, cut), headers)


async def _body(
    request: Request,
    on: Target,
    sent: Sampling,
    live: Live,
    news: Sequence[TokensAdded | ChoiceFinished],
    writer: ChunkWriter,
    head: Mapping[str, Any],
    prompts: int,
    cut: bool,
) -> AsyncIterator[bytes]:
    """Yield events; what came at once leaves at once. With `cut` the stream breaks off before a choice is finished."""

    def event(choices: Sequence[Choice], **more: Any) -> bytes:
        model = streamed_name(request, on, sent.model)
        return b"data: " + orjson.dumps({**head, "model": model, "choices": choices, **more}) + b"\n\n"

    results: dict[int, Generation] = {}
    opening = writer.opening()
    ready = [event(opening)] if opening else []
    while True:
        for one in news:
            if isinstance(one, TokensAdded):
                choice = writer.added(one)
                ready += [event([choice])] if choice is not None else []
                continue
            if cut:
                yield b"".join(ready)
                return
            results[one.index] = one.result
            last = writer.finished(one)
            more: dict[str, Any] = {}
            if not live.open and one is news[-1]:
                found = [results[index] for index in sorted(results)]
                more["usage"] = usage(prompts, found, sent.n, writer.pondered)
                if sent.perf_metrics_in_response:
                    more["perf_metrics"] = perf_metrics(on, found)
                await live.release()  # before the client can know: what it asks next is no sibling
            ready.append(event([last], **more))
        if not live.open:
            break
        if ready:
            yield b"".join(ready)
            ready = []
        try:
            news = await live.news()
        except PlatformError as failure:
            yield _failed(failure)
            return
    yield b"".join([*ready, DONE])


def _failed(failure: PlatformError) -> bytes:
    """Write the event that ends a stream instead of `[DONE]`."""
    error = {
        "message": failure.message,
        "type": "server_error",
        "code": str(failure.code),
        "status": failure.http,
    }
    return b"event: error\ndata: " + orjson.dumps({"error": error}) + b"\n\n"
