"""Completions through the SDK's samplers and on the wire (WIRE 3.1, 3.2, 9.12)."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fireworks import Fireworks
from fireworks.training.sdk import DeploymentManager, DeploymentSampler
from fireworks.types.shared.log_probs import LogProbs
from fireworks.types.shared.new_log_probs import NewLogProbs

from emulator import Emulator
from tests.http.inference.conftest import BASE, Deploy

PROMPT = [300, 301, 302]
PATHS = ("/inference/v1/completions", "/v1/completions")


def complete(http: httpx.Client, path: str = PATHS[0], **body: Any) -> dict[str, Any]:
    answer = http.post(path, json={"model": BASE, "prompt": PROMPT, "max_tokens": 5, **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def events(http: httpx.Client, path: str = PATHS[0], **body: Any) -> list[str]:
    answer = http.post(path, json={"model": BASE, "prompt": PROMPT, "max_tokens": 5, "stream": True, **body})
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]


def sample(emulator: Emulator, model: str, *calls: dict[str, Any]) -> list[list[Any]]:
    """Collect what the SDK's sampler returns for each call, one after the other."""

    async def run() -> list[list[Any]]:
        client = DeploymentSampler(inference_url=emulator.url, model=model, api_key=emulator.api_key)
        done = [await client.sample_with_prompt_tokens(PROMPT, logprobs=True, **call) for call in calls]
        client.close()
        await asyncio.sleep(0.01)  # its connections close in a task
        return done

    return asyncio.run(run())


def test_the_sampler_gets_ids_and_both_logprobs(emulator: Emulator, deploy: Deploy) -> None:
    four = {"n": 4, "max_tokens": 8, "temperature": 1.3, "seed": 3}
    done, again, (alone,) = sample(emulator, deploy(), four, four, {**four, "n": 1})
    assert len({tuple(one.full_tokens) for one in done}) == 4
    for one in done:
        assert one.full_tokens[:3] == PROMPT
        assert len(one.inference_logprobs) == len(one.sampling_logprobs) == one.completion_len
        assert one.inference_logprobs != one.sampling_logprobs
        assert one.finish_reason in ("length", "stop")
    assert sorted(one.full_tokens for one in again) == sorted(one.full_tokens for one in done)
    assert alone.full_tokens in [one.full_tokens for one in done]


def test_echo_gives_the_sampler_a_logprob_for_every_prompt_token_but_the_first(
    emulator: Emulator, deploy: Deploy
) -> None:
    echo = {"max_tokens": 1, "echo": True}
    (whole,), (last,) = sample(emulator, deploy(), echo, {**echo, "echo_last": 1})
    assert whole.logprobs_echoed
    assert whole.echoed_prompt_logprob_count == 2
    assert len(whole.inference_logprobs) == 3
    assert last.inference_logprobs[0] == pytest.approx(whole.inference_logprobs[1], abs=1e-5)


def test_greedy_is_the_same_every_time_and_its_sampling_logprob_is_zero(http: httpx.Client) -> None:
    first, second = (complete(http, temperature=0, logprobs=True, raw_output=True)["choices"][0] for _ in range(2))
    assert first == second
    assert {row["sampling_logprob"] for row in first["logprobs"]["content"]} == {0.0}


def test_a_stream_is_whole_and_ends_with_done(http: httpx.Client) -> None:
    lines = events(http, logprobs=True, raw_output=True, perf_metrics_in_response=True, ignore_eos=True)
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    last = chunks[-1]
    (choice,) = last["choices"]
    ids = choice["raw_output"]["completion_token_ids"]
    rows = [row for chunk in chunks for row in (chunk["choices"][0]["logprobs"] or {}).get("content", ())]
    assert [row["token_id"] for row in rows] == ids
    assert len(ids) == 5
    assert choice["raw_output"]["prompt_token_ids"] == PROMPT
    assert choice["finish_reason"] == "length"
    counted = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert last["usage"] == {**counted, "prompt_tokens_details": {"cached_tokens": 0}}
    assert float(last["perf_metrics"]["server-processing-time"]) > float(last["perf_metrics"]["prefill-duration"]) > 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prompt", ["Nora said", [300, 301]])
def test_text_and_tokens_are_prompts_on_both_paths(http: httpx.Client, path: str, prompt: object) -> None:
    (choice,) = complete(http, path, prompt=prompt, temperature=0)["choices"]
    assert isinstance(choice["text"], str)
    assert choice["prompt_token_ids"]


def test_several_prompts_and_choices_come_in_order(http: httpx.Client) -> None:
    body = complete(http, prompt=[[300, 301], [302]], n=2, seed=1)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert [choice["prompt_token_ids"] for choice in body["choices"]] == [[300, 301]] * 2 + [[302]] * 2
    assert len({choice["text"] for choice in body["choices"]}) > 2


def test_the_request_id_comes_back(http: httpx.Client) -> None:
    answer = http.post(PATHS[0], json={"model": BASE, "prompt": PROMPT}, headers={"x-request-id": "abc"})
    assert answer.headers["x-request-id"] == "abc"
    assert float(answer.headers["fireworks-server-processing-time"]) > 0


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"include_routing_matrix": True}, 400, "include_routing_matrix"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": [99999]}, 400, "outside"),
        ({"prompt": [1.5]}, 400, "'prompt': input should be a valid string; or input should be a valid integer"),
        ({"prompt": [5, True]}, 400, "'prompt': input should be a valid string"),
        ({"prompt": [[5], [6.0]]}, 400, "'prompt': input should be a valid string"),
        ({"logprobs": 25}, 400, "'logprobs': input should be a valid boolean"),
        ({"logprobs": 25}, 400, "or input should be less than or equal to 20"),
        ({"temperature": -1}, 400, "temperature"),
        ({"top_p": 1.1}, 400, "top_p"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, 400, "max_completion_tokens"),
        ({"max_tokens": 10**6, "context_length_exceeded_behavior": "error"}, 400, "context length"),
        ({"context_length_exceeded_behavior": "guess"}, 400, "context_length_exceeded_behavior"),
        ({"frequency_penalty": 2.5}, 400, "frequency_penalty"),
        ({"mirostat_target": 1.5}, 400, "mirostat_target"),
        ({"response_format": {"type": "grammar", "grammar": "root ::= x"}}, 400, "of type 'grammar' is not supported"),
        ({"response_format": {"type": "json_schema"}}, 400, "must be a JSON schema"),
        ({"response_format": {"type": "json_object", "schema": {"not": {}}}}, 400, "cannot be followed exactly"),
        ({"logit_bias": {"5": 500}}, 400, "logit_bias"),
        ({"logit_bias": {"99999": 1}}, 400, "logit_bias names token ids outside"),
        ({"tool_choice": "required"}, 400, "tool_choice"),
        ({"n": 0}, 400, "'n'"),
        ({"model": "nonsense"}, 400, "unknown model"),
        ({"model": "accounts/local/deployments/nope"}, 400, "not found"),
        ({"model": "accounts/other/deployments/d"}, 403, "another account"),
        ({"model": "accounts/fireworks/models/qwen3-embedding-8b"}, 400, "embedding"),
    ],
)
def test_bad_requests_say_what_is_wrong(http: httpx.Client, body: dict[str, Any], status: int, says: str) -> None:
    answer = http.post(PATHS[0], json={"model": BASE, "prompt": PROMPT, **body})
    assert answer.status_code == status
    assert says.lower() in answer.json()["message"].lower()


@pytest.mark.parametrize("form", ["{d}", "{m}#{d}", "{m}"])
def test_models_are_named_by_deployment_by_both_or_alone(
    emulator: Emulator, http: httpx.Client, deploy: Deploy, form: str
) -> None:
    name = form.format(m=BASE, d=deploy())
    assert complete(http, model=name, temperature=0)["model"] == name


def test_a_deployment_does_not_answer_for_a_model_that_it_does_not_serve(http: httpx.Client, deploy: Deploy) -> None:
    model = f"accounts/fireworks/models/qwen3-8b#{deploy()}"
    answer = http.post(PATHS[0], json={"model": model, "prompt": PROMPT})
    assert (answer.status_code, f"serves {BASE}, not accounts" in answer.text) == (400, True)


def test_a_deployment_scaled_to_zero_says_so(
    emulator: Emulator, manager: DeploymentManager, http: httpx.Client, deploy: Deploy
) -> None:
    model = deploy()
    manager.scale_to_zero("d1")
    answer = http.post(PATHS[0], json={"model": model, "prompt": PROMPT})
    assert (answer.status_code, "DEPLOYMENT_SCALING_UP" in answer.text) == (503, True)
    assert manager.hotload_check_status("d1", BASE)["replicas"] == []


def test_a_cut_stream_is_asked_for_again_by_the_sampler(
    emulator: Emulator, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = deploy()
    emulator.quirks.set("inference.truncate_stream", True, times=1, deployment="d1")
    with httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}) as client:
        cut = client.post(PATHS[0], json={"model": model, "prompt": PROMPT, "stream": True, "raw_output": True}).text
        whole = client.post(PATHS[0], json={"model": model, "prompt": PROMPT, "stream": True, "raw_output": True}).text
    assert "[DONE]" not in cut
    assert "raw_output" not in cut
    assert whole.endswith("[DONE]\n\n")


@pytest.mark.parametrize(("answer", "status"), [("425", 425), ("404", 404), ("serve", 200)])
def test_a_completion_during_a_load_gets_what_the_switch_says(
    emulator: Emulator, manager: DeploymentManager, http: httpx.Client, deploy: Deploy, answer: str, status: int
) -> None:
    model = deploy()
    emulator.quirks.set("hotload.duration_s", 60.0)
    emulator.quirks.set("inference.during_load", answer)
    manager.hotload("d1", BASE, "whatever")
    assert http.post(PATHS[0], json={"model": model, "prompt": PROMPT}).status_code == status
    emulator.clock.advance(61)
    assert http.post(PATHS[0], json={"model": model, "prompt": PROMPT}).status_code == 200


CHAT = [{"role": "user", "content": "What is the opposite of hot?"}]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"content": "x"}, "messages.1.role is 'None': use one of system, developer, user, assistant, tool"),
        ({"role": "king", "content": "x"}, "messages.1.role is 'king'"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "an image"),
        ({"role": "user", "content": ["x"]}, "part of type 'None'"),
    ],
)
def test_a_message_that_the_template_would_leave_out_is_refused(
    http: httpx.Client, message: dict[str, Any], says: str
) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, message]
    answer = http.post(
        PATHS[0].replace("/completions", "/chat/completions"), json={"model": BASE, "messages": messages}
    )
    assert (answer.status_code, says in answer.json()["message"]) == (400, True)


def test_what_nothing_reads_is_named_in_a_header_and_in_the_journal(http: httpx.Client, emulator: Emulator) -> None:
    path, body = (
        PATHS[0].replace("/completions", "/chat/completions"),
        {"model": BASE, "messages": CHAT, "max_tokens": 1},
    )
    answer = http.post(path, json={**body, "temprature": 0, "user": "ann", "messages": [{**CHAT[0], "wieght": 1}]})
    assert answer.headers["fireworks-debug-unread-fields"] == "temprature, wieght"
    assert list(emulator.journal)[-1].unread == "temprature, wieght"
    assert "fireworks-debug-unread-fields" not in http.post(path, json=body).headers
    with http.stream("POST", path, json={**body, "stream": True, "top_pp": 1}) as streamed:
        assert streamed.headers["fireworks-debug-unread-fields"] == "top_pp"


def test_a_history_is_read_in_every_form_and_the_template_has_its_variables(http: httpx.Client) -> None:
    path = PATHS[0].replace("/completions", "/chat/completions")
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    history = [{"role": "developer", "content": "x"}, *CHAT, call, {"role": "function", "name": "f", "content": "3"}]
    body = {"model": BASE, "messages": history, "max_tokens": 1}
    usual = http.post(path, json=body).json()["usage"]["prompt_tokens"]
    thoughtless = http.post(path, json={**body, "chat_template_kwargs": {"enable_thinking": False}}).json()
    assert thoughtless["usage"]["prompt_tokens"] > usual
    refused = http.post(path, json={**body, "chat_template_kwargs": {"chat_template": "{{ 1 }}"}})
    assert (refused.status_code, "is not a variable of a template" in refused.text) == (400, True)


@pytest.mark.parametrize("path", ["/inference/v1/chat/completions", "/v1/chat/completions"])
def test_chat_goes_through_the_template(http: httpx.Client, path: str) -> None:
    answer = http.post(path, json={"model": BASE, "messages": CHAT, "temperature": 0, "raw_output": True}).json()
    (choice,) = answer["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert "<" not in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == len(choice["raw_output"]["prompt_token_ids"])


def test_a_chat_stream_says_the_same_in_deltas(http: httpx.Client) -> None:
    body = {"messages": CHAT, "temperature": 0, "prompt": None}
    whole = http.post("/v1/chat/completions", json={"model": BASE, **body}).json()["choices"][0]
    lines = events(http, "/v1/chat/completions", **body, max_tokens=200)
    chunks = [json.loads(line)["choices"][0] for line in lines[:-1]]
    assert chunks[0]["delta"]["role"] == "assistant"
    assert "".join(chunk["delta"].get("content") or "" for chunk in chunks) == whole["message"]["content"]
    assert [chunk["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + [whole["finish_reason"]]
    assert len(chunks) > 4
    assert lines[-1] == "[DONE]"


def test_a_completion_may_hang_until_the_load_is_done(
    emulator: Emulator, manager: DeploymentManager, http: httpx.Client, deploy: Deploy
) -> None:
    model = deploy()
    emulator.quirks.set("hotload.duration_s", 60.0)
    emulator.quirks.set("inference.during_load", "hang")
    manager.hotload("d1", BASE, "whatever")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(http.post, PATHS[0], json={"model": model, "prompt": PROMPT})
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.3)
        emulator.clock.advance(61)
        assert answer.result(timeout=10).status_code == 200


def test_a_refusal_carries_the_callers_request_id_as_the_sampler_reads_it(emulator: Emulator) -> None:
    async def run() -> tuple[str, Any]:
        client = DeploymentSampler(inference_url=emulator.url, model=BASE, api_key=emulator.api_key)
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await client.sample_with_prompt_tokens_result([99_999])
        client.close()
        await asyncio.sleep(0.01)  # its connections close in a task
        return caught.value.request.headers["x-request-id"], caught.value.response.headers["x-request-id"]

    sent, returned = asyncio.run(run())
    assert sent == returned
    emulator.quirks.set("http.fail", 503, times=1)
    for key in (emulator.api_key, emulator.api_key, "none"):
        answer = httpx.post(emulator.url + PATHS[0], headers={"x-request-id": "abc", "X-Api-Key": key}, json={})
        assert (answer.is_error, answer.headers["x-request-id"]) == (True, "abc")


def test_the_likeliest_tokens_are_there_for_every_echoed_token(emulator: Emulator, deploy: Deploy) -> None:
    ((one,),) = sample(emulator, deploy(), {"max_tokens": 2, "echo": True, "top_logprobs": 3, "ignore_eos": True})
    assert [len(ids) for ids in one.inference_topk_token_ids] == [3] * 4
    assert all(best == sorted(best, reverse=True) for best in one.inference_topk_logprobs)


def test_chat_gives_token_ids_when_asked(http: httpx.Client) -> None:
    body = {"model": BASE, "messages": CHAT, "temperature": 0, "raw_output": True, "return_token_ids": True}
    whole = http.post("/v1/chat/completions", json=body).json()
    raw = whole["choices"][0]["raw_output"]
    assert whole["prompt_token_ids"] == raw["prompt_token_ids"]
    assert whole["choices"][0]["token_ids"] == raw["completion_token_ids"]
    assert (
        http.post("/v1/chat/completions", json={**body, "max_completion_tokens": 3}).json()["usage"][
            "completion_tokens"
        ]
        == 3
    )


def test_tools_that_must_not_be_called_are_not_shown(http: httpx.Client) -> None:
    tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
    counts = []
    for more in ({}, {"tools": [tool]}, {"tools": [tool], "tool_choice": "none"}):
        body = {"model": BASE, "messages": CHAT, "max_tokens": 1, **more}
        counts.append(http.post("/v1/chat/completions", json=body).json()["usage"]["prompt_tokens"])
    assert counts[0] == counts[2] < counts[1]
    refused = http.post("/v1/chat/completions", json={"model": BASE, "messages": CHAT, "tool_choice": "required"})
    assert refused.status_code == 400


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"enum": [1, 2, None]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}},
        {"type": "json_object", "schema": PERSON},
    ],
)
def test_an_answer_follows_the_schema_that_was_sent(http: httpx.Client, wanted: dict[str, Any]) -> None:
    for seed in range(3):
        more = {"response_format": wanted, "max_tokens": 60, "seed": seed, "temperature": 1.5}
        chat = http.post("/v1/chat/completions", json={"model": BASE, "messages": CHAT, **more}).json()["choices"][0]
        text = http.post(PATHS[0], json={"model": BASE, "prompt": PROMPT, **more}).json()["choices"][0]
        for said in (chat["message"]["content"], text["text"]):
            assert json.loads(said).keys() == {"name", "age"}
            assert json.loads(said)["age"] in (1, 2, None)
        assert (chat["finish_reason"], text["finish_reason"]) == ("stop", "stop")


def test_null_in_a_schema_is_a_value(http: httpx.Client) -> None:
    body = {"model": BASE, "prompt": PROMPT, "max_tokens": 20}
    wanted = {"type": "json_object", "schema": {"const": None}}
    assert http.post(PATHS[0], json={**body, "response_format": wanted}).json()["choices"][0]["text"] == "null"


def _tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters} if parameters else {"name": name}}


COUNT = _tool(
    "count",
    type="object",
    properties={"to": {"$ref": "#/$defs/Small"}},
    required=["to"],
    additionalProperties=False,
    **{"$defs": {"Small": {"type": "integer", "minimum": 1, "maximum": 9}}},
)
SAY = _tool("say", type="object", properties={"a": {"type": "boolean"}}, required=["a"], additionalProperties=False)


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"count", "say"}),
        ({"type": "function", "function": {"name": "count"}}, {"count"}),
        ({"type": "function", "name": "say"}, {"say"}),
    ],
)
def test_a_forced_call_is_a_call_of_a_tool_by_its_schema(http: httpx.Client, choice: Any, names: set[str]) -> None:
    found = set()
    for seed in range(6):
        body = {"model": BASE, "messages": CHAT, "tools": [COUNT, SAY], "tool_choice": choice, "seed": seed}
        answer = http.post("/v1/chat/completions", json={**body, "temperature": 1.5}).json()["choices"][0]
        assert answer["finish_reason"] == "tool_calls"
        (call,) = answer["message"]["tool_calls"]
        said = json.loads(call["function"]["arguments"])
        found.add(call["function"]["name"])
        assert 1 <= said["to"] <= 9 if call["function"]["name"] == "count" else type(said["a"]) is bool
    assert found <= names


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "fly"}}, "tools": [SAY]}, "the tools are say"),
        ({"tool_choice": "sometimes", "tools": [SAY]}, "tool_choice is 'sometimes'"),
        ({"tool_choice": {"type": "allowed_tools"}, "tools": [SAY]}, "send the tools that may be called"),
        ({"tool_choice": "required", "tools": [SAY], "response_format": {"type": "json_object"}}, "send one of them"),
        ({"tool_choice": "required", "tools": [_tool("x", type="array", uniqueItems=True)]}, "followed exactly"),
    ],
)
def test_a_call_that_cannot_be_forced_is_refused(http: httpx.Client, more: dict[str, Any], says: str) -> None:
    answer = http.post("/v1/chat/completions", json={"model": BASE, "messages": CHAT, **more})
    assert answer.status_code == 400
    assert says in answer.text


@pytest.mark.parametrize(
    ("path", "more", "says"),
    [
        ("/v1/chat/completions", {"modalities": ["text", "audio"]}, "models write text here"),
        ("/v1/chat/completions", {"web_search_options": {"search_context_size": "low"}}, "nothing is searched here"),
        ("/v1/chat/completions", {"top_logprobs": 3}, "send logprobs true too"),
        ("/v1/completions", {"suffix": "end"}, "nothing is put behind"),
        ("/v1/completions", {"best_of": 3}, "ask for n answers"),
    ],
)
def test_what_would_change_an_answer_unseen_is_refused(
    http: httpx.Client, path: str, more: dict[str, Any], says: str
) -> None:
    body = {"model": BASE, "messages": CHAT} if "chat" in path else {"model": BASE, "prompt": PROMPT}
    answer = http.post(path, json={**body, **more})
    assert (answer.status_code, says in answer.text) == (400, True), answer.text
    neutral: dict[str, Any] = {"modalities": ["text"], "best_of": 1}
    fine = http.post(path, json={**body, "max_tokens": 1, "sead": 1, **{k: v for k, v in neutral.items() if k in more}})
    assert (fine.status_code, fine.headers["fireworks-debug-unread-fields"]) == (200, "sead")


def test_a_stop_may_be_a_string_a_list_or_token_ids(http: httpx.Client) -> None:
    body = {"model": BASE, "prompt": PROMPT, "max_tokens": 12, "seed": 4, "ignore_eos": True, "return_token_ids": True}
    whole = http.post(PATHS[0], json=body).json()["choices"][0]
    token = whole["token_ids"][6]
    first = whole["token_ids"].index(token)
    for stop in (token, [token], [token, "never said"]):
        one = http.post(PATHS[0], json={**body, "stop": stop}).json()["choices"][0]
        assert (one["token_ids"], one["finish_reason"]) == (whole["token_ids"][: first + 1], "stop")
        assert whole["text"].startswith(one["text"])


def test_penalties_biases_and_cuts_act(http: httpx.Client) -> None:
    body = {"model": BASE, "prompt": PROMPT, "max_tokens": 8, "seed": 4, "ignore_eos": True, "return_token_ids": True}

    def drawn(**more: Any) -> list[int]:
        return list(http.post(PATHS[0], json={**body, **more}).json()["choices"][0]["token_ids"])

    assert drawn(logit_bias={"42": 200}) == [42] * 8
    assert len(set(drawn(logit_bias={"42": 25}, temperature=0))) == 1
    assert len(set(drawn(logit_bias={"42": 6}, temperature=0, repetition_penalty=2, frequency_penalty=2))) > 2
    kinds = [len(set(drawn(presence_penalty=penalty, max_tokens=80))) for penalty in (2, -2)]
    assert kinds[0] > kinds[1]
    assert drawn(min_p=1, seed=5) == drawn(temperature=0) == drawn(min_p=1, seed=6)
    assert drawn(typical_p=0.01, seed=5) == drawn(typical_p=0.01, seed=6)


def test_rows_have_the_fields_of_the_vendors_types(emulator: Emulator) -> None:
    text = "a😀b"
    with Fireworks(api_key=emulator.api_key, base_url=emulator.url, account_id=emulator.account) as client:
        asked: dict[str, Any] = {"model": BASE, "prompt": text, "max_tokens": 0, "echo": True}
        rows = client.completions.create(**asked, logprobs=True, top_logprobs=2).choices[0].logprobs
        old = client.completions.create(**asked, logprobs=2).choices[0].logprobs
        bare = client.completions.create(**asked, logprobs=0).choices[0].logprobs
        none = client.completions.create(**asked, logprobs=False).choices[0].logprobs
    assert isinstance(rows, NewLogProbs)
    assert rows.content is not None
    assert bytes(byte for row in rows.content for byte in row.bytes) == text.encode()
    assert [row.text_offset for row in rows.content] == [0, 1, 1, 1, 1, 2]
    assert [len(row.top_logprobs or ()) for row in rows.content] == [1, 2, 2, 2, 2, 2]
    assert all(isinstance(top.token, str) for row in rows.content for top in row.top_logprobs or ())
    assert isinstance(old, LogProbs)
    assert old.text_offset == [row.text_offset for row in rows.content]
    assert old.token_ids == [row.token_id for row in rows.content]
    assert old.token_logprobs == [row.logprob for row in rows.content]
    assert old.top_logprobs is not None
    assert [len(tops) for tops in old.top_logprobs] == [1, 2, 2, 2, 2, 2]
    assert (bare.token_logprobs, bare.top_logprobs) == (old.token_logprobs, None)
    assert none is None
