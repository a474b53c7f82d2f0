"""The clients of OpenAI and of Anthropic from PyPI: what they send is answered in the types that they declare."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter, ValidationError

from emulator import Emulator
from tests.http.inference.conftest import BASE, Deploy

WHAT = {"type": "object", "properties": {"what": {"enum": ["sun", "moon"]}}, "required": ["what"]}
SCHEMA: dict[str, Any] = {**WHAT, "additionalProperties": False}
FUNCTION: dict[str, Any] = {"name": "look_up", "description": "Looks something up.", "parameters": SCHEMA}
TOOL: Any = {"name": "look_up", "description": "Looks something up.", "input_schema": SCHEMA}
USER: Any = [{"role": "user", "content": "Who keeps the pink coin?"}]
ASKED: dict[str, Any] = {"model": BASE, "messages": USER, "max_tokens": 20, "extra_body": {"temperature": 0}}
CHAT, RESPONSES, MESSAGES = (f"/inference/v1/{path}" for path in ("chat/completions", "responses", "messages"))


@pytest.fixture
def claude(emulator: Emulator) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key=emulator.api_key, base_url=f"{emulator.url}/inference", max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(emulator: Emulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=emulator.api_key, base_url=f"{emulator.url}/inference/v1", max_retries=0) as client:
        yield client


def events(http: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with http.stream("POST", path, json={**body, "stream": True}) as answer:
        lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize(
    ("path", "whole", "piece", "more"),
    [
        (CHAT, ChatCompletion, ChatCompletionChunk, {}),
        (CHAT, ChatCompletion, ChatCompletionChunk, {"n": 2, "logprobs": True, "top_logprobs": 2, "stop": ["How"]}),
        (
            CHAT,
            ChatCompletion,
            ChatCompletionChunk,
            {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required", "max_tokens": 150},
        ),
        (RESPONSES, Response, ResponseStreamEvent, {}),
        (RESPONSES, Response, ResponseStreamEvent, {"max_output_tokens": 1}),
        (
            RESPONSES,
            Response,
            ResponseStreamEvent,
            {"tools": [{"type": "function", **FUNCTION}], "tool_choice": "required", "max_output_tokens": 150},
        ),
        (MESSAGES, Message, RawMessageStreamEvent, {"stop_sequences": ["How"]}),
        (
            MESSAGES,
            Message,
            RawMessageStreamEvent,
            {"tools": [TOOL], "tool_choice": {"type": "any"}, "max_tokens": 150},
        ),
    ],
)
def test_answers_and_events_are_of_the_clients_own_types(
    http: httpx.Client, path: str, whole: Any, piece: Any, more: dict[str, Any]
) -> None:
    asked = {"input": USER, "max_output_tokens": 20} if path == RESPONSES else {"messages": USER, "max_tokens": 20}
    body = {"model": BASE, "temperature": 0.0, **asked, **more}
    for kind, found in ((whole, [http.post(path, json=body).json()]), (piece, events(http, path, body))):
        assert found
        for one in found:
            usage = (one.get("response") or one).get("usage") or {}
            if "input_tokens_details" in usage:  # what is written to a cache is not known, and not made up
                assert usage["input_tokens_details"].keys() == {"cached_tokens"}
                usage["input_tokens_details"]["cache_write_tokens"] = 0
            TypeAdapter(kind).validate_python(one, strict=True)
            with pytest.raises(ValidationError):
                TypeAdapter(kind).validate_python({**one, "object": "", "type": ""}, strict=True)


def test_vectors_are_of_the_clients_type(http: httpx.Client) -> None:
    found = http.post("/inference/v1/embeddings", json={"model": BASE, "input": ["a coin", "a ring"]}).json()
    TypeAdapter(CreateEmbeddingResponse).validate_python(found, strict=True)


def test_a_stop_sequence_is_named(claude: anthropic.Anthropic) -> None:
    whole = claude.messages.create(**ASKED)
    (block,) = whole.content
    assert block.type == "text"
    first, second = block.text.split()[1:3]
    assert (whole.stop_reason, whole.stop_sequence) == ("end_turn", None)
    asked = {**ASKED, "stop_sequences": [second, first]}
    cut = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        grown = stream.get_final_message()
    for one in (cut, grown):
        assert (one.stop_reason, one.stop_sequence) == ("stop_sequence", first)
        assert [piece.text for piece in one.content if piece.type == "text"] == [block.text.partition(first)[0]]
        assert one.usage.output_tokens < whole.usage.output_tokens


def test_of_two_that_overlap_the_first_and_shortest_ended_it(claude: anthropic.Anthropic) -> None:
    (block,) = claude.messages.create(**ASKED).content
    assert block.type == "text"
    inner, outer, first = block.text[4:8], block.text[2:9], block.text[2:5]
    for given in ([inner, outer, first], [first, outer, inner]):
        told = claude.messages.create(**{**ASKED, "stop_sequences": given})
        assert (told.stop_sequence, [one.to_dict()["text"] for one in told.content]) == (first, [block.text[:2]])


def test_a_tool_goes_there_and_back(claude: anthropic.Anthropic) -> None:
    asked = {**ASKED, "max_tokens": 200, "system": [{"type": "text", "text": "Be short."}], "tools": [TOOL]}
    with claude.messages.stream(**asked, tool_choice={"type": "tool", "name": "look_up"}) as stream:
        kinds = [event.type for event in stream]
        told = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    (use,) = [block for block in told.content if block.type == "tool_use"]
    assert (told.stop_reason, use.name, use.input["what"] in ("sun", "moon")) == ("tool_use", "look_up", True)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "It is far."}
    turns = [*USER, told.to_param(), {"role": "user", "content": [result]}]
    after = claude.messages.create(**{**asked, "messages": turns})
    assert after.usage.input_tokens > told.usage.input_tokens > 0


class Answer(BaseModel):
    what: str


def test_an_answer_goes_on_from_what_is_begun_and_has_the_format_that_is_asked_for(
    claude: anthropic.Anthropic, http: httpx.Client
) -> None:
    chat: dict[str, Any] = {"model": BASE, "max_tokens": 1, "temperature": 0, "messages": USER}
    prompt = http.post(CHAT, json={**chat, "return_token_ids": True}).json()["prompt_token_ids"]
    (block,) = claude.messages.create(**ASKED).content
    assert block.type == "text"
    half = block.text[: len(block.text) // 2].rpartition(" ")[0]
    assert half
    begun = claude.messages.create(**{**ASKED, "messages": [*USER, {"role": "assistant", "content": half}]})
    assert half + "".join(one.text for one in begun.content if one.type == "text") == block.text
    assert len(prompt) < begun.usage.input_tokens < len(prompt) + len(half)
    asked = {**ASKED, "max_tokens": 200}
    parsed = claude.messages.parse(**asked, output_format=Answer)
    assert isinstance(parsed.parsed_output, Answer)
    with pytest.raises(anthropic.BadRequestError, match="an answer that is begun: send one of them"):
        claude.messages.parse(
            **{**asked, "messages": [*USER, {"role": "assistant", "content": "{"}]}, output_format=Answer
        )


def test_tokens_are_counted_without_an_answer(
    claude: anthropic.Anthropic, gpt: openai.OpenAI, emulator: Emulator
) -> None:
    for more in ({}, {"system": "Be short."}, {"tools": [TOOL]}, {"thinking": {"type": "disabled"}}):
        asked: dict[str, Any] = {"model": BASE, "messages": [*USER, {"role": "assistant", "content": "It"}], **more}
        counted = claude.messages.count_tokens(**asked).input_tokens
        assert counted == claude.messages.create(**asked, max_tokens=1).usage.input_tokens
    answered = sum(row.requests for row in emulator.platform.usages.rows(emulator.account))
    assert answered == 4
    tools: Any = [{"type": "function", **FUNCTION}]
    given: dict[str, Any] = {"model": BASE, "input": USER, "instructions": "Be short.", "tools": tools}
    response = gpt.responses.create(**given, max_output_tokens=1)
    assert response.usage is not None
    assert gpt.responses.input_tokens.count(**given).input_tokens == response.usage.input_tokens


def test_thinking_is_left_to_the_template_or_told(claude: anthropic.Anthropic) -> None:
    left = claude.messages.create(**ASKED, thinking={"type": "adaptive"})
    assert left.usage.input_tokens == claude.messages.create(**ASKED).usage.input_tokens
    quiet = claude.messages.create(**ASKED, thinking={"type": "disabled"})
    assert quiet.usage.input_tokens > left.usage.input_tokens  # the template writes a thought that is over


def test_tokens_of_a_thought_are_counted(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"model": BASE, "messages": USER, "max_tokens": 40, "logprobs": True}
    for seed in range(60):
        chat = gpt.chat.completions.create(**asked, seed=seed)
        (choice,) = chat.choices
        assert chat.usage is not None
        assert chat.usage.completion_tokens_details is not None
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        counted = chat.usage.completion_tokens_details.reasoning_tokens
        tokens = [row.token for row in choice.logprobs.content]
        if "</think>" not in tokens:
            continue
        assert counted == tokens.index("</think>") + 1
        chunks = list(gpt.chat.completions.create(**asked, seed=seed, stream=True))
        assert chunks[-1].usage == chat.usage
        break
    else:
        pytest.fail("no answer has a thought")
    opened = [*USER, {"role": "assistant", "content": "<think>\n"}]
    told = claude.messages.create(**{**ASKED, "max_tokens": 3, "messages": opened})
    assert [block.type for block in told.content] == ["thinking"]
    assert told.usage.output_tokens_details is not None
    assert told.usage.output_tokens_details.thinking_tokens == told.usage.output_tokens == 3


def test_tokens_that_a_cache_had_are_told(
    emulator: Emulator, deploy: Deploy, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    model = deploy()
    emulator.quirks.set("hotload.prefix_cache", "kept")

    def begun(session: str) -> tuple[Any, Any]:
        """The turns so far of a session, whose first answer is given, and what asks for the next."""
        more: Any = {"extra_headers": {"x-session-affinity": session}, "extra_body": {"temperature": 0}}
        chat = gpt.chat.completions.create(model=model, messages=USER, max_tokens=20, **more)
        assert chat.usage is not None
        assert chat.usage.prompt_tokens_details is not None
        assert chat.usage.prompt_tokens_details.cached_tokens == 0
        said = {"role": "assistant", "content": chat.choices[0].message.content}
        return [*USER, said, {"role": "user", "content": "And the ring?"}], more

    turns, more = begun("one")
    chat = gpt.chat.completions.create(model=model, messages=turns, max_tokens=2, **more)
    assert chat.usage is not None
    assert chat.usage.prompt_tokens_details is not None
    whole, cached = chat.usage.prompt_tokens, chat.usage.prompt_tokens_details.cached_tokens or 0
    assert whole / 2 < cached < whole
    turns, more = begun("two")
    response = gpt.responses.create(model=model, input=turns, max_output_tokens=2, **more)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.input_tokens_details.cached_tokens) == (whole, cached)
    turns, more = begun("three")
    told = claude.messages.create(model=model, messages=turns, max_tokens=2, **more).usage
    assert (told.input_tokens, told.cache_read_input_tokens) == (whole - cached, cached)


@pytest.mark.parametrize(
    ("more", "raised", "kind"),
    [
        ({"max_tokens": 0}, "BadRequestError", "invalid_request_error"),
        ({"model": "accounts/fireworks/models/none"}, "BadRequestError", "invalid_request_error"),
        ({"key": "another"}, "AuthenticationError", "authentication_error"),
        ({"model": "accounts/other/deployments/d1"}, "PermissionDeniedError", "permission_error"),
        ({"fault": 404}, "NotFoundError", "not_found_error"),
        ({"fault": 429}, "RateLimitError", "rate_limit_error"),
        ({"fault": 503}, "", ""),
    ],
)
def test_errors_are_those_of_each_client(emulator: Emulator, more: dict[str, Any], raised: str, kind: str) -> None:
    settings = {"api_key": more.pop("key", emulator.api_key), "max_retries": 0}
    claude = anthropic.Anthropic(base_url=f"{emulator.url}/inference", **settings)
    gpt = openai.OpenAI(base_url=f"{emulator.url}/inference/v1", **settings)
    calls: list[tuple[Any, Callable[..., Any], str, str]] = [
        (anthropic, claude.messages.create, "ServiceUnavailableError", "api_error"),
        (openai, gpt.chat.completions.create, "InternalServerError", "server_error"),
    ]
    fault = more.pop("fault", None)
    for library, create, other, other_kind in calls:
        if fault is not None:
            emulator.quirks.set("http.fail", fault, times=1)
        asked = {**ASKED, **more}
        if library is openai and "max_tokens" in more:
            asked["max_tokens"] = -1
        with pytest.raises(getattr(library, raised or other)) as error:
            create(**asked)
        assert error.value.type == (kind or other_kind)
        assert error.value.body["message" if library is openai else "error"]
        assert len(str(error.value)) > 30
