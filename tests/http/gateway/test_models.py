"""Sessions and models of a trainer: what may be created, what unloading leaves (WIRE 2.5, FAILURES C10, F8-F12)."""

import base64
import json
from collections.abc import Callable

import httpx
import pytest
from fireworks.training.sdk.client import FiretitanServiceClient, FiretitanTrainingClient

from emulator.server import Emulator
from emulator.state.entities import Job
from tests.doubles import BASE
from tests.http.gateway.conftest import Wire, batch, datum, gateway
from tests.sdk import LEGACY, types

Connect = Callable[..., FiretitanTrainingClient]
API = "/training/v1/rlorTrainerJobs/local/j1/api/v1/"


@pytest.mark.parametrize(
    ("rank", "model", "says"),
    [
        (0, {"lora_config": {"rank": 8}}, "trainer was initialized without LoRA config"),
        (8, {"lora_config": {"rank": 0}}, "requested full-parameter mode"),
        (8, {}, "requested full-parameter mode"),
        (8, {"lora_config": {"rank": 16}}, "requested LoRA rank 16, but trainer was initialized with 8"),
        (8, {"lora_config": {"rank": "8"}}, "lora_config.rank is '8'"),
        (8, {"lora_config": {"rank": 8, "alpha": "big"}}, "lora_config"),
        (8, {"lora_config": {"rank": 8, "seed": 2**64}}, "seed is 18446744073709551616, give one of 64 bits"),
        (0, {"base_model": "accounts/fireworks/models/qwen3-4b"}, f"this trainer holds {BASE}"),
        (0, {"session_id": "ses-unknown"}, "session 'ses-unknown' not found"),
    ],
)
def test_a_model_must_fit_its_job(
    http: httpx.Client, new_job: Callable[..., Job], rank: int, model: dict[str, object], says: str
) -> None:
    new_job(lora_rank=rank)
    session = http.post(API + "create_session", json={}).json()["session_id"]
    body = {"session_id": session, "model_seq_id": 0, "base_model": BASE, **model}
    request_id = http.post(API + "create_model", json=body).json()["request_id"]
    answer = http.post(API + "retrieve_future", json={"request_id": request_id}).json()
    assert says in answer["error"]
    assert answer["category"] == "user"


def test_a_frozen_reference_lives_beside_the_policy(emu: Emulator, new_job: Callable[..., Job]) -> None:
    new_job(lora_rank=8)
    service = FiretitanServiceClient(base_url=gateway(emu, "j1"), api_key=emu.api_key)
    policy = service.create_training_client(base_model=BASE, lora_rank=8)
    reference = service.create_base_training_client(base_model=BASE)
    before = reference.forward([datum(1)], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
    policy.forward_backward([datum(1)], "cross_entropy").result()
    policy.optim_step(types.AdamParams(learning_rate=1.0)).result()
    after = [
        c.forward([datum(1)], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data for c in (reference, policy)
    ]
    assert after[0] == before
    assert after[1] != before
    service.close()


def test_a_frozen_reference_and_a_forward_only_trainer_do_not_train(
    http: httpx.Client, new_job: Callable[..., Job]
) -> None:
    new_job("j1")
    new_job("j2", forward_only=True)
    frozen, forward_only = Wire(http, base_only=True), Wire(http, "j2")
    assert "frozen reference" in str(frozen.run("optim_step", 1)["error"])
    assert "forward-only" in str(forward_only.run("forward_backward", 1, forward_backward_input=batch(1))["error"])
    assert "error" not in forward_only.run("forward", 2, forward_input=batch(1))


def test_unloading_twice_is_no_error_and_ends_the_model(wire: Wire) -> None:
    for _ in range(2):
        done = wire.result(wire.post("unload_model", {"model_id": wire.model_id}))
        assert done == {"model_id": wire.model_id, "type": "unload_model"}
    answer = wire.run("optim_step", 1)
    assert "No session found for model_id" in str(answer["error"])
    assert answer["category"] == "user"
    assert wire.send("get_info", {"model_id": wire.model_id}).status_code == 404


@pytest.mark.skipif(LEGACY, reason="1.2.24 has no unload_model of its own")
def test_a_client_unloads_its_model(connect: Connect) -> None:
    client = connect("own")
    client.unload_model().result()
    with pytest.raises(RuntimeError, match="unloading"):
        client.optim_step(types.AdamParams(learning_rate=0.1))


def test_unload_may_forget_the_numbers_that_were_seen(wire: Wire, emu: Emulator) -> None:
    emu.quirks.set("unload.clears_request_state", True)
    first = wire.submit("optim_step", 1)
    wire.result(wire.post("unload_model", {"model_id": wire.model_id}))
    assert wire.submit("optim_step", 1) != first


def test_a_second_session_leaves_or_evicts_the_first_ones_model(http: httpx.Client, wire: Wire, emu: Emulator) -> None:
    Wire(http)
    assert "error" not in wire.run("optim_step", 1)
    with emu.quirks.set("sessions.create", "destructive"):
        Wire(http)
    assert "No session found" in str(wire.run("optim_step", 2)["error"])


def test_a_trainer_has_room_for_so_many_models(http: httpx.Client, wire: Wire, emu: Emulator) -> None:
    emu.quirks.set("sessions.max_gpu", 1)
    body = {**wire.created, "model_seq_id": 1}
    answer = wire.result(wire.post("create_model", body))
    assert "maximum of 1 concurrent sessions reached (gpu=1, cpu=0)" in str(answer["error"])
    wire.result(wire.post("unload_model", {"model_id": wire.model_id}))
    assert "model_id" in wire.result(wire.post("create_model", {**wire.created, "model_seq_id": 2}))


def test_small_answers(wire: Wire, http: httpx.Client) -> None:
    assert http.get(API + "healthz").json() == {"status": "ok"}
    assert http.get(API + "get_server_capabilities").json()["supported_models"][0]["model_name"] == BASE
    assert wire.post("telemetry", {"events": []}) == {"status": "accepted"}
    assert wire.post("session_heartbeat", {"session_id": wire.created["session_id"]}) == {"type": "session_heartbeat"}
    assert wire.send("session_heartbeat", {"session_id": "ses-x"}).status_code == 404
    config = wire.post("client/config", {"sdk_version": "0.23.0"})
    assert not any(config[flag] for flag in ("pjwt_auth_enabled", "proto_write_fwdbwd", "proto_compress_fwdbwd"))
    claims = str(wire.post("auth/token", {})["jwt"]).split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["exp"] > 1_700_000_000


@pytest.mark.parametrize(
    ("method", "verb", "status", "says"),
    [
        ("POST", "asample", 400, "sample from a deployment"),
        ("POST", "create_sampling_session", 400, "sample from a deployment"),
        ("POST", "no_such_verb", 404, "no POST 'no_such_verb'"),
        ("GET", "optim_step", 404, "no GET 'optim_step'"),
    ],
)
def test_what_a_trainer_does_not_serve(
    wire: Wire, http: httpx.Client, method: str, verb: str, status: int, says: str
) -> None:
    answer = http.request(method, API + verb, json={} if method == "POST" else None)
    assert answer.status_code == status
    assert says in answer.json()["message"]


def test_a_job_that_does_not_run_has_no_trainer(wire: Wire, http: httpx.Client, emu: Emulator) -> None:
    kept = wire.submit("optim_step", 1)
    wire.result(kept)
    emu.platform.jobs.cancel("local", "j1")
    assert http.get(API + "healthz").status_code == 503
    answer = wire.send("optim_step", {"model_id": wire.model_id, "seq_id": 2})
    assert answer.status_code == 404
    assert "not found or not running" in answer.json()["message"]
    assert "metrics" in wire.result(kept)
    assert http.post(API.replace("j1", "nobody") + "optim_step", json={}).status_code == 404
    emu.platform.jobs.resume("local", "j1")
    assert "No session found" in str(wire.run("optim_step", 1)["error"])


def test_what_waits_when_the_machine_is_taken_away_fails(wire: Wire, emu: Emulator) -> None:
    emu.quirks.set("optim.slow_s", 30.0)
    ids = [wire.submit("optim_step", seq) for seq in (1, 2, 3)]
    emu.platform.jobs.preempt("local", "j1")
    answers = [wire.result(request_id) for request_id in ids[1:]]
    assert [(answer["category"], "the trainer stopped" in str(answer["error"])) for answer in answers] == [
        ("server", True)
    ] * 2


def test_healthz_of_a_running_trainer_is_a_switch(wire: Wire, http: httpx.Client, emu: Emulator) -> None:
    emu.quirks.set("jobs.healthz", 503, times=1)
    assert [http.get(API + "healthz").status_code for _ in range(2)] == [503, 200]


def test_a_working_trainer_does_not_idle_out(http: httpx.Client, new_job: Callable[..., Job], emu: Emulator) -> None:
    new_job(inactivity_s=60.0)
    wire = Wire(http)
    for seq in (1, 2, 3):
        emu.clock.advance(40)
        assert "error" not in wire.run("optim_step", seq)
    emu.clock.advance(40)
    wire.post("session_heartbeat", {"session_id": wire.created["session_id"]})  # it counts as activity
    emu.clock.advance(40)
    assert "error" not in wire.run("optim_step", 4)
    emu.clock.advance(61)
    assert wire.send("optim_step", {"model_id": wire.model_id, "seq_id": 5}).status_code == 404
    assert emu.platform.jobs.get("local", "j1").state == "JOB_STATE_PAUSED"
