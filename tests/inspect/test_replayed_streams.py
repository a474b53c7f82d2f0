"""Streams are recorded whole and compared by what they say, however they were cut into writes."""

# The fixtures of test_replay are used here, each by its name.
# ruff: noqa: F811

from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.core.clock import SECOND
from emulator.journal.journal import Exchange
from ftsim.inspect.events import assembled, comparable
from ftsim.inspect.replay import replay
from tests.inspect.test_replay import again, backend, emu, http, saved  # noqa: F401

PATHS = ("/inference/v1/completions", "/inference/v1/chat/completions")
ASKED: dict[str, Any] = {
    "model": "accounts/fireworks/models/qwen3-8b",
    "max_tokens": 12,
    "stream": True,
    "logprobs": True,
    "perf_metrics_in_response": True,
    "raw_output": True,
    "n": 2,
    "prompt": [1, 2],
    "messages": [{"role": "user", "content": "hi"}],
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("seed", [None, 4])
def test_a_stream_is_recorded_whole_and_answered_alike(
    emu: Any,
    http: httpx.Client,
    again: Any,
    path: str,
    seed: int | None,
) -> None:
    answer = http.post(path, json={**ASKED, "seed": seed})
    plain = http.post(path, json={**ASKED, "stream": False})
    assert plain.json()["perf_metrics"]
    exchange = next(iter(emu.journal))
    assert exchange.response == answer.content
    assert exchange.whole
    assert again().identical, again()


@pytest.mark.parametrize(("later", "alike"), [(1, True), (100, False)])
def test_a_completion_may_be_created_while_it_was_asked(
    emu: Any,
    http: httpx.Client,
    backend: Any,
    later: int,
    alike: bool,
) -> None:
    created = http.post(PATHS[0], json={**ASKED, "stream": False}).json()["created"]
    kept = saved(emu)
    (exchange,) = kept.exchanges
    stamp = b'"created":%d'
    asked = exchange.at // SECOND  # the answer may have been created in the next second already
    exchange.response = exchange.response.replace(stamp % created, stamp % (asked + later))
    assert replay(kept, backend).identical is alike


def test_another_token_is_a_difference_and_says_where(emu: Any, http: httpx.Client, backend: Any) -> None:
    http.post(PATHS[0], json=ASKED)
    kept = saved(emu)
    (exchange,) = kept.exchanges
    exchange.response = exchange.response.replace(b'"token_id":9', b'"token_id":8', 1)
    found = replay(kept, backend).differences
    assert [(one.endpoint, one.field[-9:]) for one in found] == [("completions", ".token_id")]


@pytest.mark.parametrize("quirk", ["inference.truncate_stream", "http.cut_body"])
def test_a_stream_that_broke_off_is_compared_as_far_as_it_went(
    emu: Any,
    http: httpx.Client,
    again: Any,
    quirk: str,
) -> None:
    emu.quirks.set(quirk, {"inference.truncate_stream": True, "http.cut_body": 900}[quirk], times=1)
    try:
        assert "[DONE]" not in http.post(PATHS[0], json=ASKED).text
    except httpx.RemoteProtocolError:
        assert quirk == "http.cut_body"
    assert again().identical, again()


def test_a_client_that_left_has_an_answer_that_the_whole_one_begins_with(
    emu: Any,
    http: httpx.Client,
    again: Any,
    backend: Any,
) -> None:
    http.post(PATHS[0], json=ASKED)
    kept = saved(emu)
    (exchange,) = kept.exchanges
    exchange.response = exchange.response[: len(exchange.response) // 2]
    exchange.response_size = len(exchange.response)
    assert replay(kept, backend).identical


def test_events_are_put_together_by_choice() -> None:
    raw = (
        b'data: {"id":"a","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
        b'data: {"id":"a","choices":[{"index":1,"delta":{"content":"x"},"logprobs":{"content":[1]}}]}\n\n'
        b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"y","tool_calls":[2]},"finish_reason":null}]}\n\n'
        b'data: {"id":"a","choices":[{"index":1,"delta":{"content":"z"},"logprobs":{"content":[3]},'
        b'"finish_reason":"stop"}],"usage":{}}\n\nevent: error\ndata: {"error":5}\n\n'
    )
    assert assembled(raw) == {
        "id": "a",
        "done": False,
        "usage": {},
        "error": 5,
        "choices": {
            "0": {"index": 0, "role": "assistant", "content": "y", "tool_calls": [2]},
            "1": {"index": 1, "content": "xz", "logprobs": {"content": [1, 3]}, "finish_reason": "stop"},
        },
    }
    assert assembled(raw + b"data: [DONE]\n\n")["done"]
    one, other = comparable(raw[:90], raw + b"data: [DONE]\n\n")
    assert (
        one == other == {"id": "a", "done": False, "choices": {"0": {"index": 0, "role": "assistant", "content": ""}}}
    )


def test_the_journal_shows_a_stream_as_it_was_written(emu: Any, http: httpx.Client, tmp_path: Path) -> None:
    answer = http.post(PATHS[0], json=ASKED)
    (exchange,) = (entry for entry in saved(emu).entries if isinstance(entry, Exchange))
    assert exchange.response == answer.content
    assert exchange.response_type.startswith("text/event-stream")
