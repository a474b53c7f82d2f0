"""/inference/v1/chat/completions and /v1/chat/completions, through the model's own chat template (WIRE 3.1)."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, PrivateAttr
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.backend import BackendError, Generation, Replica
from emulator.core.answer_format import Format
from emulator.core.clock import SECOND
from emulator.core.errors import InvalidArgument
from emulator.http import schemas
from emulator.http.bodies import Ignored, Refusal, Refused, SnakeBody, body, read_body
from emulator.http.declare import Endpoints
from emulator.http.inference import conversation, pictures
from emulator.http.inference.events import Choice, stream
from emulator.http.inference.formats import response_format, tool_call
from emulator.http.inference.live import ChoiceFinished, TokensAdded
from emulator.http.inference.measured import perf_metrics, usage
from emulator.http.inference.message import Marks, Message, marks_of, remembered
from emulator.http.inference.requests import (
    EVENTS,
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

router = Endpoints()
DEFAULT_MAX_TOKENS = 2048


class Thinking(SnakeBody):
    """The switch that makes a model think first."""

    type: Literal["enabled", "disabled"]

    ignored: ClassVar[Ignored] = {"budget_tokens": "a thought ends where the model ends it, or at max_tokens"}


class CreateChatCompletion(Sampling):
    """The body."""

    messages: list[Any] = Field(min_length=1)
    tools: list[Any] | str = Field(default_factory=list)
    tool_choice: Any = "auto"
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    reasoning_effort: str | bool | int | None = None
    thinking: Thinking | None = None
    reasoning_history: Literal["disabled", "interleaved"] | None = None
    """The thoughts of earlier turns that the template is given, by default all: none, or those behind a question."""
    _names_stop: bool = PrivateAttr(False)
    """Whether a choice says which stop string ended it, for an API that asks."""
    _begun: str = PrivateAttr("")
    """What the answer begins with, which is told no more: Anthropic's API goes on from it."""

    ignored: ClassVar[Ignored] = {
        **Sampling.ignored,
        "parallel_tool_calls": "a model calls the tools that it calls",
        "prompt_truncate_len": "a prompt is never cut",
        "prompt": "messages are what is said",
        "verbosity": "a model says what it says",
    }
    refused: ClassVar[Refused] = {
        **Sampling.refused,
        **dict.fromkeys(("echo", "echo_last"), Refusal("a chat is not echoed")),
        "modalities": Refusal("models write text here", (["text"],)),
        "audio": Refusal("models write text here"),
        "web_search_options": Refusal("nothing is searched here"),
        "images": Refusal("images of a chat stand in its messages, as parts of type image_url"),
        "routing_matrix_format": Refusal("a chat gives routes inline", ("base64_inline",), unknown=True),
        "function_call": Refusal("tools are called, not functions", ("auto", "none")),
        "reasoning_history": Refusal(
            "the template decides which of the thoughts that it is given are shown", ("interleaved", "disabled")
        ),
        "safe_tokenization": Refusal("what the template writes is tokenised as one text"),
    }

    @property
    def variables(self) -> dict[str, Any]:
        """The template's settings about thinking; those of chat_template_kwargs win."""
        told: dict[str, Any] = {}
        if self.reasoning_effort is not None:
            told["reasoning_effort"] = self.reasoning_effort
            if self.reasoning_effort in ("none", False):
                told["enable_thinking"] = False
        if self.thinking is not None:
            told["enable_thinking"] = self.thinking.type == "enabled"
        return told | self.chat_template_kwargs


async def create(request: Request) -> Response:
    """Answer a chat through the model's own template, whole or as a stream."""
    sent, raw = await read_body(request, CreateChatCompletion)
    wanted = (await body(request)).get("response_format")  # as sent: in a schema null is a value
    return await answer(request, sent, raw, wanted)


async def answer(
    request: Request, sent: CreateChatCompletion, raw: Mapping[str, Any], wanted: Mapping[str, Any] | None
) -> Response:
    """Answer a chat that is read already, in the format `wanted`."""
    on, prompt, marks, tools, made, seen = await prompted(request, sent)
    form = response_format(wanted)
    if form is None:  # an answer in a format begins with it, and calls nothing
        marks = marks.calling(on.replica.chat_template, tools).after(on.replica.decode(prompt[-8:]))
    form = _form(sent, form, tools, on.replica.chat_template, marks, made)
    live = begin(request, on, [sent.generation(prompt, DEFAULT_MAX_TOKENS, form, images=seen)], sent, raw)
    if sent.stream:
        head = _head(request, sent.model, "chat.completion.chunk")
        writer = _ChunkWriter(sent, prompt, on.replica, [_call_id(request) for _ in range(sent.n)], marks)
        return await stream(request, on, sent, live, writer, head, len(prompt))
    results = await finished(request, live)
    metrics = perf_metrics(on, results)
    head = _head(request, sent.model, "chat.completion")
    said = [Message(_call_id(request), marks) for _ in results]
    content = {
        **head,
        "model": answered_name(request, on, sent.model),
        "choices": await run_in_threadpool(  # rows of many tokens take long to write
            lambda: [_choice(at, one, prompt, sent, on.replica, said[at]) for at, one in enumerate(results)]
        ),
        "usage": usage(
            len(prompt),
            results,
            sent.n,
            sum(_pondered(*one, on.replica) for one in zip(said, results, strict=True)),
        ),
    }
    if sent.return_token_ids:
        content["prompt_token_ids"] = prompt
    if sent.perf_metrics_in_response:
        content["perf_metrics"] = metrics
    return reply(request, content, metrics)


class Prompted(NamedTuple):
    """A chat as its model is given it: who answers, tokens and pictures, marks of its family, tools, calls so far."""

    on: Target
    prompt: list[int]
    marks: Marks
    tools: list[dict[str, Any]]
    made: int
    seen: list[bytes]


async def prompted(request: Request, sent: CreateChatCompletion) -> Prompted:
    """Find who answers a chat, and write its prompt."""
    told, seen = pictures.of_messages(sent.messages)
    messages, tools, settings = _read(sent, told)
    if sent.top_logprobs and not sent.rows:
        raise InvalidArgument("top_logprobs stand in the rows of logprobs: send logprobs true too")
    tell_unread(request, sent, conversation.unread(messages))
    on = await target(request, sent)
    marks = marks_of(on.replica.chat_template)
    shown = remembered([one.for_template(on.replica.chat_template) for one in messages], sent.reasoning_history)
    prompt = await run_in_threadpool(_render, on.replica, shown, tools, settings, seen, sent._begun, marks)
    return Prompted(on, prompt, marks, tools, sum(len(one.tool_calls) for one in messages), seen)


def _head(request: Request, model: str, kind: str) -> dict[str, Any]:
    world = platform_of(request).world
    return {
        "id": f"chatcmpl-{world.ids.hex(24)}",
        "object": kind,
        "created": world.clock.now() // SECOND,
        "model": model,
    }


def _call_id(request: Request) -> str:
    return platform_of(request).world.ids.hex(12)


def _read(
    sent: CreateChatCompletion, told: Sequence[Any]
) -> tuple[list[conversation.Message], list[dict[str, Any]], dict[str, Any]]:
    """The messages, the tools unless none may be called, and the template's variables; raises InvalidArgument."""
    try:
        messages, tools = conversation.read_messages(told), conversation.read_tools(sent.tools)
        settings = conversation.read_settings(sent.variables)
    except conversation.ConversationError as error:
        raise InvalidArgument(str(error)) from error
    return messages, [] if sent.tool_choice == "none" else tools, settings


def _form(
    sent: CreateChatCompletion,
    wanted: Format | None,
    tools: Sequence[Mapping[str, Any]],
    template: str,
    marks: Marks,
    made: int,
) -> Format | None:
    """The format that the answer must have; raises InvalidArgument. A call that is forced ends an opened thought."""
    space = "\n\n" if f"{marks.thought}\\n\\n" in template else ""
    call = tool_call(sent.tool_choice, tools, marks.calls, made, marks.thought + space if marks.opened else "")
    if wanted is not None and call is not None:
        raise InvalidArgument("response_format and a forced tool_choice are two answers: send one of them")
    return wanted or call


def _render(
    replica: Replica,
    shown: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    seen: Sequence[bytes],
    begun: str,
    marks: Marks,
) -> list[int]:
    try:
        prompt = replica.render_chat(shown, tools, settings)
        if begun and marks.after(replica.decode(prompt[-8:])).opened:
            raise InvalidArgument(
                "the model's template opens a thought, and the last message is an answer that is begun: disable "
                "thinking, or end with the user's message"
            )
        prompt = replica.render_chat(shown, tools, settings, begun) if begun else prompt
        return pictures.expanded(replica, prompt, seen)
    except BackendError as error:
        raise InvalidArgument(error.message) from error


def _choice(
    index: int,
    result: Generation,
    prompt: Sequence[int],
    sent: CreateChatCompletion,
    replica: Replica,
    message: Message,
) -> dict[str, Any]:
    message.add(result.text)
    message.end()
    said: dict[str, Any] = {
        "index": index,
        "message": message.whole(),
        "finish_reason": _reason(message, result),
        "logprobs": None,
    }
    if sent.rows:
        said["logprobs"] = Rows(replica.decode, legacy=sent.legacy, told=sent._told).of(result.tokens)
    if sent.raw_output:
        said["raw_output"] = _raw(result, prompt)
    if sent.return_token_ids:
        said["token_ids"] = [token.token_id for token in result.tokens]
    return said | _stop(sent, result)


def _stop(sent: CreateChatCompletion, result: Generation) -> dict[str, Any]:
    return {"stop_sequence": result.stopped_by} if sent._names_stop else {}


def _pondered(message: Message, result: Generation, replica: Replica) -> int:
    """Count the first tokens of a result whose text is a thought, its marks among them."""
    if not message.pondered:
        return 0
    ids = [token.token_id for token in result.tokens]
    return bisect_left(range(len(ids)), message.pondered, key=lambda count: len(replica.decode(ids[:count])))


def _reason(message: Message, result: Generation) -> str:
    return "tool_calls" if message.calls else result.finish_reason


def _raw(result: Generation, prompt: Sequence[int]) -> dict[str, Any]:
    return {
        "completion_token_ids": [token.token_id for token in result.tokens],
        "prompt_token_ids": list(prompt),
        "completion": result.text,
        "prompt_fragments": [],
    }


class _ChunkWriter:
    """Writes a chunk's choices: the role in a chunk of its own, then deltas with the rows of the tokens that came."""

    def __init__(
        self,
        sent: CreateChatCompletion,
        prompt: Sequence[int],
        replica: Replica,
        call_ids: Sequence[str],
        marks: Marks,
    ) -> None:
        self.pondered = 0
        self._sent = sent
        self._prompt = prompt
        self._replica = replica
        self._messages = [Message(call_id, marks) for call_id in call_ids]
        self._rows = [Rows(replica.decode, legacy=sent.legacy, told=sent._told) for _ in call_ids]
        self._said = [0] * len(call_ids)
        """Characters of text that each message has got."""

    def opening(self) -> list[Choice]:
        role = {"role": "assistant", "content": ""}
        ids = {"prompt_token_ids": self._prompt} if self._sent.return_token_ids else {}
        return [{"index": index, "delta": role, "finish_reason": None, **ids} for index in range(len(self._messages))]

    def added(self, news: TokensAdded) -> Choice | None:
        delta = self._messages[news.index].add(news.text)
        self._said[news.index] += len(news.text)
        said: Choice = {"index": news.index, "delta": delta, "finish_reason": None}
        if self._sent.rows:
            said["logprobs"] = self._rows[news.index].of(news.tokens)
        if self._sent.return_token_ids:
            said["token_ids"] = [token.token_id for token in news.tokens]
        return said if delta or self._sent.rows or self._sent.return_token_ids else None

    def finished(self, news: ChoiceFinished) -> Choice:
        message = self._messages[news.index]
        rest = message.add(news.result.text[self._said[news.index] :])
        for key, value in message.end().items():
            rest[key] = rest[key] + value if key in rest else value
        said: Choice = {
            "index": news.index,
            "delta": rest,
            "finish_reason": _reason(message, news.result),
            "logprobs": None,
            **_stop(self._sent, news.result),
        }
        self.pondered += _pondered(message, news.result, self._replica)
        return said | ({"raw_output": _raw(news.result, self._prompt)} if self._sent.raw_output else {})


for _operation in ("chat_completions", "chat_completions_bare"):
    router.serve(_operation, answer=schemas.COMPLETION, body=CreateChatCompletion, media=EVENTS)(create)
