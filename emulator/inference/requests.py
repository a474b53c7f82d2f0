"""What completions and chat completions have in common: parsing, waiting for replicas, streaming."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.backend import BackendError, GenerateRequest, Generation
from emulator.clock import Clock
from emulator.control.requests import Body
from emulator.errors import Internal, InvalidArgument, NotFound, PlatformError
from emulator.platform.completions import Target
from emulator.web import Reply, caller, platform_of

MOST_CHOICES = 128
SIBLINGS_S = 0.02
"""A seeded request stays in flight for at least so long, so that the siblings sent along with it still meet it."""
_ABSENT_FEATURES = (
    "include_routing_matrix", "routing_matrix_format", "top_sampling_logprobs", "top_sampling_format", "sampling_mask",
    "images",
)  # fmt: skip


class TooEarly(PlatformError):
    """The model is being swapped; clients wait and ask again (WIRE 3.1)."""

    http, code = 425, 14


class Sampling(Body):
    """Settings that both endpoints take."""

    model: str = ""
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    max_tokens: int | None = Field(None, ge=0)
    temperature: float = Field(1.0, ge=0.0, le=2.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    top_k: int = Field(0, ge=0)
    seed: int | None = None
    stop: str | list[str] = Field(default_factory=list)
    stream: bool = False
    logprobs: bool | int | None = None
    top_logprobs: int = Field(0, ge=0, le=20)
    ignore_eos: bool = False
    raw_output: bool = False
    perf_metrics_in_response: bool = False

    @property
    def tops(self) -> int:
        """How many likeliest tokens each row lists."""
        return self.top_logprobs or (self.logprobs if type(self.logprobs) is int else 0)

    @property
    def stops(self) -> list[str]:
        return [stop for stop in ([self.stop] if isinstance(self.stop, str) else self.stop) if stop]

    def generation(self, prompt: Sequence[int], max_tokens: int, **more: Any) -> GenerateRequest:
        return GenerateRequest(
            prompt=prompt,
            max_tokens=max_tokens if self.max_tokens is None else self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            stop=self.stops,
            top_logprobs=self.tops,
            ignore_eos=self.ignore_eos,
            **more,
        )


def refuse_absent(raw: Mapping[str, Any]) -> None:
    """Name the feature that is not there instead of leaving it out silently; raises InvalidArgument."""
    for name in _ABSENT_FEATURES:
        if raw.get(name):
            raise InvalidArgument(
                f"{name} is not supported: this deployment has no router replay, sampling references or images"
            )


async def target(request: Request, model: str) -> Target:
    """The replica that answers, once a load lets it (FAILURES E23); raises TooEarly, NotFound, and as `resolve`."""
    platform, account = platform_of(request), caller(request)
    if not model:
        raise InvalidArgument("model is required")
    quirks = platform.world.quirks
    if quirks.any_of(("inference.during_load",)):
        found = platform.completions.deployment(account, model)
        while found is not None and await run_in_threadpool(platform.completions.loading, found):
            match quirks.value("inference.during_load", deployment=found.id):
                case "425":
                    raise TooEarly(f"{found.name} is loading a snapshot")
                case "404":
                    raise NotFound(f"{found.name} is loading a snapshot")
                case "serve":
                    break
            await asyncio.sleep(0.05)
    return await run_in_threadpool(platform.completions.resolve, account, model)


async def generate(
    request: Request, on: Target, asked: Sequence[GenerateRequest], choices: int, raw: Mapping[str, Any]
) -> list[Generation]:
    """The continuations of all prompts, `choices` of each; raises InvalidArgument, Internal."""
    completions = platform_of(request).completions
    key = hashlib.sha256(orjson.dumps([caller(request), raw], option=orjson.OPT_SORT_KEYS)).digest()
    with completions.in_flight(key):
        started = Clock.elapsed()
        futures = [future for one in asked for future in completions.submit(on, one, choices, key)]
        try:
            results = [await asyncio.wrap_future(future) for future in futures]
        except BackendError as error:
            raise Internal(error.message) from error
        if asked[0].seed is not None and asked[0].temperature > 0:
            await asyncio.sleep(max(0.0, SIBLINGS_S - (Clock.elapsed() - started)))
        return results


def perf_metrics(on: Target, results: Sequence[Generation]) -> dict[str, str]:
    """Measured seconds and counts of the slowest choice, and who answered (WIRE 3.1)."""
    slowest = max(results, key=lambda result: result.metrics.get("server-processing-time", 0.0))
    named = {key: f"{value:.6f}" if "-duration" in key or "-time" in key else str(int(value))
             for key, value in slowest.metrics.items()}  # fmt: skip
    if on.deployment is not None and on.pod is not None:
        named |= {"deployment": on.deployment.name, "backend-host": on.pod.identity}
    return named


def usage(prompt_tokens: int, results: Sequence[Generation]) -> dict[str, int]:
    completion = sum(len(result.tokens) for result in results)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
    }


def reply(request: Request, content: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    return Reply(content, headers=correlated(request, headers))


def stream(request: Request, chunks: Sequence[Mapping[str, Any]], model: str, headers: Mapping[str, str]) -> Response:
    """Server-sent events, `[DONE]` last; or cut off before the last chunk (FAILURES E23)."""
    deployment = model.rpartition("/")[2]
    cut = platform_of(request).world.quirks.spend("inference.truncate_stream", deployment=deployment)

    events = [b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in (chunks[:-1] if cut else chunks)]
    whole = b"".join(events if cut else [*events, b"data: [DONE]\n\n"])
    return Response(whole, media_type="text/event-stream", headers=correlated(request, headers))


def correlated(request: Request, headers: Mapping[str, str]) -> dict[str, str]:
    """Answer headers: the caller's request id or a new one, and the measured metrics."""
    given = request.headers.get("x-request-id") or platform_of(request).world.ids.hex(32)
    return {"x-request-id": given, **{f"fireworks-{name}": value for name, value in headers.items()}}
