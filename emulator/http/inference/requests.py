"""The steps that completions and chat completions share: parsing, waiting for replicas, answering."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import Field, PrivateAttr, StrictInt
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.backend import GenerateRequest, Generation
from emulator.core import limits
from emulator.core.answer_format import Format
from emulator.core.clock import Clock
from emulator.core.errors import InvalidArgument, NotFound, PlatformError
from emulator.http.bodies import TOO_DEEP, Ignored, Refusal, Refused, SnakeBody, spellings
from emulator.http.inference.live import ChoiceFinished, Live
from emulator.http.listener import nobody_else
from emulator.http.web import Reply, at_end, caller, platform_of, request_id
from emulator.journal.journal import CURRENT
from emulator.platform.deployments.completions import Target
from emulator.quirks import deployments, inference

MOST_CHOICES = limits.CHOICES.value
MOST_TOPS = limits.TOPS.value
Stop = Annotated[str, Field(max_length=limits.STOP_LENGTH.value)]
Stops = Annotated[list[Stop | int], Field(max_length=limits.STOPS.value, fail_fast=True)]
Tokens = Annotated[list[StrictInt], Field(fail_fast=True)]
"""Ids as numbers: true is none, nor is 1.0 or "1"."""
Prompts = str | Tokens | Annotated[list[str], Field(fail_fast=True)] | Annotated[list[Tokens], Field(fail_fast=True)]
"""A text or token ids, or a list of either."""
EVENTS = ("text/event-stream",)
DRAIN_HEADER, DRAIN_S, LONGEST_DRAIN_S = "x-fireworks-hot-load-drain-timeout", 90.0, 3600.0
_SAMPLED = "it would change what is sampled"


class TooEarly(PlatformError):
    """The model is being swapped; clients wait and ask again (WIRE 3.1)."""

    http, code = 425, 14


class Sampling(SnakeBody):
    """Settings that both endpoints take."""

    model: str = ""
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    max_tokens: int | None = Field(None, ge=0)
    max_completion_tokens: int | None = Field(None, ge=0)
    temperature: float = Field(1.0, ge=0.0, le=2.0)
    top_p: float = Field(1.0, ge=0.0, le=1.0)
    top_k: int = Field(0, ge=0)
    seed: int | None = None
    min_p: float = Field(0.0, ge=0.0, le=1.0)
    typical_p: float = Field(1.0, gt=0.0, le=1.0)
    frequency_penalty: float = Field(0.0, ge=-2.0, le=2.0)
    presence_penalty: float = Field(0.0, ge=-2.0, le=2.0)
    repetition_penalty: float = Field(1.0, gt=0.0, le=2.0)
    logit_bias: dict[int, Annotated[float, Field(ge=-200, le=200)]] = Field(
        default_factory=dict, max_length=limits.LOGIT_BIAS.value
    )
    response_format: dict[str, Any] | None = None
    stop: Stop | int | Stops = Field(default_factory=list)
    stream: bool = False
    logprobs: bool | Annotated[int, Field(ge=0, le=MOST_TOPS)] | None = None
    top_logprobs: int = Field(0, ge=0, le=MOST_TOPS)
    ignore_eos: bool = False
    context_length_exceeded_behavior: Literal["truncate", "error"] = "truncate"
    include_routing_matrix: bool = False
    return_token_ids: bool = False
    raw_output: bool = False
    perf_metrics_in_response: bool = False
    prompt_cache_key: str | None = None
    user: str | None = None
    _told: str = PrivateAttr("both")
    """Which log-probabilities rows hold: the switch inference.logprobs of the deployment that answers."""

    ignored: ClassVar[Ignored] = {
        **dict.fromkeys(
            ("metadata", "store", "service_tier", "safety_identifier"),
            "there is one kind of service, and nobody is told apart",
        ),
        **dict.fromkeys(
            ("prompt_cache_isolation_key", "prompt_cache_max_len"),
            "no prompt is computed from a cache",
        ),
        **dict.fromkeys(("prediction", "speculation"), "answers are computed without a draft"),
        "stream_options": "the last event always has the usage",
        "mirostat_lr": "it goes with mirostat_target alone",
    }
    refused: ClassVar[Refused] = {
        **dict.fromkeys(
            ("top_sampling_logprobs", "top_sampling_format", "sampling_mask"),
            Refusal("there are no sampling references here"),
        ),
        "mirostat_target": Refusal(_SAMPLED, (0,)),
        "functions": Refusal(_SAMPLED, ([],)),
    }

    @property
    def tops(self) -> int:
        """Count the likeliest tokens that each row lists."""
        return self.top_logprobs or (self.logprobs if type(self.logprobs) is int else 0)

    @property
    def routed(self) -> bool:
        """True if routes of experts are wanted."""
        return self.include_routing_matrix

    @property
    def legacy(self) -> bool:
        """True if log-probabilities are wanted in the form of old: `logprobs` is a number, and 0 asks for them too.

        Routes have no place in that form.
        """
        return type(self.logprobs) is int and not self.include_routing_matrix

    @property
    def rows(self) -> bool:
        """True if log-probabilities are wanted, or routes, which stand with them."""
        return self.legacy or bool(self.logprobs) or self.include_routing_matrix

    @property
    def stops(self) -> tuple[list[str], list[int]]:
        """Strings and token ids that end an answer."""
        given = self.stop if isinstance(self.stop, list) else [self.stop]
        return [one for one in given if isinstance(one, str) and one], [one for one in given if isinstance(one, int)]

    def generation(
        self, prompt: Sequence[int], default: int, form: Format | None = None, **more: Any
    ) -> GenerateRequest:
        """Say what to generate, `default` tokens when the request names no limit; raises InvalidArgument for two."""
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        if len(limits) > 1:
            raise InvalidArgument("max_tokens and max_completion_tokens are one setting: send one of them")
        strings, tokens = self.stops
        return GenerateRequest(
            prompt=prompt,
            max_tokens=limits[0] if limits else default,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            typical_p=self.typical_p,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias,
            format=form,
            seed=self.seed,
            stop=strings,
            stop_tokens=tokens,
            routing=self.routed,
            top_logprobs=self.tops,
            ignore_eos=self.ignore_eos,
            whole=self.context_length_exceeded_behavior == "error",
            **more,
        )


def tell_unread(request: Request, sent: SnakeBody, more: Iterable[str] = ()) -> None:
    """Name in a header and in the journal what nothing reads: a misspelt setting changes nothing, unnoticed."""
    known = {spelling for name in (*sent.ignored, *sent.refused) for spelling in spellings(name)}
    names = [*(name for name in sent.model_extra or {} if name not in known), *more]
    names = request.scope.setdefault("unread", []) + names
    request.scope["unread"] = names
    if names:
        said = ", ".join(dict.fromkeys(names))[:400]
        request.state.unread = {"debug-unread-fields": said.encode("unicode_escape").decode()}
        if (exchange := CURRENT.get()) is not None:
            exchange.unread = said.encode("utf-8", "backslashreplace").decode()


def streamed_name(request: Request, on: Target, model: str) -> str:
    """Name the model as a stream's chunks do: on a hot-loaded deployment, with the snapshot that answers."""
    return _tagged(request, on, model, ("snapshot", "everywhere"))


def answered_name(request: Request, on: Target, model: str) -> str:
    """Name the model as a whole answer does: as it was asked for, unless a switch has it say the snapshot (E32)."""
    return _tagged(request, on, model, ("everywhere",))


def _tagged(request: Request, on: Target, model: str, when: Sequence[str]) -> str:
    if on.deployment is None or on.pod is None or not on.pod.current:
        return model
    quirks = platform_of(request).world.quirks
    if quirks.value(deployments.INFERENCE_STREAM_MODEL, on.subject) not in when:
        return model
    return f"{on.deployment.base_model}@{on.pod.current}"


async def target(request: Request, sent: Sampling, *, embeds: bool = False) -> Target:
    """Find the replica that answers, or `embeds`, once a load lets it (FAILURES E23).

    Raises as `resolve` and `admit`, and TooEarly.
    """
    platform, account, model = platform_of(request), caller(request), sent.model
    if not model:
        raise InvalidArgument("model is required")
    quirks = platform.world.quirks
    if quirks.any_of((deployments.INFERENCE_DURING_LOAD,)):
        found = platform.completions.deployment(account, model)
        began, patience = Clock.elapsed(), _drain_s(request)
        while found is not None and await run_in_threadpool(platform.completions.loading, found):
            match quirks.value(deployments.INFERENCE_DURING_LOAD, found.subject):
                case "425":
                    raise TooEarly(f"{found.name} is loading a snapshot")
                case "404":
                    raise NotFound(f"{found.name} is loading a snapshot")
                case "serve":
                    break
                case "drain" if Clock.elapsed() - began >= patience:
                    raise TooEarly(f"{found.name} is still loading a snapshot after {patience:g} s")
            await asyncio.sleep(0.05)
    session = _session(request) or sent.prompt_cache_key or sent.user or ""
    found_target = await run_in_threadpool(platform.completions.resolve, account, model, session, embeds=embeds)
    at_end(request, found_target.release)
    at_end(request, platform.completions.admit(found_target, model))
    return found_target


def _session(request: Request) -> str:
    """The session that a request names in its headers, "" for none (WIRE 3.1)."""
    return request.headers.get("x-multi-turn-session-id") or request.headers.get("x-session-affinity") or ""


def _drain_s(request: Request) -> float:
    """Real seconds that a request waits for a load where it is put off (FAILURES E31); raises InvalidArgument."""
    said = request.headers.get(DRAIN_HEADER)
    try:
        seconds = DRAIN_S if said is None else float(said)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_DRAIN_S:
        raise InvalidArgument(f"{DRAIN_HEADER} is {str(said)[:40]!r}: give seconds from 0 to {LONGEST_DRAIN_S:g}")
    return seconds


def begin(
    request: Request, on: Target, asked: Sequence[GenerateRequest], sent: Sampling, raw: Mapping[str, Any]
) -> Live:
    """Start `n` choices of every prompt; raises InvalidArgument."""
    choices = sent.n * len(asked)
    if choices > limits.ALL_CHOICES.value:
        raise InvalidArgument(
            f"{sent.n} choices of each of {len(asked)} prompts: at most {limits.ALL_CHOICES.value} in a request, "
            "send fewer prompts at a time"
        )
    if choices * sent.tops > limits.ALL_TOPS.value:
        raise InvalidArgument(
            f"{choices} choices with {sent.tops} top log-probabilities at each token: at most {limits.ALL_TOPS.value} "
            "in a request, ask for fewer choices or fewer top_logprobs"
        )
    try:
        key = hashlib.sha256(orjson.dumps([caller(request), raw], option=orjson.OPT_SORT_KEYS)).digest()
    except TypeError:  # it reads what is nested more deeply than it writes
        raise InvalidArgument(TOO_DEEP) from None
    platform = platform_of(request)
    completions = platform.completions
    if on.deployment is not None:
        sent._told = platform.world.quirks.value(inference.LOGPROBS, on.subject)
    each = [one for one in completions.shaped(on, asked, _session(request)) for _ in range(sent.n)]
    return Live(completions, on, each, key, told=sent.stream, alone=lambda: _alone(request))


def _alone(request: Request) -> bool:
    """Say whether only this client's connection has asked for completions; never so without a socket."""
    connections = getattr(request.app.state, "connections", ())
    client = None if request.client is None else tuple(request.client)
    return nobody_else(connections, client, "completions")


async def finished(request: Request, live: Live) -> list[Generation]:
    """Wait for all choices and give them; raises Internal, and Cancelled when the client leaves."""
    results: dict[int, Generation] = {}
    try:
        async with attended(request, live):
            while live.open:
                results |= {one.index: one.result for one in await live.news() if isinstance(one, ChoiceFinished)}
            await live.release()
    finally:
        live.close()
    return [results[index] for index in sorted(results)]


@contextlib.asynccontextmanager
async def attended(request: Request, live: Live) -> AsyncIterator[None]:
    """Watch the socket while an answer has not begun: if the client leaves, so does `live`."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        live.leave()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


def reply(request: Request, content: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    return Reply(content, headers=correlated(request, headers))


def correlated(request: Request, headers: Mapping[str, str]) -> dict[str, str]:
    """Give the answer's headers: the caller's request id or a new one, and the measured metrics."""
    given = request_id(request.scope) or {"x-request-id": platform_of(request).world.ids.hex(32)}
    told = {**headers, **getattr(request.state, "unread", {})}
    return {**given, **{f"fireworks-{name}": value for name, value in told.items()}}
