"""Fetching results: again, late, concurrently, and on a bad day (WIRE 2.6, FAILURES F14-F16; WIRE 9, item 17)."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fireworks.training.sdk.client import FiretitanTrainingClient

from emulator.http.gateway import routes
from emulator.server import Emulator
from tests.doubles import DictBackend
from tests.http.gateway.conftest import Wire, batch, datum
from tests.sdk import RetryableException, types

Connect = Callable[..., FiretitanTrainingClient]
ADAM = types.AdamParams(learning_rate=0.1)


def test_a_result_can_be_fetched_again_and_by_many_at_once(wire: Wire, emu: Emulator) -> None:
    emu.quirks.set("optim.slow_s", 0.3)
    request_id = wire.submit("optim_step", 1)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(wire.result, [request_id] * 20))
    assert answers == [wire.result(request_id)] * 20
    assert "metrics" in answers[0]


def test_a_pending_future_is_held_then_asks_to_try_again(
    wire: Wire, emu: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "HOLD_S", 0.2)
    emu.quirks.set("optim.slow_s", 0.5)
    request_id = wire.submit("optim_step", 1)
    began, polls = time.perf_counter(), 0
    while "metrics" not in (answer := wire.result(request_id)):
        assert answer == {"type": "try_again", "request_id": request_id, "queue_state": "active"}
        polls += 1
    assert polls <= (time.perf_counter() - began) / 0.2


def test_the_client_polls_once_per_hold(connect: Connect, emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "HOLD_S", 0.2)
    client = connect()
    emu.quirks.set("optim.slow_s", 0.7)
    emu.journal.clear()
    client.optim_step(ADAM).result()
    assert 3 <= len(emu.journal.of("retrieve_future")) <= 5


def test_results_expire(wire: Wire, emu: Emulator) -> None:
    emu.quirks.set("futures.ttl_s", 60.0)
    request_id = wire.submit("optim_step", 1)
    wire.result(request_id)
    emu.clock.advance(61)
    for _ in range(2):
        answer = wire.send("retrieve_future", {"request_id": request_id})
        assert answer.status_code == 410
    assert wire.send("retrieve_future", {"request_id": "req-never"}).status_code == 404


def test_an_expired_promise_reaches_the_user_as_retryable(connect: Connect, emu: Emulator) -> None:
    client = connect()
    emu.quirks.set("futures.expire_next", True, endpoint="optim_step", times=1)
    with pytest.raises(RetryableException):
        client.optim_step(ADAM).result()
    client.optim_step(ADAM).result()


@pytest.mark.parametrize(
    "answer",
    ["try_again", "paused_capacity", "paused_rate_limit", "complete_metadata", "empty_400", "400", "408", "500", "503"],
)
def test_the_client_survives_every_answer_it_knows(connect: Connect, emu: Emulator, answer: str) -> None:
    client = connect()
    emu.quirks.set("futures.answer", answer, times=1, endpoint="forward_backward")
    assert client.forward_backward([datum(1)], "cross_entropy").result().metrics["loss:sum"] > 0


@pytest.mark.parametrize("answer", ["404", "refuse_metadata"])
def test_some_answers_are_fatal(connect: Connect, emu: Emulator, answer: str) -> None:
    client = connect()
    emu.quirks.set("futures.answer", answer)
    with pytest.raises(ValueError, match=answer if answer.isdigit() else "allow_metadata_only"):
        client.optim_step(ADAM).result()


def test_an_operation_that_is_never_answered(wire: Wire, emu: Emulator, backend: DictBackend) -> None:
    with emu.quirks.set("futures.never_resolve", True, endpoint="optim_step"):
        stuck = wire.submit("optim_step", 1)
    assert "error" not in wire.run("forward", 2, forward_input=batch(1))
    assert not emu.platform.futures.get("accounts/local/rlorTrainerJobs/j1", stuck).done
    assert not any(call.startswith("optim_step") for call in backend.calls)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_reply_does_not_apply_a_step_twice(
    connect: Connect, emu: Emulator, backend: DictBackend, when: str
) -> None:
    client = connect()
    emu.quirks.set("http.lose_reply", when, times=1, endpoint="optim_step")
    client.forward_backward([datum(1)], "cross_entropy").result()
    client.optim_step(ADAM).result()
    assert len(emu.journal.of("optim_step")) == 2
    assert [call.split()[0] for call in backend.calls].count("optim_step") == 1


def test_without_dedupe_a_lost_reply_applies_a_step_twice(
    connect: Connect, emu: Emulator, backend: DictBackend
) -> None:
    client = connect()
    emu.quirks.set("rpc.dedupe", False)
    emu.quirks.set("http.lose_reply", "after", times=1, endpoint="optim_step")
    client.optim_step(ADAM).result()
    assert [call.split()[0] for call in backend.calls].count("optim_step") == 2


def test_an_injected_status_is_retried_by_the_client(connect: Connect, emu: Emulator) -> None:
    client = connect()
    emu.quirks.set("http.fail", 503, times=1, endpoint="optim_step", job="j1")
    client.optim_step(ADAM).result()
    assert [exchange.status for exchange in emu.journal.of("optim_step")] == [503, 200]


def test_a_slow_endpoint_is_slow(wire: Wire, emu: Emulator) -> None:
    emu.quirks.set("http.delay_s", 0.2, times=1, endpoint="telemetry")
    wire.post("telemetry", {})
    assert emu.journal.of("telemetry")[-1].seconds >= 0.2


def test_whoever_waits_is_told_of_a_reset(wire: Wire, emu: Emulator) -> None:
    emu.quirks.set("optim.slow_s", 30.0)
    request_id = wire.submit("optim_step", 1)
    threading.Timer(0.2, emu.reset).start()
    assert wire.result(request_id)["error"] == "the emulator was reset"


def test_old_results_make_room_for_new_ones(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emulator.platform.trainers.futures.KEEP_COUNT", 3)
    ids = [wire.submit("optim_step", seq) for seq in range(1, 8)]
    assert "metrics" in wire.result(ids[-1])
    assert wire.send("retrieve_future", {"request_id": ids[0]}).status_code == 410


def test_another_jobs_promise_is_not_handed_out(wire: Wire, http: httpx.Client, new_job: Callable[..., object]) -> None:
    new_job("j2")
    other = Wire(http, "j2")
    request_id = wire.submit("optim_step", 1)
    assert other.send("retrieve_future", {"request_id": request_id}).status_code == 404
