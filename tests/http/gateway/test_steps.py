"""Training steps through the vendor's client (WIRE 9, items 3, 4, 6)."""

import time
from collections.abc import Callable

import pytest
from fireworks.training.sdk.client import FiretitanTrainingClient

from emulator.server import Emulator
from tests.doubles import DictBackend
from tests.http.gateway.conftest import datum
from tests.sdk import RequestFailedError, types

Connect = Callable[..., FiretitanTrainingClient]
ADAM = types.AdamParams(learning_rate=0.1)


def test_a_step_answers_with_the_loss_and_learns(connect: Connect) -> None:
    client = connect()
    losses = []
    for _ in range(5):
        done = client.forward_backward([datum(1, 1, 2)], "cross_entropy").result()
        client.optim_step(ADAM, grad_accumulation_normalization="num_loss_tokens").result()
        losses.append(done.metrics["loss:sum"])
        assert done.metrics["response_tokens"] == 3
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 5


def test_chunks_of_one_call_come_back_in_order(connect: Connect, emu: Emulator) -> None:
    client = connect()
    client.forward_backward([datum(1, 2)], "cross_entropy").result()
    client.optim_step(ADAM).result()
    lengths = [1 + at % 7 for at in range(2500)]
    done = client.forward([datum(*range(length)) for length in lengths], "cross_entropy").result()
    assert [len(output["logprobs"].data) for output in done.loss_fn_outputs] == lengths
    assert len(emu.journal.of("forward")) == 3


def test_chunks_accumulate_the_gradient_of_one_call(connect: Connect) -> None:
    data = [datum(at % 3, weights=[0.5 + at % 5]) for at in range(1500)]
    whole, parts = connect("whole"), connect("parts")
    for client, pieces in ((whole, [data]), (parts, [data[:1000], data[1000:1100], data[1100:]])):
        for piece in pieces:
            client.forward_backward(piece, "cross_entropy").result()
    norms = [client.optim_step(ADAM).result().metrics["grad_norm"] for client in (whole, parts)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-9)
    assert norms[0] > 1


def test_a_bad_datum_fails_its_own_future_only(connect: Connect) -> None:
    client = connect()
    bad = types.Datum(model_input=types.ModelInput.from_ints([1]), loss_fn_inputs={})
    with pytest.raises(RequestFailedError, match="missing required field 'target_tokens'") as caught:
        client.forward_backward([bad], "cross_entropy").result()
    assert caught.value.category.value == "user"
    assert client.forward_backward([datum(1)], "cross_entropy").result().metrics["loss:sum"] > 0
    assert client.optim_step(ADAM).result().metrics["grad_norm"] > 0


def test_many_operations_are_in_flight_and_run_in_order(connect: Connect, backend: DictBackend) -> None:
    client = connect()
    futures = []
    for _ in range(10):
        futures.append(client.forward_backward([datum(1)], "cross_entropy"))
        futures.append(client.optim_step(ADAM))
    for future in reversed(futures):
        future.result()
    names = [call.split()[0] for call in backend.calls if not call.startswith("create")]
    assert names == ["forward_backward", "optim_step"] * 10


def test_a_future_wakes_its_waiter_at_once(connect: Connect, emu: Emulator) -> None:
    client = connect()
    client.optim_step(ADAM).result()
    began = time.perf_counter()
    for _ in range(20):
        client.optim_step(ADAM).result()
    assert time.perf_counter() - began < 2
    assert all(exchange.status == 200 for exchange in emu.journal)
    assert max(exchange.seconds for exchange in emu.journal.of("retrieve_future")[-20:]) < 0.5
