"""/inference/v1/chat/completions and /v1/chat/completions, through the model's own chat template (WIRE 3.1)."""

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router

from emulator.backend import BackendError, Generation, Replica
from emulator.clock import SECOND
from emulator.control.requests import read_body
from emulator.errors import InvalidArgument
from emulator.inference.completions import row
from emulator.inference.requests import Sampling, generate, perf_metrics, refuse_absent, reply, stream, target, usage
from emulator.web import platform_of

router = Router()
DEFAULT_MAX_TOKENS = 2048
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


class CreateChatCompletion(Sampling):
    """The body."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    tools: list[dict[str, Any]] = Field(default_factory=list)
    max_completion_tokens: int | None = Field(None, ge=0)


async def create(request: Request) -> Response:
    sent, raw = await read_body(request, CreateChatCompletion)
    refuse_absent(raw)
    on = await target(request, sent.model)
    prompt = await run_in_threadpool(_render, on.replica, sent)
    limit = DEFAULT_MAX_TOKENS if sent.max_completion_tokens is None else sent.max_completion_tokens
    results = await generate(request, on, [sent.generation(prompt, limit)], sent.n, raw)
    world = platform_of(request).world
    metrics = perf_metrics(on, results)
    content: dict[str, Any] = {
        "id": f"chatcmpl-{world.ids.hex(24)}",
        "object": "chat.completion",
        "created": world.clock.now() // SECOND,
        "model": sent.model,
        "choices": [_choice(index, result, prompt, sent, world.ids.hex(12)) for index, result in enumerate(results)],
        "usage": usage(len(prompt), results),
    }
    if sent.perf_metrics_in_response:
        content["perf_metrics"] = metrics
    if not sent.stream:
        return reply(request, content, metrics)
    return stream(request, _chunks(content), sent.model, metrics)


def _render(replica: Replica, sent: CreateChatCompletion) -> list[int]:
    try:
        return replica.render_chat(sent.messages, sent.tools)
    except BackendError as error:
        raise InvalidArgument(error.message) from error


def _choice(
    index: int, result: Generation, prompt: Sequence[int], sent: CreateChatCompletion, call_id: str
) -> dict[str, Any]:
    message, finish_reason = _message(result, call_id)
    body: dict[str, Any] = {"index": index, "message": message, "finish_reason": finish_reason, "logprobs": None}
    if sent.logprobs:
        body["logprobs"] = {"content": [row(token) for token in result.tokens]}
    if sent.raw_output:
        body["raw_output"] = {
            "completion_token_ids": [token.token_id for token in result.tokens],
            "prompt_token_ids": list(prompt),
            "completion": result.text,
            "prompt_fragments": [],
        }
    return body


def _message(result: Generation, call_id: str) -> tuple[dict[str, Any], str]:
    """The assistant's message: thought and tool calls taken out of the text."""
    text = result.text
    message: dict[str, Any] = {"role": "assistant"}
    if thought := _THOUGHT.match(text):
        text = text[thought.end() :]
        if thought[1].strip():
            message["reasoning_content"] = thought[1].strip()
    calls = [call for found in _CALL.findall(text) if (call := _call(found)) is not None]
    message["content"] = _CALL.sub("", text).strip() or None if calls else text
    if not calls:
        return message, result.finish_reason
    message["tool_calls"] = [
        {"id": f"call_{call_id}{at}", "index": at, "type": "function", "function": call}
        for at, call in enumerate(calls)
    ]
    return message, "tool_calls"


def _call(text: str) -> dict[str, str] | None:
    """Name and arguments of a tool call, None when the model did not write one."""
    try:
        call = json.loads(text)
    except ValueError:
        return None
    if not isinstance(call.get("name"), str):
        return None
    return {"name": call["name"], "arguments": json.dumps(call.get("arguments", {}))}


def _chunks(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The role, the message, and a last chunk with the finish reason and the counts."""
    opening = {key: content[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    role: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    last: list[dict[str, Any]] = []
    for choice in content["choices"]:
        delta = {key: value for key, value in choice["message"].items() if key != "role"}
        rest = {key: value for key, value in choice.items() if key not in ("index", "message", "finish_reason")}
        role.append({"index": choice["index"], "delta": {"role": "assistant", "content": ""}, "finish_reason": None})
        said.append({"index": choice["index"], "delta": delta, "finish_reason": None})
        last.append({"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"], **rest})
    end: dict[str, Any] = {key: content[key] for key in ("usage", "perf_metrics") if key in content}
    return [{**opening, "choices": role}, {**opening, "choices": said}, {**opening, "choices": last, **end}]


for _prefix in ("/inference", ""):
    router.add_route(f"{_prefix}/v1/chat/completions", create, methods=["POST"])
