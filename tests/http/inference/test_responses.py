"""OpenAI's Responses are answered by the sampler of chat completions: the same text, whole and streamed, with tools."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator import Emulator
from emulator.backend import BackendError
from tests.doubles import DictBackend
from tests.http.inference.conftest import BASE

PATH = "/inference/v1/responses"
_WHAT = {"type": "object", "properties": {"what": {"enum": ["sun", "moon"]}}, "required": ["what"]}
TOOL = {
    "type": "function",
    "name": "look_up",
    "description": "Looks something up.",
    "parameters": {**_WHAT, "additionalProperties": False},
}
QUESTION = "Who keeps the pink coin?"
ASKED: dict[str, Any] = {"model": BASE, "max_output_tokens": 30, "temperature": 0.0, "input": QUESTION}
SAID = {"reasoning": "reasoning_text", "message": "output_text"}


def events(http: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The data of a stream's events, whose names and numbers are right."""
    with http.stream("POST", PATH, json={**body, "stream": True}) as answer:
        assert answer.status_code == 200
        lines = list(answer.iter_lines())
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [line[7:] for line in lines if line.startswith("event: ")] == [one["type"] for one in told]
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    return told


def output(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items that the deltas add up to, each told as done with the same words."""
    found: list[dict[str, Any]] = []
    for one in told:
        kind = one["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert one["output_index"] == len(found)
            assert one["item"]["status"] == "in_progress"
            found.append(one["item"])
        elif kind == "content_part.added":
            found[one["output_index"]]["content"].append(one["part"])
        elif kind in ("output_text.delta", "reasoning_text.delta"):
            found[one["output_index"]]["content"][one["content_index"]]["text"] += one["delta"]
        elif kind in ("output_text.done", "reasoning_text.done"):
            assert found[one["output_index"]]["content"][0]["text"] == one["text"]
        elif kind == "function_call_arguments.delta":
            found[one["output_index"]]["arguments"] += one["delta"]
        elif kind == "output_item.done":
            found[one["output_index"]]["status"] = one["item"]["status"]
            assert found[one["output_index"]] == one["item"]
    return found


def plain(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items without their names, which are new in each response."""
    return [{key: value for key, value in one.items() if key not in ("id", "call_id")} for one in items]


def test_a_response_is_what_a_chat_completion_says(http: httpx.Client) -> None:
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": QUESTION}]
    asked = {"model": BASE, "messages": turns, "max_tokens": 30, "temperature": 0.0}
    chat = http.post("/inference/v1/chat/completions", json=asked).json()
    found = http.post(PATH, json={**ASKED, "instructions": "Be short.", "metadata": {"run": "a"}}).json()
    said = chat["choices"][0]["message"]
    texts = {one["type"]: one["content"][0]["text"] for one in found["output"]}
    assert texts.get("message", "") == (said["content"] or "")
    assert texts.get("reasoning") == said.get("reasoning_content")
    cut = chat["choices"][0]["finish_reason"] == "length"
    assert found["status"] == ("incomplete" if cut else "completed")
    assert found["incomplete_details"] == ({"reason": "max_output_tokens"} if cut else None)
    assert found["output"][-1]["status"] == found["status"]
    assert {name: value for name, value in found["usage"].items() if not name.endswith("details")} == {
        "input_tokens": chat["usage"]["prompt_tokens"],
        "output_tokens": chat["usage"]["completion_tokens"],
        "total_tokens": chat["usage"]["total_tokens"],
    }
    assert (found["object"], found["instructions"], found["metadata"]) == ("response", "Be short.", {"run": "a"})
    assert found["store"] is False


@pytest.mark.parametrize("most", [3, 200])
def test_a_stream_adds_up_to_the_whole(http: httpx.Client, most: int) -> None:
    body = {**ASKED, "max_output_tokens": most}
    whole = http.post(PATH, json=body).json()
    told = events(http, body)
    assert [one["type"] for one in told[:2]] == ["response.created", "response.in_progress"]
    assert told[-1]["type"] == f"response.{whole['status']}"
    assert told[0]["response"]["output"] == []
    last = told[-1]["response"]
    assert output(told) == last["output"]
    assert plain(last["output"]) == plain(whole["output"])
    assert {**last, "id": "", "output": [], "created_at": 0} == {**whole, "id": "", "output": [], "created_at": 0}
    assert whole["status"] == ("incomplete" if whole["usage"]["output_tokens"] == most else "completed")


def test_items_are_the_messages_of_a_chat(http: httpx.Client) -> None:
    given = [
        {"role": "developer", "content": [{"type": "input_text", "text": "Be short."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]},
        {"role": "user", "content": QUESTION},
    ]
    turns = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": QUESTION},
    ]
    asked = {"model": BASE, "messages": turns, "max_tokens": 1}
    chat = http.post("/inference/v1/chat/completions", json=asked).json()
    found = http.post(PATH, json={**ASKED, "input": given}).json()
    assert found["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]


def test_a_tool_is_called_and_its_result_goes_back(http: httpx.Client) -> None:
    body = {**ASKED, "max_output_tokens": 200, "tools": [TOOL]}
    body["tool_choice"] = {"type": "function", "name": "look_up"}
    whole = http.post(PATH, json=body).json()
    call = whole["output"][-1]
    assert (whole["status"], call["type"], call["name"]) == ("completed", "function_call", "look_up")
    assert json.loads(call["arguments"])["what"] in ("sun", "moon")
    told = events(http, body)
    assert plain(output(told)) == plain(whole["output"])
    assert "response.function_call_arguments.done" in [one["type"] for one in told]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "It is far."}
    turns = [{"role": "user", "content": QUESTION}, *whole["output"], result]
    after = http.post(PATH, json={**body, "input": turns, "tool_choice": "auto"})
    assert after.status_code == 200, after.text
    function = {"name": call["name"], "arguments": call["arguments"]}
    made = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "id": "a", "function": function}]}
    for thought in (one for one in whole["output"] if one["type"] == "reasoning"):
        made["reasoning_content"] = thought["content"][0]["text"]
    chat: dict[str, Any] = {
        "model": BASE,
        "max_tokens": 1,
        "messages": [turns[0], made, {"role": "tool", "tool_call_id": "a", "content": "It is far."}],
        "tools": [{"type": "function", "function": {name: TOOL[name] for name in TOOL if name != "type"}}],
    }
    same = http.post("/inference/v1/chat/completions", json=chat).json()
    assert after.json()["usage"]["input_tokens"] == same["usage"]["prompt_tokens"]


def test_a_format_acts(http: httpx.Client) -> None:
    wanted = {"type": "json_schema", "name": "answer", "schema": {**_WHAT, "additionalProperties": False}}
    body = {**ASKED, "max_output_tokens": 200, "text": {"format": wanted}}
    found = http.post(PATH, json=body).json()
    (said,) = [one["content"][0]["text"] for one in found["output"] if one["type"] == "message"]
    assert json.loads(said)["what"] in ("sun", "moon")
    assert found["text"]["format"] == wanted


def test_a_stream_that_breaks_off_says_that_it_failed(tmp_path: Path) -> None:
    def gone(at: int) -> None:
        if at == 2:
            raise BackendError("the accelerator is gone", "server")

    backend = DictBackend(tmp_path / "base")
    backend.before_token = gone
    with (
        Emulator(backend) as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}) as http,
    ):
        told = events(http, ASKED)
    failed = told[-1]
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"] == {"code": "server_error", "message": "the accelerator is gone"}
    assert output(told) == failed["response"]["output"]


def test_a_field_that_nothing_reads_is_named_and_nothing_is_kept(http: httpx.Client) -> None:
    answer = http.post(PATH, json={**ASKED, "sead": 1})
    assert answer.headers["fireworks-debug-unread-fields"] == "sead"
    kept = http.get(f"{PATH}/{answer.json()['id']}")
    assert (kept.status_code, "no response is kept" in kept.text) == (501, True)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"input": []}, "input is empty"),
        ({"input": 5}, "input"),
        ({"input": [{"role": "tool", "content": "a"}]}, "use one of user, assistant, system, developer"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "send an image as image_url"),
        ({"input": [{"role": "user", "content": 5}]}, "give a text, or a list of parts"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "send the item itself"),
        ({"input": [{"type": "web_search_call"}]}, "'web_search_call' is not read here"),
        ({"tools": [{"type": "web_search"}]}, "declare a function of yours"),
        ({"tool_choice": {"type": "allowed_tools"}}, "name a function"),
        (
            {"input": [{"type": "function_call_output", "call_id": "a", "output": "b"}]},
            "no call before has the call_id 'a'",
        ),
        ({"tool_choice": "some"}, "tool_choice is 'some'"),
        ({"text": {"format": {"type": "grammar"}}}, "use text, json_object, json_schema"),
        ({"previous_response_id": "resp_1"}, "no response is kept: send the turns before as input"),
        ({"store": True}, "store is not supported"),
        ({"background": True}, "background is not supported"),
        ({"include": ["message.output_text.logprobs"]}, "include is not supported"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"model": "accounts/fireworks/models/none"}, "not found"),
    ],
)
def test_what_is_not_emulated_is_refused_by_name(http: httpx.Client, more: dict[str, Any], said: str) -> None:
    answer = http.post(PATH, json={**ASKED, **more})
    assert (answer.status_code, said in answer.text) == (400, True), answer.text


def test_a_store_that_is_not_wanted_is_no_matter(http: httpx.Client) -> None:
    assert http.post(PATH, json={**ASKED, "store": False, "truncation": "auto"}).status_code == 200
