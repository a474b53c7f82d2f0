"""Answers that leave while they are computed: events, breaks, clients that leave (WIRE 3.1)."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fireworks import Fireworks
from fireworks.training.sdk import DeploymentSampler

from emulator import Emulator
from emulator.backend import BackendError
from ftsim.inspect.events import assembled
from tests.doubles import DictBackend
from tests.http.inference.conftest import BASE

PATHS = ("/inference/v1/completions", "/inference/v1/chat/completions")
PROMPT: dict[str, dict[str, Any]] = {
    PATHS[0]: {"prompt": [1, 2]},
    PATHS[1]: {"messages": [{"role": "user", "content": "hi"}]},
}
LENGTH = 6


class Pace:
    """Lets a backend draw so many tokens of every choice; `drawn` tells how far it has got."""

    def __init__(self) -> None:
        self._allowed = 0
        self._changed = threading.Condition()
        self.drawn = 0
        self.failing_at: int | None = None

    def __call__(self, at: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: at < self._allowed, timeout=20)
            self.drawn = max(self.drawn, at + 1)
        if at == self.failing_at:
            self.failing_at = None
            raise BackendError("the accelerator is gone", "server")

    def allow(self, tokens: int = 10_000) -> None:
        with self._changed:
            self._allowed = tokens
            self._changed.notify_all()


@pytest.fixture
def pace() -> Pace:
    return Pace()


@pytest.fixture
def paced(tmp_path: Path, pace: Pace) -> Iterator[Emulator]:
    backend = DictBackend(tmp_path / "base")
    backend.before_token = pace
    with Emulator(backend) as started:
        yield started
        pace.allow()


@pytest.fixture
def slow(paced: Emulator) -> Iterator[httpx.Client]:
    """A client of the emulator that draws tokens when it is told to."""
    with httpx.Client(base_url=paced.url, headers={"X-Api-Key": paced.api_key}, timeout=20) as client:
        yield client


def events(lines: Iterator[str]) -> Iterator[Any]:
    for line in lines:
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def body(path: str, **more: Any) -> dict[str, Any]:
    return {"model": BASE, "max_tokens": LENGTH, "stream": True, "logprobs": True, "seed": 3, **PROMPT[path], **more}


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("choices", [1, 3])
def test_a_token_arrives_before_the_next_one_is_drawn(slow: httpx.Client, pace: Pace, path: str, choices: int) -> None:
    pace.allow(1)
    with slow.stream("POST", path, json=body(path, n=choices)) as answer:
        read = events(answer.iter_lines())
        for at in range(LENGTH):
            rows: set[int] = set()
            while len(rows) < choices:
                rows |= {one["index"] for one in next(read)["choices"] if one.get("logprobs")}
            assert pace.drawn == at + 1
            pace.allow(at + 2)
        last = list(read)[-1]
    assert {one["finish_reason"] for one in last["choices"]} == {"length"}
    assert last["usage"]["completion_tokens"] == LENGTH * choices


@pytest.mark.parametrize("path", PATHS)
def test_only_the_last_event_counts_and_only_the_last_of_a_choice_ends_it(
    slow: httpx.Client, pace: Pace, path: str
) -> None:
    pace.allow()
    asked = body(path, n=2, perf_metrics_in_response=True, raw_output=True)
    with slow.stream("POST", path, json=asked) as answer:
        chunks = list(events(answer.iter_lines()))
    assert ["usage" in chunk for chunk in chunks] == ["perf_metrics" in chunk for chunk in chunks]
    assert [at for at, chunk in enumerate(chunks) if "usage" in chunk] == [len(chunks) - 1]
    for index in range(2):
        mine = [one for chunk in chunks for one in chunk["choices"] if one["index"] == index]
        assert [one["finish_reason"] for one in mine] == [None] * (len(mine) - 1) + ["length"]
        assert ["raw_output" in one for one in mine] == [False] * (len(mine) - 1) + [True]
        assert len([row for one in mine for row in (one.get("logprobs") or {}).get("content", [])]) == LENGTH
    assert len({chunk["id"] for chunk in chunks}) == 1


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_leaves_ends_the_generation(paced: Emulator, slow: httpx.Client, pace: Pace, path: str) -> None:
    pace.allow(2)
    with slow.stream("POST", path, json=body(path)) as answer:
        next(events(answer.iter_lines()))
    until(lambda: next(iter(paced.journal)).ended)
    pace.allow()
    time.sleep(0.05)
    assert pace.drawn <= 3  # one was on its way
    (exchange,) = paced.journal
    assert exchange.status == 200
    assert not assembled(exchange.response)["done"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("choices", [1, 3])
@pytest.mark.parametrize(("stream", "tokens"), [(False, 2), (True, 0)])
def test_a_client_that_gives_up_waiting_ends_the_generation(
    paced: Emulator, slow: httpx.Client, pace: Pace, path: str, choices: int, stream: bool, tokens: int
) -> None:
    pace.allow(tokens)
    with pytest.raises(httpx.ReadTimeout):
        slow.post(path, json=body(path, stream=stream, n=choices), timeout=0.3)
    (exchange,) = paced.journal
    until(lambda: exchange.ended)
    assert exchange.status == 499
    pace.allow()
    time.sleep(0.05)
    assert pace.drawn <= tokens + 1
    assert slow.post(path, json=body(path, stream=False)).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_failure_in_the_middle_is_an_event_and_the_end(slow: httpx.Client, pace: Pace, path: str) -> None:
    pace.failing_at = 2
    pace.allow()
    text = slow.post(path, json=body(path)).text
    assert text.endswith("\n\n")
    named, data = text.split("\n\n")[-2].split("\n")
    assert named == "event: error"
    error = json.loads(data.removeprefix("data: "))["error"]
    assert error == {"message": "the accelerator is gone", "type": "server_error", "code": "13", "status": 500}
    assert "[DONE]" not in text
    assert len(list(events(iter(text.splitlines())))) >= 2


@pytest.mark.parametrize("path", PATHS)
def test_a_failure_before_the_first_token_fails_the_request(slow: httpx.Client, pace: Pace, path: str) -> None:
    pace.failing_at = 0
    pace.allow()
    answer = slow.post(path, json=body(path))
    assert (answer.status_code, answer.json()["message"]) == (500, "the accelerator is gone")


def sample(emulator: Emulator, model: str, **settings: Any) -> Any:
    async def run() -> Any:
        client = DeploymentSampler(inference_url=emulator.url, model=model, api_key=emulator.api_key)
        result = await client.sample_with_prompt_tokens_result([1, 2], n=1, logprobs=True, **settings)
        client.close()
        await asyncio.sleep(0.01)  # its connections close in a task
        return result

    return asyncio.run(run())


def test_the_sampler_asks_again_after_a_failure_in_the_middle(
    paced: Emulator, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeploymentSampler, "_RETRY_BASE_BACKOFF_S", 0.01)
    pace.failing_at = 2
    pace.allow()
    result = sample(paced, BASE, max_tokens=LENGTH)
    assert [attempt.outcome for attempt in result.server_attempts] == ["retryable_error", "succeeded"]
    assert result.completions[0].completion_len == LENGTH
    assert len(result.completions[0].sampling_logprobs) == LENGTH


def test_the_sampler_measures_the_first_token_and_reads_what_the_last_event_measured(emulator: Emulator) -> None:
    result = sample(emulator, BASE, max_tokens=20, ignore_eos=True)
    metrics = result.server_metrics
    assert metrics.completion_tokens == 20
    assert 0 < metrics.server_ttft < metrics.server_processing_time
    assert metrics.prompt_tokens == 2
    assert result.upstream_response_id.startswith("cmpl-")


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0, "ignore_eos": True},
        {"seed": 1, "n": 3, "temperature": 1.4, "top_logprobs": 2},
        {"seed": 2, "stop": ["e", " th"], "n": 2},
        {"seed": 3, "echo": True},
        {"seed": 3, "echo": True, "echo_last": 1, "n": 2},
        {"seed": 4, "max_tokens": 0, "echo": True},
        {"seed": 5, "return_token_ids": True},
        {"seed": 5, "logprobs": 2, "echo": True},
        {"seed": 5, "logprobs": 1, "temperature": 2.0, "n": 2},
        {"seed": 6, "prompt": [[300, 301], [302]], "n": 2, "temperature": 1.7},
    ],
)
def test_a_stream_says_what_a_whole_answer_says(http: httpx.Client, settings: dict[str, Any]) -> None:
    asked = {
        "model": BASE,
        "prompt": [300, 301, 302],
        "max_tokens": 24,
        "logprobs": True,
        "raw_output": True,
        **settings,
    }
    whole = http.post(PATHS[0], json=asked).json()
    joined = assembled(http.post(PATHS[0], json={**asked, "stream": True}).content)
    assert joined["done"]
    assert joined["usage"] == whole["usage"]
    # `n` choices of a seed are asked one after the other, so the order is fixed
    assert [joined["choices"][str(one["index"])] for one in whole["choices"]] == whole["choices"]


def test_the_vendors_client_reads_both_streams(emulator: Emulator) -> None:
    with Fireworks(api_key=emulator.api_key, base_url=emulator.url, account_id=emulator.account) as client:
        settings: dict[str, Any] = {"model": BASE, "max_tokens": 12, "temperature": 0, "stream": True}
        chunks = list(client.completions.create(prompt="Nora said", **settings))
        assert all(chunk.object == "text_completion" for chunk in chunks)
        assert "".join(chunk.choices[0].text for chunk in chunks)
        assert chunks[-1].usage is not None
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")
        said = list(client.chat.completions.create(messages=[{"role": "user", "content": "What is hot?"}], **settings))
        assert all(chunk.object == "chat.completion.chunk" for chunk in said)
        assert said[0].choices[0].delta.role == "assistant"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in said)
        assert said[-1].usage is not None


def test_a_body_is_cut_in_the_middle_of_a_stream_and_the_rest_is_not_computed(
    paced: Emulator, slow: httpx.Client, pace: Pace
) -> None:
    paced.quirks.set("http.cut_body", 400, times=1)
    pace.allow(3)
    got: list[bytes] = []
    with slow.stream("POST", PATHS[0], json=body(PATHS[0])) as answer, pytest.raises(httpx.RemoteProtocolError):
        got.extend(answer.iter_raw())
    assert sum(map(len, got)) == 400
    until(lambda: next(iter(paced.journal)).ended)
    pace.allow()
    time.sleep(0.05)
    assert pace.drawn <= 4  # one was on its way


def test_a_slow_body_takes_its_time_once_and_not_for_every_token(
    paced: Emulator, slow: httpx.Client, pace: Pace
) -> None:
    paced.quirks.set("http.slow_body_s", 0.2, times=1)
    pace.allow()
    began = time.monotonic()
    answer = slow.post(PATHS[0], json=body(PATHS[0], max_tokens=100))
    assert answer.text.endswith("data: [DONE]\n\n")
    assert 0.19 < time.monotonic() - began < 2.0


def test_a_stream_that_breaks_off_ends_before_a_choice_does(paced: Emulator, slow: httpx.Client, pace: Pace) -> None:
    paced.quirks.set("inference.truncate_stream", True, times=1)
    pace.allow()
    joined = assembled(slow.post(PATHS[0], json=body(PATHS[0], n=2, raw_output=True)).content)
    assert not joined["done"]
    assert joined["choices"]
    assert not any({"finish_reason", "raw_output"} & set(choice) for choice in joined["choices"].values())


def test_a_deployment_that_goes_away_ends_its_streams(emulator: Emulator, http: httpx.Client, deploy: Any) -> None:
    asked = {"model": deploy(), "prompt": [300], "max_tokens": 3000, "ignore_eos": True, "stream": True}
    with http.stream("POST", PATHS[0], json=asked) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert http.delete(f"/v1/accounts/{emulator.account}/deployments/d1?hard=true&ignoreChecks=true").is_success
        rest = list(lines)
    assert "event: error" in rest
    assert "data: [DONE]" not in rest
