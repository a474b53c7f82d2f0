"""/inference/v1/responses: OpenAI's Responses API over the model's own chat template."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import SECOND
from emulator.core.errors import InvalidArgument
from emulator.http import schemas
from emulator.http.bodies import Ignored, Refusal, Refused, SnakeBody, read_body
from emulator.http.declare import Endpoints
from emulator.http.inference.adapters import answered, chat_choice, chat_tool, format_as_sent
from emulator.http.inference.items import chat_messages
from emulator.http.inference.requests import EVENTS, tell_unread
from emulator.http.inference.response_events import ResponseWriter
from emulator.http.web import platform_of

router = Endpoints()
RESPONSE = schemas.obj(
    {"id": schemas.STRING, "object": {"const": "response"}, "output": schemas.each(schemas.EMPTY)},
    {"model": schemas.STRING, "status": schemas.STRING, "usage": schemas.EMPTY, "created_at": schemas.INTEGER},
)
_KEPT = Refusal("no response is kept: send the turns before as input")
_FORMATS = ("text", "json_object", "json_schema")
_PASSED = {"max_output_tokens": "max_tokens", "user": "user", "prompt_cache_key": "prompt_cache_key"}
"""Fields that a chat has too, with their names there."""


class Reasoning(SnakeBody):
    """Settings of a thought."""

    effort: str | None = None

    ignored: ClassVar[Ignored] = dict.fromkeys(
        ("summary", "generate_summary"), "no summary is written: the thought itself stands in the output"
    )


class Text(SnakeBody):
    """The format of the answer."""

    format: dict[str, Any] = Field(default_factory=lambda: {"type": "text"})

    ignored: ClassVar[Ignored] = {"verbosity": "a model says what it says"}


class CreateResponse(SnakeBody):
    """The body."""

    model: str = ""
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0.0, le=2.0)
    top_p: float = Field(1.0, ge=0.0, le=1.0)
    stream: bool = False
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] = "auto"
    reasoning: Reasoning | None = None
    text: Text = Field(default_factory=Text)
    metadata: dict[str, Any] = Field(default_factory=dict)
    user: str | None = None
    prompt_cache_key: str | None = None

    ignored: ClassVar[Ignored] = {
        **dict.fromkeys(
            ("service_tier", "safety_identifier"), "there is one kind of service, and nobody is told apart"
        ),
        "parallel_tool_calls": "a model calls the tools that it calls",
        "max_tool_calls": "it limits tools of the vendor's, and there are none",
        "prompt_cache_retention": "what is computed once is kept by itself",
        "stream_options": "the last event always has the usage, and nothing is padded",
    }
    refused: ClassVar[Refused] = {
        "previous_response_id": _KEPT,
        "conversation": _KEPT,
        "store": _KEPT,
        "background": Refusal("nothing could fetch the response: ask for a stream"),
        "prompt": Refusal("no templates of prompts are kept: send the text as input"),
        "include": Refusal(
            "an answer has its output alone, in which thoughts are text to send back: chat completions tell "
            "log-probabilities",
            ([], ["reasoning.encrypted_content"]),
        ),
        "truncation": Refusal("an input is never cut: one that is too long is refused", ("disabled", "auto")),
        "top_logprobs": Refusal("chat completions tell them"),
        "context_management": Refusal("an input is never cut"),
    }


async def create(request: Request) -> Response:
    """Answer in the form of OpenAI's Responses, whole or as a stream; nothing is kept."""
    sent, _ = await read_body(request, CreateResponse)
    chat, wanted = await chat_of(request, sent)
    head = _head(request, sent)
    return await answered(request, chat, lambda said: _whole(head, said), lambda: ResponseWriter(head), wanted)


async def chat_of(request: Request, sent: CreateResponse) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """The chat that answers, and its response_format; raises InvalidArgument."""
    tell_unread(request, sent)
    chat: dict[str, Any] = {
        "model": sent.model,
        "messages": chat_messages(sent.instructions, sent.input),
        "stream": sent.stream,
        "temperature": sent.temperature,
        "top_p": sent.top_p,
        "tools": [_tool(one) for one in sent.tools],
        "tool_choice": _choice(sent.tool_choice),
        **{name: value for mine, name in _PASSED.items() if (value := getattr(sent, mine)) is not None},
    }
    if sent.reasoning is not None and sent.reasoning.effort is not None:
        chat["reasoning_effort"] = sent.reasoning.effort
    return chat, _format(await format_as_sent(request, "text")) if "format" in sent.text.model_fields_set else None


def _whole(head: Mapping[str, Any], said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The response that a stream of one piece ends with."""
    (choice,) = said["choices"]
    writer = ResponseWriter({**head, "model": said["model"]})
    writer.delta(choice["message"])
    writer.closing(choice["finish_reason"], said["usage"], choice["stop_sequence"])
    return writer.response


def _head(request: Request, sent: CreateResponse) -> dict[str, Any]:
    """A response before anything is said: its name, and the settings that it was asked for with."""
    world = platform_of(request).world
    return {
        "id": f"resp_{world.ids.hex(24)}",
        "object": "response",
        "created_at": world.clock.now() // SECOND,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": sent.instructions,
        "max_output_tokens": sent.max_output_tokens,
        "metadata": sent.metadata,
        "model": sent.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": sent.reasoning.effort if sent.reasoning else None, "summary": None},
        "store": False,
        "temperature": sent.temperature,
        "text": {"format": sent.text.format},
        "tool_choice": sent.tool_choice,
        "tools": sent.tools,
        "top_p": sent.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": sent.user,
    }


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if (kind := tool.get("type")) != "function":
        raise InvalidArgument(f"tools: {str(kind)[:40]!r} does not run here: declare a function of yours")
    return chat_tool(tool, tool.get("parameters"))


def _choice(choice: str | Mapping[str, Any]) -> Any:
    if isinstance(choice, str):
        return choice
    if (kind := choice.get("type")) != "function":
        raise InvalidArgument(f"tool_choice.type is {str(kind)[:40]!r}: name a function, or use auto, required or none")
    return chat_choice(choice.get("name"))


def _format(given: Any) -> Mapping[str, Any] | None:
    """The response_format of a chat; raises InvalidArgument."""
    if given is None:
        return None
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind not in _FORMATS:
        raise InvalidArgument(f"text.format.type is {str(kind)[:40]!r}: use {', '.join(_FORMATS)}")
    return {"type": kind, "json_schema": given} if kind == "json_schema" else {"type": kind}


router.serve("responses", answer=RESPONSE, body=CreateResponse, media=EVENTS)(create)
