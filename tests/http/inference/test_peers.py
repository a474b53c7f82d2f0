"""Requests as published client libraries send them, by plain HTTP: docs/clients.md names the libraries."""

import json
from typing import Any

import httpx
import pytest

from tests.http.inference.conftest import BASE

CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS = (
    f"/inference/v1/{path}" for path in ("chat/completions", "completions", "responses", "messages", "embeddings")
)
USER: Any = [{"role": "user", "content": "Who keeps the pink coin?"}]
CITY = {"title": "W", "type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
"""As pydantic writes the schema of a model: nothing is said of further properties."""


def asked(http: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = http.post(path, json={"model": BASE, **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_forced_call_by_a_schema_that_allows_more_is_whole(http: httpx.Client, temperature: float) -> None:
    for choice in ("any", "required", {"type": "function", "function": {"name": "W"}}):
        tool = {"type": "function", "function": {"name": "W", "description": "Where", "parameters": CITY}}
        sent = {"messages": USER, "max_tokens": 100, "tools": [tool], "tool_choice": choice}
        (said,) = asked(http, CHAT, temperature=temperature, **sent)["choices"]
        (call,) = said["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]).keys() == {"city"}
        assert said["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json_object", "schema": CITY},
        {"type": "json_schema", "json_schema": {"name": "W", "strict": True, "schema": CITY}},
    ],
)
def test_an_answer_by_a_schema_that_allows_more_is_whole(http: httpx.Client, wanted: dict[str, Any]) -> None:
    for seed in range(4):
        sent = {"messages": USER, "max_tokens": 100, "seed": seed, "response_format": wanted}
        (said,) = asked(http, CHAT, **sent)["choices"]
        assert json.loads(said["message"]["content"]) in ({"city": "Oslo"}, {"city": "Rome"})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "a b " * 40_000}]}),
        (CHAT, {"messages": [{"role": "user", "content": "a b " * 4_000_000}]}),
        (COMPLETIONS, {"prompt": [1] * 100_000, "max_tokens": 1}),
        (COMPLETIONS, {"prompt": "a b " * 4_000_000, "max_tokens": 1}),
        (RESPONSES, {"input": "a b " * 40_000}),
        (RESPONSES, {"input": "a b " * 40_000, "truncation": "auto"}),
        (MESSAGES, {"messages": [{"role": "user", "content": "a b " * 40_000}], "max_tokens": 1}),
        (EMBEDDINGS, {"input": [1] * 100_000}),
    ],
)
def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_look_for(
    http: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    answer = http.post(path, json={"model": BASE, **body})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("The prompt is too long: ")


def test_prompts_are_scored_together_as_they_are_alone(http: httpx.Client) -> None:
    prompts = [[54, 368, 1925, 82, 259, 437], [1081, 3, 803]]
    scoring = {"max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True, "seed": 1234}
    together = asked(http, COMPLETIONS, prompt=prompts, **scoring)["choices"]
    for index, prompt in enumerate(prompts):
        (alone,) = asked(http, COMPLETIONS, prompt=[prompt], **scoring)["choices"]
        rows = together[index]["logprobs"]
        assert together[index]["index"] == index
        assert rows["tokens"] == alone["logprobs"]["tokens"]
        assert rows["token_logprobs"] == pytest.approx(alone["logprobs"]["token_logprobs"], abs=1e-5)
        assert len(rows["tokens"]) == len(prompt) + 1, "the last is drawn, and left out of the score"
        likeliest = [max(top.values()) for top in rows["top_logprobs"]]
        assert all(own <= best + 1e-6 for own, best in zip(rows["token_logprobs"], likeliest, strict=True))


def test_thoughts_may_be_asked_for_to_be_sent_back(http: httpx.Client) -> None:
    sent = {"input": USER, "max_output_tokens": 8, "store": False, "include": ["reasoning.encrypted_content"]}
    asked(http, RESPONSES, **sent)
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    turns = [*USER, {**thought, "encrypted_content": None}, {"role": "assistant", "content": "Ida."}, *USER]
    asked(http, RESPONSES, **{**sent, "input": turns})
    asked(http, RESPONSES, **{**sent, "include": [], "truncation": "auto"})
    refused = http.post(RESPONSES, json={"model": BASE, **sent, "include": ["message.output_text.logprobs"]})
    assert refused.status_code == 400
    assert "chat completions tell log-probabilities" in refused.text


def test_thoughts_of_earlier_turns_are_given_to_the_template_or_kept_from_it(http: httpx.Client) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "W", "arguments": '{"city": "Oslo"}'}}
    tool = {"type": "function", "function": {"name": "W", "parameters": CITY}}
    turns = [
        {"role": "assistant", "content": "Ida.", "reasoning_content": "An old thought."},
        *USER,
        {"role": "assistant", "content": "<think>\nA new thought.\n</think>\n\n", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Ida."},
    ]
    sent = {"messages": [*USER, *turns], "tools": [tool], "max_tokens": 1, "return_token_ids": True}
    thoughtless = [{key: one[key] for key in one if key != "reasoning_content"} for one in [*USER, *turns]]
    thoughtless[3] = {**thoughtless[3], "content": ""}
    plain = asked(http, CHAT, **sent)["prompt_token_ids"]
    assert asked(http, CHAT, **sent, reasoning_history="interleaved")["prompt_token_ids"] == plain
    without = asked(http, CHAT, **sent, reasoning_history="disabled")["prompt_token_ids"]
    assert without == asked(http, CHAT, **{**sent, "messages": thoughtless})["prompt_token_ids"] != plain
    refused = http.post(CHAT, json={"model": BASE, **sent, "reasoning_history": "preserved"})
    assert "the template decides which of the thoughts" in refused.json()["message"]


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/chat/completions", CHAT),
        ("/inference/v1/v1/chat/completions", CHAT),
        ("/inference/chat/completions", CHAT),
        ("/completions", COMPLETIONS),
        ("/v1/responses", RESPONSES),
        ("/v1/embeddings", EMBEDDINGS),
    ],
)
def test_a_client_with_a_wrong_base_url_is_told_where_its_endpoint_is(
    http: httpx.Client, path: str, right: str
) -> None:
    answer = http.post(path, json={})
    assert answer.status_code == 404
    assert answer.json()["message"].startswith(f"no such path: POST {path}; this is at {right}: ")
    assert http.get(path).json()["message"] == f"no such path: GET {path}"
    assert http.post(f"/v1/nothing{path}").json()["message"] == f"no such path: POST /v1/nothing{path}"


@pytest.mark.parametrize("depth", [150, 450])
def test_a_body_that_is_nested_too_deeply_is_a_wrong_request(http: httpx.Client, depth: int) -> None:
    schema = '{"type": "object", "properties": {"a": ' * depth + "{}" + "}}" * depth
    body = (
        f'{{"model": "{BASE}", "messages": {json.dumps(USER)}, "response_format": {{"type": "json_object", "schema": '
    )
    answer = http.post(CHAT, content=f"{body}{schema}}}}}", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["message"]) == (400, "the request body is nested too deeply to be read")
