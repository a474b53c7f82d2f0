"""Turns of one session go to one replica; a deployment that has enough to do refuses, and the sampler slows down."""

import asyncio
from typing import Any

import pytest
from fireworks.training.sdk import AdaptiveConcurrencyController, DeploymentManager, DeploymentSampler, sampling

from emulator import Emulator
from tests.http.inference.conftest import BASE, Deploy

PROMPT = [300, 301, 302]


@pytest.fixture
def model(deploy: Deploy) -> str:
    return deploy(min_replica_count=2, max_replica_count=2)


def hosts(emulator: Emulator, model: str, turns: int, headers: dict[str, str] | None = None, **asked: Any) -> list[str]:
    """The replicas that answer, as the SDK's sampler is told."""
    sampler = DeploymentSampler(
        inference_url=emulator.url, model=model, api_key=emulator.api_key, additional_headers=headers
    )

    async def ask() -> list[str]:
        for _ in range(turns):
            await sampler.sample_with_prompt_tokens(PROMPT, max_tokens=1, **asked)
        sampler.close()
        await asyncio.sleep(0.01)  # its connections close in a task
        return [str(metrics.backend_host) for metrics in sampler.drain_metrics()]

    return asyncio.run(ask())


@pytest.mark.parametrize("header", ["x-multi-turn-session-id", "x-session-affinity"])
def test_turns_of_a_session_go_to_one_replica(emulator: Emulator, model: str, header: str) -> None:
    by_session = {f"episode-{number}": hosts(emulator, model, 4, {header: f"episode-{number}"}) for number in range(8)}
    assert [len(set(found)) for found in by_session.values()] == [1] * 8
    assert len({found[0] for found in by_session.values()}) == 2, "sessions are spread over the replicas"


@pytest.mark.parametrize("field", ["prompt_cache_key", "user"])
def test_a_session_may_be_named_in_the_body(emulator: Emulator, model: str, field: str) -> None:
    asked: dict[str, Any] = {field: "episode-1"}
    assert len(set(hosts(emulator, model, 4, **asked))) == 1


def test_requests_without_a_session_go_round(emulator: Emulator, model: str) -> None:
    found = hosts(emulator, model, 4)
    assert found[:2] == found[2:]
    assert len(set(found)) == 2


def test_a_session_goes_on_at_another_replica_when_its_own_is_gone(
    emulator: Emulator, model: str, manager: DeploymentManager
) -> None:
    headers = [{"x-session-affinity": f"episode-{number}"} for number in range(8)]
    before = [hosts(emulator, model, 1, one) for one in headers]
    emulator.platform.deployments.scale(emulator.account, "d1", 1)
    after = [hosts(emulator, model, 1, one) for one in headers]
    (left,) = after[0]
    assert after == [[left]] * 8
    assert [left] in before


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler waits a hundredth of its backoff."""
    monkeypatch.setattr(sampling.DeploymentSampler, "_RETRY_BASE_BACKOFF_S", 0.02)


def crowd(emulator: Emulator, model: str, count: int) -> tuple[int, AdaptiveConcurrencyController]:
    """Send so many requests at once; gives how many are answered, and the controller of the sampler."""
    controller = AdaptiveConcurrencyController(initial_window=count, adjustment_interval=0, shrink_cooldown_s=0.0)
    sampler = DeploymentSampler(
        inference_url=emulator.url, model=model, api_key=emulator.api_key, concurrency_controller=controller
    )

    async def ask() -> int:
        each = (sampler.sample_with_prompt_tokens(PROMPT, max_tokens=40, ignore_eos=True) for _ in range(count))
        answers = await asyncio.gather(*each)
        sampler.close()
        await asyncio.sleep(0.01)
        return sum(len(one) for one in answers)

    return asyncio.run(ask()), controller


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("deployed", [True, False])
def test_too_many_requests_at_once_are_refused_until_the_sampler_sends_fewer(
    emulator: Emulator, deploy: Deploy, deployed: bool
) -> None:
    model = deploy() if deployed else BASE
    emulator.quirks.set("inference.capacity", 2)
    answered, controller = crowd(emulator, model, 8)
    assert answered == 8
    refused = [one for one in emulator.journal.of("completions") if one.status == 429]
    assert refused
    assert "answers 2 requests at a time" in refused[0].answer["message"]
    assert controller.window_size < 8
    emulator.quirks.clear()
    assert crowd(emulator, model, 4)[0] == 4, "who was refused holds no place"


def test_queues_are_told_of_by_deployments_alone(emulator: Emulator, deploy: Deploy) -> None:
    for model, told in ((deploy(), True), (BASE, False)):
        _, controller = crowd(emulator, model, 2)
        assert ("avg_pq" in controller.step_completed()) is told
