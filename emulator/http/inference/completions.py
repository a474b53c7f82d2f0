"""/inference/v1/completions and /v1/completions: token-in, token-out (WIRE 3.1)."""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any, ClassVar, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.backend import BackendError, Generation, Replica
from emulator.core import limits
from emulator.core.clock import SECOND
from emulator.core.errors import InvalidArgument, UnknownField
from emulator.http import schemas
from emulator.http.bodies import Ignored, Refusal, Refused, body, read_body
from emulator.http.declare import Endpoints
from emulator.http.inference import pictures
from emulator.http.inference.events import Choice, stream
from emulator.http.inference.formats import response_format
from emulator.http.inference.live import ChoiceFinished, TokensAdded
from emulator.http.inference.measured import perf_metrics, usage
from emulator.http.inference.requests import (
    EVENTS,
    Prompts,
    Sampling,
    answered_name,
    begin,
    finished,
    reply,
    target,
    tell_unread,
)
from emulator.http.inference.rows import Rows
from emulator.http.web import platform_of
from emulator.platform.deployments.completions import Target
from emulator.platform.route_files import FORMAT, wanted
from emulator.quirks import inference

router = Endpoints()
DEFAULT_MAX_TOKENS = 16
MOST_PROMPTS = limits.PROMPTS.value


class CreateCompletion(Sampling):
    """The body; a prompt may be several."""

    prompt: Prompts
    echo: bool = False
    echo_last: int | None = Field(None, ge=0)
    images: list[str | list[str]] = Field(default_factory=list)
    routing_matrix_format: Literal["base64_inline", "parquet_v1"] | None = None

    ignored: ClassVar[Ignored] = {
        **Sampling.ignored,
        **dict.fromkeys(("reasoning_effort", "thinking", "reasoning_history"), "a prompt is continued as it stands"),
    }
    refused: ClassVar[Refused] = {
        **Sampling.refused,
        "suffix": Refusal("a prompt is continued, and nothing is put behind what is written"),
        "best_of": Refusal("ask for n answers, and choose", (1,)),
        "tool_choice": Refusal("a prompt is continued as it stands, tools belong to a chat", ("auto", "none")),
    }

    @property
    def filed(self) -> bool:
        """True if routes are wanted as files."""
        return self.routing_matrix_format == FORMAT

    @property
    def routed(self) -> bool:
        return self.include_routing_matrix or self.filed


async def create(request: Request) -> Response:
    """Complete text or token ids, whole or as a stream."""
    sent, raw = await read_body(request, CreateCompletion)
    tell_unread(request, sent)
    on = await target(request, sent)
    keep = _keeper(request, on, sent)
    prompts = await run_in_threadpool(prompts_of, on.replica, sent.prompt)
    seen = pictures.of_prompts(sent.images, len(prompts))
    if sent.images:
        prompts = await run_in_threadpool(lambda: list(map(pictures.expanded, repeat(on.replica), prompts, seen)))
    form = response_format((await body(request)).get("response_format"))  # as sent: in a schema null is a value
    asked = [
        sent.generation(prompt, DEFAULT_MAX_TOKENS, form, echo=sent.echo, echo_last=sent.echo_last, images=its)
        for prompt, its in zip(prompts, seen, strict=True)
    ]
    live, tokens = begin(request, on, asked, sent, raw), sum(len(prompt) for prompt in prompts)
    if sent.stream:
        writer = _ChunkWriter(sent, prompts, on.replica, keep)
        return await stream(request, on, sent, live, writer, _head(request, sent.model), tokens)
    results = await finished(request, live)
    choices = await run_in_threadpool(  # rows of many tokens take long to write
        lambda: [choice(at, result, prompts[at // sent.n], sent, on.replica, keep) for at, result in enumerate(results)]
    )
    metrics = perf_metrics(on, results)
    content = {
        **_head(request, answered_name(request, on, sent.model)),
        "choices": choices,
        "usage": usage(tokens, results, sent.n),
    }
    if sent.perf_metrics_in_response:
        content["perf_metrics"] = metrics
    return reply(request, content, metrics)


def _head(request: Request, model: str) -> dict[str, Any]:
    world = platform_of(request).world
    return {
        "id": f"cmpl-{world.ids.hex(24)}",
        "object": "text_completion",
        "created": world.clock.now() // SECOND,
        "model": model,
    }


Keep = Callable[[Sequence[bytes | None]], Mapping[str, Any]]
"""Keeps the routes of a choice's rows as a file; gives what stands in the choice instead."""


def _keeper(request: Request, on: Target, sent: CreateCompletion) -> Keep | None:
    """Say how routes are kept as files, None where they are not wanted so.

    Raises UnknownField where the deployment does not know of it, InvalidArgument for a store that is none (E40).
    """
    if not sent.filed:
        return None
    platform = platform_of(request)
    if on.deployment is None or platform.world.quirks.value(inference.ROUTES_AS_FILES, on.subject) != FORMAT:
        raise UnknownField("routing_matrix_format")
    store, ttl_s = wanted(platform.world, request.headers)
    return lambda routes: platform.routes.keep(store, routes, ttl_s)


class _ChunkWriter:
    """Writes a chunk's choices: rows and text as they come, the whole of raw_output at the end."""

    def __init__(
        self, sent: CreateCompletion, prompts: Sequence[Sequence[int]], replica: Replica, keep: Keep | None
    ) -> None:
        self._sent = sent
        self._keep = keep
        self._prompts = prompts
        self._replica = replica
        self._rows = [_rows(sent, replica) for _ in prompts for _ in range(sent.n)]
        self._said: dict[int, int] = {}
        """Characters that each choice has got."""

    @property
    def pondered(self) -> None:
        return None

    def opening(self) -> list[Choice]:
        return []

    def added(self, news: TokensAdded) -> Choice | None:
        rows = self._rows[news.index].of(news.tokens) if self._sent.rows else None
        ids = [token.token_id for token in news.tokens] if self._sent.return_token_ids else []
        if not (news.text or rows or ids):
            return None
        return self._choice(news.index, news.text, rows, ids)

    def finished(self, news: ChoiceFinished) -> Choice:
        whole = choice(news.index, news.result, self._prompt(news.index), self._sent, self._replica, self._keep)
        rest = whole["text"][self._said.get(news.index, 0) :]
        last = self._choice(news.index, rest, None, []) | {"finish_reason": whole["finish_reason"]}
        return last | {key: whole[key] for key in ("raw_output", *_FILED) if key in whole}

    def _choice(self, index: int, text: str, rows: dict[str, Any] | None, ids: Sequence[int]) -> Choice:
        said: Choice = {"index": index, "text": text, "finish_reason": None, "logprobs": rows}
        if index not in self._said:
            said["prompt_token_ids"] = list(self._prompt(index))
        if self._sent.return_token_ids:
            said["token_ids"] = ids
        self._said[index] = self._said.get(index, 0) + len(text)
        return said

    def _prompt(self, index: int) -> Sequence[int]:
        return self._prompts[index // self._sent.n]


_FILED = ("routing_matrix_format", "r3_store_id", "routing_references")


def _rows(sent: CreateCompletion, replica: Replica) -> Rows:
    return Rows(replica.decode, legacy=sent.legacy, told=sent._told, routes=not sent.filed)


def choice(
    index: int,
    result: Generation,
    prompt: Sequence[int],
    sent: CreateCompletion,
    replica: Replica,
    keep: Keep | None = None,
) -> dict[str, Any]:
    """Write one choice. With echo, ids, rows and text begin with what was echoed of the prompt."""
    echoed = [row.token_id for row in result.prompt_tokens]
    ids = [*echoed, *(token.token_id for token in result.tokens)]
    text = (replica.decode(echoed) if echoed else "") + result.text
    said: dict[str, Any] = {
        "index": index,
        "text": text,
        "finish_reason": result.finish_reason,
        "logprobs": None,
        "prompt_token_ids": list(prompt),
    }
    if sent.rows:
        said["logprobs"] = _rows(sent, replica).of([*result.prompt_tokens, *result.tokens])
    if keep is not None:
        said |= keep([row.routing for row in (*result.prompt_tokens, *result.tokens)])
    if sent.raw_output:
        said["raw_output"] = {
            "completion_token_ids": ids,
            "prompt_token_ids": list(prompt),
            "completion": text,
            "prompt_fragments": [],
        }
    if sent.return_token_ids:
        said["token_ids"] = ids
    return said


def prompts_of(
    replica: Replica, prompt: str | list[int] | list[str] | list[list[int]], most: int = MOST_PROMPTS
) -> list[list[int]]:
    """Token ids of every prompt, at most so many; raises InvalidArgument."""
    if isinstance(prompt, str):
        return [_encode(replica, prompt)]
    if not prompt:
        raise InvalidArgument("prompt is empty: give at least one token")
    if isinstance(prompt[0], int):
        return [prompt]
    if len(prompt) > most:
        raise InvalidArgument(f"{len(prompt)} prompts in one request: at most {most}")
    return [_encode(replica, one) if isinstance(one, str) else list(one) for one in prompt]


def _encode(replica: Replica, text: str) -> list[int]:
    """Token ids of a text; raises InvalidArgument for one that is longer than the context could hold."""
    try:
        return replica.encode(text)
    except BackendError as error:
        raise InvalidArgument(error.message) from error


for _operation in ("completions", "completions_bare", "serverless_completions"):
    router.serve(_operation, answer=schemas.COMPLETION, body=CreateCompletion, media=EVENTS)(create)
