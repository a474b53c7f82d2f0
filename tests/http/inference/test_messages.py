"""Anthropic's API is answered by the sampler of chat completions: the same text, whole and streamed, with tools."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fireworks import Fireworks

from emulator import Emulator
from tests.http.inference.conftest import BASE

PATH = "/inference/v1/messages"
_WHAT = {"type": "object", "properties": {"what": {"enum": ["sun", "moon"]}}, "required": ["what"]}
TOOL = {
    "name": "look_up",
    "description": "Looks something up.",
    "input_schema": {**_WHAT, "additionalProperties": False},
}
ASKED: dict[str, Any] = {"model": BASE, "max_tokens": 12, "temperature": 0.0}
PIECES = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
USER = [{"role": "user", "content": "Who keeps the pink coin?"}]


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Fireworks]:
    with Fireworks(api_key=emulator.api_key, base_url=emulator.url, max_retries=0) as client:
        yield client


def events(http: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    with http.stream("POST", PATH, json={**body, "stream": True}) as answer:
        assert answer.status_code == 200
        return [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]


def blocks(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content that a stream's events add up to."""
    found: list[dict[str, Any]] = []
    for one in told:
        if one["type"] == "content_block_start":
            assert one["index"] == len(found)
            found.append(dict(one["content_block"]))
        elif one["type"] == "content_block_delta":
            delta = one["delta"]
            key = PIECES[delta["type"]]
            found[one["index"]][key] = found[one["index"]].get(key, "") + delta[key]
    for block in found:
        if "partial_json" in block:
            block["input"] = json.loads(block.pop("partial_json"))
    return found


def test_a_message_is_what_a_chat_completion_says(client: Fireworks, http: httpx.Client) -> None:
    system: dict[str, Any] = {"role": "system", "content": "Be short."}
    chat = http.post("/inference/v1/chat/completions", json={**ASKED, "messages": [system, *USER]}).json()
    message = client.messages.create(messages=USER, system="Be short.", **ASKED)
    text = "".join(block.text for block in message.content if block.type == "text")
    said = chat["choices"][0]["message"]
    assert text == said["content"] or any(block.type == "thinking" for block in message.content)
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "max_tokens")
    counted: Any = message.usage
    details = chat["usage"]["completion_tokens_details"]
    assert counted == {
        "input_tokens": chat["usage"]["prompt_tokens"],
        "cache_read_input_tokens": 0,
        "output_tokens": 12,
        "output_tokens_details": {"thinking_tokens": details["reasoning_tokens"]},
    }


def test_a_stream_adds_up_to_the_whole(http: httpx.Client) -> None:
    body = {**ASKED, "messages": USER, "max_tokens": 30}
    whole = http.post(PATH, json=body).json()
    told = events(http, body)
    assert (told[0]["type"], told[-2]["type"], told[-1]["type"]) == ("message_start", "message_delta", "message_stop")
    assert blocks(told) == whole["content"]
    assert told[-2]["delta"]["stop_reason"] == whole["stop_reason"]
    assert told[-2]["usage"] == whole["usage"]


def test_a_tool_is_called_and_its_result_goes_back(http: httpx.Client) -> None:
    body = {**ASKED, "messages": USER, "max_tokens": 200, "tools": [TOOL]}
    body["tool_choice"] = {"type": "tool", "name": "look_up"}
    whole = http.post(PATH, json=body).json()
    (use,) = [one for one in whole["content"] if one["type"] == "tool_use"]
    assert (whole["stop_reason"], use["name"]) == ("tool_use", "look_up")
    assert use["input"]["what"] in ("sun", "moon")
    streamed = [one for one in blocks(events(http, body)) if one["type"] == "tool_use"]
    assert [(one["name"], one["input"]) for one in streamed] == [(use["name"], use["input"])]
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": [{"type": "text", "text": "It is far."}]}
    turns = [*USER, {"role": "assistant", "content": whole["content"]}, {"role": "user", "content": [result]}]
    after = http.post(PATH, json={**body, "messages": turns, "tool_choice": {"type": "auto"}})
    assert (after.status_code, after.json()["usage"]["input_tokens"] > whole["usage"]["input_tokens"]) == (200, True)


def test_fields_that_nothing_reads_are_named(http: httpx.Client) -> None:
    block = {"type": "text", "text": "Who?", "cache_control": {"type": "ephemeral"}, "colour": "red", "size": None}
    body = {
        **ASKED,
        "messages": [{"role": "user", "content": [block], "weight": 2}],
        "tools": [{**TOOL, "strict": True, "defer_loading": False}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "metadata": {"user_id": "a"},
        "sead": 1,
        "é\n\r": 1,
    }
    told = http.post(PATH, json=body).headers["fireworks-debug-unread-fields"]
    assert set(told.split(", ")) == {"sead", "\\xe9\\n\\r", "weight", "colour", "strict", "disable_parallel_tool_use"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "a"}]}, "use user or assistant"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "give the source of an image"),
        ({"messages": [{"role": "user", "content": 5}]}, "give a text, or a list of blocks"),
        ({"messages": [{"role": "user", "content": []}]}, "give a text, or a list of blocks"),
        ({"tool_choice": {"type": ["auto"]}}, "use auto, any, tool or none"),
        ({"tools": [{"name": "a", "input_schema": [1]}]}, "must be an object"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": 5}]}]},
            "a block of type '5' is not read here",
        ),
        (
            {"messages": [*USER, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]},
            "a tool_result is for 'a'",
        ),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "runs on the vendor's side"),
        ({"tool_choice": {"type": "some"}}, "use auto, any, tool or none"),
        ({"thinking": {"type": "between_tools"}}, "use enabled, disabled or adaptive"),
        ({"thinking": {"type": "enabled", "display": "omitted"}}, "a thought is told as it is"),
        ({"output_config": {"format": {"type": "json"}}}, "use json_schema"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "behind a message of the user's"),
        (
            {"messages": [*USER, {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b"}]}]},
            "an answer goes on from text alone",
        ),
        ({"mcp_servers": [{"url": "u"}]}, "mcp_servers is not supported"),
        ({"stop_sequences": ["a"] * 99}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"model": "accounts/fireworks/models/none"}, "not found"),
    ],
)
def test_what_is_not_emulated_is_refused_by_name(http: httpx.Client, more: dict[str, Any], said: str) -> None:
    answer = http.post(PATH, json={**ASKED, "messages": USER, **more})
    assert (answer.status_code, said in answer.text) == (400, True), answer.text
