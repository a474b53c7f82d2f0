"""A seeded request waits for its siblings only where somebody might send one."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from emulator import Emulator
from emulator.http.inference import live

BASE = "accounts/fireworks/models/qwen3-8b"
LONG_S = 0.4


def ask(client: httpx.Client, **more: Any) -> str:
    body = {"model": BASE, "prompt": [5, 6, 7], "max_tokens": 1, "seed": 3, "temperature": 1.0, **more}
    answer = client.post("/inference/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def seconds(client: httpx.Client, **more: Any) -> float:
    started = time.perf_counter()
    ask(client, **more)
    return time.perf_counter() - started


def test_only_whoever_is_alone_and_known_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SIBLINGS_S", LONG_S)
    with Emulator() as emu:
        settings: dict[str, Any] = {"base_url": emu.url, "headers": {"X-Api-Key": emu.api_key}, "timeout": 20}
        with httpx.Client(**settings) as one, httpx.Client(**settings) as other:
            assert seconds(one) >= LONG_S  # more connections of a client that has just come may follow
            assert seconds(one) < LONG_S
            other.get("/v1/accounts")
            assert seconds(one) < LONG_S  # it asks for other things
            assert seconds(other) >= LONG_S
            assert seconds(one) >= LONG_S
            assert seconds(one, temperature=0) < LONG_S


def test_siblings_of_a_client_that_asked_alone_before_still_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection is kept from before, the others are made as the siblings are sent."""
    monkeypatch.setattr(live, "SIBLINGS_S", LONG_S)
    with Emulator() as emu:
        with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}, timeout=20) as client:
            first = [ask(client, max_tokens=8, n=1) for _ in range(2)]
            with ThreadPoolExecutor(4) as pool:
                together = list(pool.map(lambda _: ask(client, max_tokens=8), range(4)))
        assert first[0] == first[1]
        assert first[0] in together
        assert len(set(together)) > 1
