"""The vendor's client meets the pool's 409s, and of a full account (FAILURES F11, F17, F19)."""

import pytest

from emulator.server import Emulator
from tests.doubles import BASE, IDLE_STEP
from tests.http.serverless.conftest import Pool, Serve, logprobs
from tests.sdk import RequestFailedError

BUSY = ["capacity_exhausted", "recovery_required"]


@pytest.mark.parametrize("answer", BUSY)
def test_a_409_ends_a_call_unless_the_caller_has_opted_in(serve: Serve, emu: Emulator, answer: str) -> None:
    training = serve().create_lora_training_client(BASE, rank=8)
    emu.quirks.set("futures.answer", answer, times=1)
    with pytest.raises(ValueError, match=answer):
        logprobs(training, 0)
    assert logprobs(training, 0)


@pytest.mark.parametrize("answer", BUSY)
def test_who_has_opted_in_waits_and_gets_the_result(serve: Serve, emu: Emulator, answer: str) -> None:
    service = serve()
    service._enable_serverless_supervised_409_retry()
    training = service.create_lora_training_client(BASE, rank=8)
    emu.quirks.set("futures.answer", answer, times=1)
    assert logprobs(training, 0)
    assert [one.status for one in emu.journal.of("retrieve_future")][-2:] == [409, 200]


@pytest.mark.parametrize(("answer", "status", "kind"), [("503", 503, "server_error"), ("404", 404, "not_found_error")])
def test_any_other_answer_comes_in_the_gateways_envelope(
    pool: Pool, emu: Emulator, answer: str, status: int, kind: str
) -> None:
    pool.create()
    accepted = pool.post("optim_step", {"model_id": pool.model_id, "seq_id": 1})
    emu.quirks.set("futures.answer", answer, times=1)
    refused = pool.send("retrieve_future", {"request_id": accepted["request_id"]})
    assert (refused.status_code, refused.json()["error"]["type"]) == (status, kind)
    assert pool.result(accepted) == {"metrics": IDLE_STEP}


def test_a_place_is_free_as_soon_as_a_session_is_deleted(serve: Serve, emu: Emulator) -> None:
    emu.quirks.set("sessions.quota", 1)
    first, second = serve(), serve()
    first.create_lora_training_client(BASE, rank=8)
    with pytest.raises(RequestFailedError, match="may have 1 at a time"):
        second.create_lora_training_client(BASE, rank=8)
    first.delete_training_session()
    assert second.create_lora_training_client(BASE, rank=8).run_id


def test_the_models_of_all_sessions_share_the_machine(serve: Serve, emu: Emulator) -> None:
    emu.quirks.set("sessions.max_gpu", 1)
    first, second = serve(), serve()
    held = first.create_lora_training_client(BASE, rank=8)
    with pytest.raises(RequestFailedError, match=r"maximum of 1 concurrent sessions reached \(gpu=1, cpu=0\)"):
        second.create_lora_training_client(BASE, rank=8)
    held.unload_model().result()
    assert second.create_lora_training_client(BASE, rank=8).run_id
