"""/inference/v1/messages: Anthropic's API over the model's own chat template."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from emulator.core.errors import InvalidArgument
from emulator.http import schemas
from emulator.http.bodies import Ignored, Refusal, Refused, SnakeBody, read_body
from emulator.http.declare import Endpoints
from emulator.http.inference import pictures
from emulator.http.inference.adapters import Event, Writer, answered, chat_choice, chat_tool, format_as_sent
from emulator.http.inference.chat import DEFAULT_MAX_TOKENS
from emulator.http.inference.requests import EVENTS, tell_unread
from emulator.http.web import platform_of

router = Endpoints()
MESSAGE = schemas.obj(
    {"id": schemas.STRING, "type": {"const": "message"}, "content": schemas.each(schemas.EMPTY)},
    {"model": schemas.STRING, "stop_reason": schemas.STRING, "usage": schemas.EMPTY},
)
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_READ: Mapping[str, Sequence[str]] = {
    "message": ("role", "content"),
    "text": ("text",),
    "thinking": ("thinking",),
    "tool_use": ("id", "name", "input"),
    "tool_result": ("tool_use_id", "content"),
    "tool": ("name", "description", "input_schema"),
    "tool_choice": ("name",),
    "image": ("source",),
}
_HARMLESS = ("type", "cache_control", "citations", "signature", "caller", "eager_input_streaming")
_CHOICES: Mapping[str, Any] = {"auto": "auto", "any": "required", "none": "none"}


class OutputConfig(SnakeBody):
    """The answer that is wanted: its effort and its format."""

    effort: str | None = None
    format: dict[str, Any] | None = None


class CreateMessage(SnakeBody):
    """The body."""

    model: str = ""
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int = Field(DEFAULT_MAX_TOKENS, ge=1)
    system: str | list[dict[str, Any]] = ""
    stop_sequences: list[str] = Field(default_factory=list)
    stream: bool = False
    temperature: float = Field(1.0, ge=0.0, le=1.0)
    top_p: float = Field(1.0, ge=0.0, le=1.0)
    top_k: int = Field(0, ge=0)
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: dict[str, Any] = Field(default_factory=dict)
    thinking: dict[str, Any] = Field(default_factory=dict)
    output_config: OutputConfig = Field(default_factory=OutputConfig)

    ignored: ClassVar[Ignored] = {
        **dict.fromkeys(
            ("metadata", "service_tier", "speed", "inference_geo", "user_profile_id"),
            "there is one kind of service, and nobody is told apart",
        ),
        "cache_control": "what is computed once is kept by itself",
    }
    refused: ClassVar[Refused] = {
        "diagnostics": Refusal("no message is kept that this one could be compared with"),
        "raw_output": Refusal("chat completions tell it"),
        "mcp_servers": Refusal("tools are called by the program"),
        "container": Refusal("there are no containers here"),
    }


async def create(request: Request) -> Response:
    """Answer messages in Anthropic's form, whole or as a stream."""
    sent, _ = await read_body(request, CreateMessage)
    asked, wanted, begun = await chat_of(request, sent)
    name = f"msg_{platform_of(request).world.ids.hex(24)}"
    return await answered(
        request, asked, lambda said: _whole(name, said), lambda: _Events(name, sent.model), wanted, begun
    )


async def chat_of(request: Request, sent: CreateMessage) -> tuple[dict[str, Any], Mapping[str, Any] | None, str]:
    """The chat that answers, its response_format, and the answer so far; raises InvalidArgument."""
    turns = _messages(sent)
    tell_unread(request, sent, _unread(sent))
    begun = _begun(turns)
    asked = {
        "model": sent.model,
        "messages": turns,
        "max_tokens": sent.max_tokens,
        "stop": sent.stop_sequences,
        "stream": sent.stream,
        "temperature": sent.temperature,
        "top_p": sent.top_p,
        "top_k": sent.top_k,
        "tools": [_tool(one) for one in sent.tools],
        "tool_choice": _choice(sent.tool_choice),
    }
    if sent.output_config.effort is not None:
        asked["reasoning_effort"] = sent.output_config.effort
    if (kind := _thinking(sent.thinking)) != "adaptive":  # which is what a template does by itself
        asked["thinking"] = {"type": kind}
    wanted = _format(await format_as_sent(request, "output_config")) if sent.output_config.format is not None else None
    if wanted and begun:
        raise InvalidArgument("output_config.format and an answer that is begun: send one of them")
    return asked, wanted, begun


def _thinking(given: Mapping[str, Any]) -> str:
    kind = given.get("type", "adaptive")
    if kind not in ("enabled", "disabled", "adaptive"):
        raise InvalidArgument(f"thinking.type is {str(kind)[:40]!r}: use enabled, disabled or adaptive")
    if (shown := given.get("display")) not in (None, "summarized"):
        raise InvalidArgument(f"thinking.display is {str(shown)[:40]!r}: a thought is told as it is, leave it out")
    return str(kind)


def _format(given: Any) -> Mapping[str, Any] | None:
    """The response_format of a chat; raises InvalidArgument."""
    if given is None:
        return None
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind != "json_schema":
        raise InvalidArgument(f"output_config.format.type is {str(kind)[:40]!r}: use json_schema")
    return {"type": kind, "json_schema": given}


def _begun(turns: list[dict[str, Any]]) -> str:
    """Take what an assistant's last turn says, which the answer goes on from; raises InvalidArgument for more."""
    if turns[-1]["role"] != "assistant":
        return ""
    last = turns.pop()
    if set(last) != {"role", "content"} or not turns:
        raise InvalidArgument(
            "the last message is the assistant's: an answer goes on from text alone, behind a message of the user's; "
            "send the results of its tools"
        )
    return str(last["content"])


def _messages(sent: CreateMessage) -> list[dict[str, Any]]:
    """The conversation as a chat has it; raises InvalidArgument."""
    system = sent.system if isinstance(sent.system, str) else "\n".join(_text(one, "system") for one in sent.system)
    found = [{"role": "system", "content": system}] if system else []
    for at, message in enumerate(sent.messages):
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant"):
            raise InvalidArgument(f"messages[{at}].role is {str(role)[:40]!r}: use user or assistant")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(blocks, list) or not blocks or not all(isinstance(one, dict) for one in blocks):
            raise InvalidArgument(f"messages[{at}].content: give a text, or a list of blocks")
        turn = _turn(role, blocks, f"messages[{at}].content")
        _check_results(turn, found)
        found += turn
    return found


def _check_results(turn: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> None:
    """Raises InvalidArgument for the result of a tool that was not called right before."""
    called = [call["id"] for call in before[-1].get("tool_calls", ())] if before else []
    for one in turn:
        if one["role"] == "tool" and one["tool_call_id"] not in called:
            raise InvalidArgument(
                f"a tool_result is for {str(one['tool_call_id'])[:40]!r}, which the message before does not call"
            )


def _turn(role: str, blocks: Sequence[Mapping[str, Any]], where: str) -> list[dict[str, Any]]:
    """A turn: results of tools first, each a message of its own, then what is said."""
    told: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    thoughts, calls = [], []
    for block in blocks:
        match block.get("type"):
            case "tool_result" if role == "user":
                named = {"tool_call_id": block.get("tool_use_id"), "content": _result(block, where)}
                told.append({"role": "tool", **named})
            case "tool_use" if role == "assistant":
                function = {"name": block.get("name"), "arguments": json.dumps(block.get("input") or {})}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
            case "thinking" if role == "assistant":
                thoughts.append(str(block.get("thinking", "")))
            case "image" if role == "user":
                parts.append(pictures.of_source(block.get("source"), where))
            case _:
                parts.append({"type": "text", "text": _text(block, where)})
    if parts or calls or thoughts:
        seen = any(part["type"] == pictures.PART for part in parts)
        said: dict[str, Any] = {"role": role, "content": parts if seen else "".join(part["text"] for part in parts)}
        said |= {"tool_calls": calls} if calls else {}
        said |= {"reasoning_content": "".join(thoughts)} if thoughts else {}
        told.append(said)
    return told


def _result(block: Mapping[str, Any], where: str) -> str:
    content = block.get("content") or ""
    parts = content if isinstance(content, list) else [content]
    return content if isinstance(content, str) else "".join(_text(one, where) for one in parts)


def _unread(sent: CreateMessage) -> Iterator[str]:
    """Names of fields within messages and tools that say something and that nothing reads."""
    said = [block for one in sent.messages if isinstance(one["content"], list) for block in one["content"]]
    parts = [part for block in said if isinstance(block.get("content"), list) for part in block["content"]]
    system = sent.system if isinstance(sent.system, list) else []
    for kind, one in (
        *(("message", message) for message in sent.messages),
        *((str(block["type"]), block) for block in (*said, *parts, *system)),
        *(("tool", tool) for tool in sent.tools),
        ("tool_choice", sent.tool_choice),
    ):
        yield from (name for name, value in one.items() if value and name not in (*_READ.get(kind, one), *_HARMLESS))


def _text(block: Any, where: str) -> str:
    kind = block.get("type") if isinstance(block, Mapping) else block
    if kind != "text" or not isinstance(block.get("text"), str):
        raise InvalidArgument(f"{where}: a block of type {str(kind)[:40]!r} is not read here: send text")
    return str(block["text"])


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if (kind := tool.get("type", "custom")) != "custom":
        raise InvalidArgument(f"tools: {str(kind)[:40]!r} runs on the vendor's side: declare a tool of yours")
    return chat_tool(tool, tool.get("input_schema"))


def _choice(choice: Mapping[str, Any]) -> Any:
    kind = choice.get("type", "auto")
    if kind == "tool":
        return chat_choice(choice.get("name"))
    if not isinstance(kind, str) or kind not in _CHOICES:
        raise InvalidArgument(f"tool_choice.type is {str(kind)[:40]!r}: use auto, any, tool or none")
    return _CHOICES[kind]


def _whole(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    (choice,) = said["choices"]
    message = choice["message"]
    blocks: list[dict[str, Any]] = []
    if thought := message.get("reasoning_content"):
        blocks.append({"type": "thinking", "thinking": thought, "signature": ""})
    if message.get("content"):
        blocks.append({"type": "text", "text": message["content"]})
    for call in message.get("tool_calls", ()):
        blocks.append({**_use(call), "input": json.loads(call["function"]["arguments"])})
    return {
        **_head(name, said["model"]),
        "content": blocks,
        **_ended(choice["finish_reason"], choice["stop_sequence"]),
        "usage": _usage(said["usage"]),
    }


def _ended(reason: str, stop: str) -> dict[str, Any]:
    """Say why a message ended; one that calls tools asks for their results, whatever stopped it behind them."""
    if stop and reason == "stop":
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    return {"stop_reason": _REASONS[reason], "stop_sequence": None}


def _use(call: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": {}}


def _head(name: str, model: str) -> dict[str, Any]:
    return {"id": name, "type": "message", "role": "assistant", "model": model}


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The counters as Anthropic's API has them: input that was read from a cache is not counted a second time."""
    told: dict[str, Any] = {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"thinking_tokens": usage["completion_tokens_details"]["reasoning_tokens"]},
    }
    if (details := usage.get("prompt_tokens_details")) is not None:
        told["cache_read_input_tokens"] = details["cached_tokens"]
        told["input_tokens"] -= details["cached_tokens"]
    return told


class _Events(Writer):
    """Writes content blocks as they grow: a thought, a text, then a block for each call."""

    def __init__(self, name: str, model: str) -> None:
        self._head = _head(name, model)
        self._at = -1
        self._kind = ""

    def opening(self, prompt: int) -> Sequence[Event]:
        counted = {"input_tokens": prompt, "output_tokens": 0}  # what of it a cache had is told at the end
        ended = {"stop_reason": None, "stop_sequence": None}
        message = {**self._head, "content": [], **ended, "usage": counted}
        return [("message_start", {"type": "message_start", "message": message})]

    def delta(self, delta: Mapping[str, Any]) -> Sequence[Event]:
        events: list[Event] = []
        if thought := delta.get("reasoning_content"):
            events += self._grow("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            events.append(self._piece({"type": "thinking_delta", "thinking": thought}))
        if text := delta.get("content"):
            events += self._grow("text", {"type": "text", "text": ""})
            events.append(self._piece({"type": "text_delta", "text": text}))
        for call in delta.get("tool_calls", ()):
            events += self._grow(call["id"], _use(call))
            events.append(self._piece({"type": "input_json_delta", "partial_json": call["function"]["arguments"]}))
        return events

    def closing(self, reason: str, usage: Mapping[str, Any], stop: str) -> Sequence[Event]:
        ended = _ended(reason, stop)
        return [
            *self._close(),
            ("message_delta", {"type": "message_delta", "delta": ended, "usage": _usage(usage)}),
            ("message_stop", {"type": "message_stop"}),
        ]

    def _grow(self, kind: str, block: Mapping[str, Any]) -> list[Event]:
        """Begin a block unless it is the one that is open."""
        if kind == self._kind:
            return []
        events = self._close()
        self._kind, self._at = kind, self._at + 1
        start = {"type": "content_block_start", "index": self._at, "content_block": block}
        return [*events, ("content_block_start", start)]

    def _piece(self, delta: Mapping[str, Any]) -> Event:
        return "content_block_delta", {"type": "content_block_delta", "index": self._at, "delta": delta}

    def _close(self) -> list[Event]:
        if not self._kind:
            return []
        self._kind = ""
        return [("content_block_stop", {"type": "content_block_stop", "index": self._at})]


for _operation in ("messages", "messages_bare"):
    router.serve(_operation, answer=MESSAGE, body=CreateMessage, media=EVENTS)(create)
