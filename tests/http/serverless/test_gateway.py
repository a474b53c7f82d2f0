"""The pool answers what no client should say: refusals, other accounts, ends (WIRE 2.12)."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.server import Emulator
from ftsim.inspect.replay import replay
from tests.doubles import BASE, FIRST_TOKEN, IDLE_STEP, DictBackend
from tests.http.gateway.conftest import batch
from tests.http.serverless.conftest import API, SESSIONS, Pool
from tests.inspect.test_replay import saved

STRANGER = "run-" + "0" * 32


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"lora_config": {"rank": 0}}, "requested full-parameter mode, but serverless trainers train LoRA"),
        ({"lora_config": {"rank": 512}}, "requested LoRA rank 512"),
        ({"lora_config": {"rank": "8"}}, "lora_config.rank is '8'"),
        ({"base_model": "accounts/fireworks/models/none"}, "not found"),
        ({"base_model": None}, "base_model is required"),
    ],
)
def test_a_model_that_cannot_be_trained_here_leaves_the_session_free(
    pool: Pool, http: httpx.Client, model: dict[str, Any], says: str
) -> None:
    refused = pool.create(**model)
    assert says in str(refused["error"])
    assert refused["category"] == "user"
    assert http.get(f"{SESSIONS}/{pool.session}").json()["state"] == "TRAINING_SESSION_STATE_READY"
    pool.create(1)
    assert http.get(f"{SESSIONS}/{pool.session}").json()["baseModel"] == BASE


def test_a_session_keeps_its_base_model(pool: Pool) -> None:
    pool.create()
    other = pool.create(1, base_model="accounts/fireworks/models/qwen3-4b")
    assert f"this trainer holds {BASE}" in str(other["error"])


def test_a_resent_create_is_the_same_run(pool: Pool) -> None:
    first = pool.create()["model_id"]
    assert pool.create()["model_id"] == first
    assert pool.create(1)["model_id"] != first


@pytest.mark.parametrize(
    ("method", "verb", "body", "status", "code"),
    [
        ("POST", "create_model", {"session_id": "ts-none"}, 404, "not_found"),
        ("POST", "forward", {"model_id": "model-x", "seq_id": 1}, 404, "not_found"),
        ("POST", "forward", {"model_id": f"{STRANGER}:train:0", "seq_id": 1}, 404, "not_found"),
        ("POST", "forward", {"seq_id": 1}, 400, "invalid_argument"),
        ("POST", "get_info", {"model_id": f"{STRANGER}:train:0"}, 404, "not_found"),
        ("POST", "session_heartbeat", {"session_id": "ts-none"}, 404, "not_found"),
        ("POST", "retrieve_future", {"request_id": "req-none"}, 404, "not_found"),
        ("POST", "weights_info", {"tinker_path": f"local/{STRANGER}/s"}, 404, "not_found"),
        ("POST", "weights_info", {"tinker_path": f"other/{STRANGER}/s"}, 404, "not_found"),
        ("POST", "weights_info", {"tinker_path": "s"}, 400, "invalid_argument"),
        ("POST", "weights_info", {"tinker_path": "cross_job://j1/s"}, 400, "invalid_argument"),
        ("POST", "create_sampling_route", {}, 400, "invalid_argument"),
        ("POST", "weight_sync", {}, 400, "invalid_argument"),
        ("POST", "nonsense", {}, 404, "not_found"),
        ("GET", "list_checkpoints", None, 400, "failed_precondition"),
        ("GET", "get_server_capabilities", None, 400, "failed_precondition"),
    ],
)
def test_the_gateway_refuses_in_its_own_envelope(
    http: httpx.Client, method: str, verb: str, body: dict[str, object] | None, status: int, code: str
) -> None:
    answer = http.request(method, API + verb, json=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert {type(error[key]) for key in ("type", "message")} == {str}
    assert error["message"]


def test_an_unknown_key_and_an_injected_fault_come_in_the_same_envelope(emu: Emulator, http: httpx.Client) -> None:
    answer = httpx.post(emu.url + API + "create_session", json={}, headers={"X-API-Key": "nobody"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
    with emu.quirks.set("http.fail", 503, endpoint="create_session"):
        assert http.post(API + "create_session", json={}).json()["error"]["type"] == "server_error"


def test_small_answers(pool: Pool, http: httpx.Client) -> None:
    pool.create()
    assert http.get(API + "healthz").json() == {"status": "ok"}
    assert pool.post("telemetry", {"events": []}) == {"status": "accepted"}
    assert pool.post("session_heartbeat", {"session_id": pool.session}) == {"type": "session_heartbeat"}
    assert pool.post("get_info", {"model_id": pool.model_id})["lora_rank"] == 8


def test_another_account_sees_nothing_of_it(emu: Emulator, pool: Pool, http: httpx.Client) -> None:
    pool.create()
    accepted = pool.post("save_weights", {"model_id": pool.model_id, "seq_id": 1, "path": "s"})
    run = pool.model_id.partition(":")[0]
    assert pool.result(accepted)["path"] == f"local/{run}/s"
    with httpx.Client(base_url=emu.url, headers={"X-API-Key": "key2"}) as other:
        for verb, body in (
            ("retrieve_future", {"request_id": accepted["request_id"]}),
            ("get_info", {"model_id": pool.model_id}),
            ("create_model", {"session_id": pool.session}),
            ("weights_info", {"tinker_path": f"local/{run}/s"}),
        ):
            assert other.post(API + verb, json=body).status_code == 404, verb
        assert other.get(f"{SESSIONS}/{pool.session}").status_code == 403
        asked = {"model": f"accounts/local/trainingSessions/{pool.session}", "prompt": [FIRST_TOKEN]}
        assert other.post("/training/v1/serverless/inference/v1/completions", json=asked).status_code == 403


def test_a_run_loads_its_own_saves_by_name_and_others_by_their_run(pool: Pool, http: httpx.Client) -> None:
    pool.create()
    first = pool.model_id.partition(":")[0]
    pool.run("save_weights", 1, path="s")
    assert "error" not in pool.run("load_weights", 2, path="s")
    second = Pool(http)
    second.create()
    assert "not found" in str(second.run("load_weights", 1, path="s")["error"])
    assert "error" not in second.run("load_weights", 2, path=f"local/{first}/s")
    refusals = (
        ("cross_job://j1/s", "a session is no job"),
        (f"{pool.session}:s", "cannot load"),
        (f"local/{STRANGER}/s", "not found"),
    )
    for seq, (path, says) in enumerate(refusals, 3):
        refused = second.run("load_weights", seq, path=path)
        assert refused["category"] == "user"
        assert says in str(refused["error"])


def test_a_dedicated_trainer_refuses_a_runs_checkpoint(pool: Pool, emu: Emulator, http: httpx.Client) -> None:
    from emulator.platform.jobs.spec import JobSpec
    from tests.http.gateway.conftest import Wire

    emu.platform.jobs.create("local", JobSpec(base_model=BASE, lora_rank=8), "j1")
    wire = Wire(http, lora_config={"rank": 8})
    assert "serverless run" in str(wire.run("load_weights", 1, path=f"local/{STRANGER}/s")["error"])


def test_a_taken_name_is_taken_within_its_run_only(pool: Pool) -> None:
    pool.create()
    pool.run("save_weights", 1, path="s")
    pool.run("optim_step", 2)
    assert "already exists" in str(pool.run("save_weights", 3, path="s")["error"])
    assert "already exists" in str(pool.run("save_weights_for_sampler", 4, path="s")["error"])
    pool.create(1)
    assert "error" not in pool.run("save_weights", 1, path="s")


def test_rows_may_be_renamed_and_written_with_a_colon(pool: Pool, emu: Emulator, http: httpx.Client) -> None:
    pool.create()
    run = pool.model_id.partition(":")[0]
    with (
        emu.quirks.set("sessions.name_style", "colon", job=pool.session),
        emu.quirks.set("dcp.rename", "internal_step"),
    ):
        pool.run("save_weights", 1, path="mine")
    (row,) = http.get(f"{SESSIONS}/{pool.session}/checkpoints").json()["trainingSessionCheckpoints"]
    assert row["name"].endswith(f"/checkpoints/{run}:step-0")
    assert "error" not in pool.run("load_weights", 2, path="step-0")


def test_a_base_or_a_run_is_sampled_without_a_session_once_it_has_a_route(
    pool: Pool, http: httpx.Client, emu: Emulator
) -> None:
    pool.create()
    run = pool.model_id.partition(":")[0]
    path = pool.run("save_weights_for_sampler", 1, path="final-01234567")["path"]
    http.delete(f"{SESSIONS}/{pool.session}")
    for target, name in (
        ({"base_model": BASE}, f"accounts/local/trainingSamplers/{BASE}"),
        ({"training_run": f"accounts/local/trainingRuns/{run}"}, f"accounts/local/trainingSamplers/checkpoints/{path}"),
    ):
        asked = {"model": name, "prompt": [FIRST_TOKEN], "max_tokens": 1}
        early = http.post("/training/v1/serverless/inference/v1/completions", json=asked)
        assert early.status_code == 400
        assert "create_sampling_route" in early.json()["error"]["message"]
        pool.post("create_sampling_route", target)
        answer = http.post("/training/v1/serverless/inference/v1/completions", json=asked)
        assert answer.json()["usage"]["completion_tokens"] == 1, answer.text
    for target in (
        {"training_run": f"accounts/local/trainingRuns/{STRANGER}"},
        {"base_model": "accounts/fireworks/models/none"},
    ):
        assert pool.send("create_sampling_route", target).status_code == 404
    assert pool.send("create_sampling_route", {"training_run": "accounts/other/trainingRuns/x"}).status_code == 403


def test_what_another_account_has_promoted_is_neither_trained_nor_sampled(
    pool: Pool, http: httpx.Client, emu: Emulator
) -> None:
    pool.create()
    pool.run("save_weights_for_sampler", 1, path="whole-01234567", checkpoint_type="merged_base")
    (row,) = http.get(f"{SESSIONS}/{pool.session}/checkpoints").json()["trainingSessionCheckpoints"]
    mine = "accounts/local/models/mine"
    http.post(f"/v1/{row['name']}:promote", json={"output_model": mine, "base_model": BASE}).raise_for_status()
    assert "error" not in Pool(http).create(base_model=mine)
    assert pool.send("create_sampling_route", {"base_model": mine}).status_code == 200
    with httpx.Client(base_url=emu.url, headers={"X-API-Key": "key2"}, timeout=60) as other:
        stranger = Pool(other)
        assert "belongs to another account" in str(stranger.create(base_model=mine)["error"])
        assert stranger.send("create_sampling_route", {"base_model": mine}).status_code == 403


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("", "has no base model yet"),
        ("/other", "a session serves its checkpoints"),
        ("/checkpoints/final", "does not say of which run"),
        (f"/checkpoints/local/{STRANGER}/final", "not found"),
        ("/checkpoints/", "invalid sampler"),
        ("/", "invalid sampler"),
    ],
)
def test_a_sampler_that_means_nothing_is_a_400(pool: Pool, http: httpx.Client, rest: str, says: str) -> None:
    name = f"accounts/local/trainingSessions/{pool.session}{rest}"
    asked = {"model": name, "prompt": [FIRST_TOKEN]}
    answer = http.post("/training/v1/serverless/inference/v1/completions", json=asked)
    assert answer.status_code == 400, "a 404 would be taken for not loaded yet (WIRE 3.2)"
    assert says in answer.json()["error"]["message"]


def test_a_training_state_is_not_sampled(pool: Pool, http: httpx.Client) -> None:
    pool.create()
    path = pool.run("save_weights", 1, path="s")["path"]
    asked = {"model": f"accounts/local/trainingSessions/{pool.session}/checkpoints/{path}", "prompt": [FIRST_TOKEN]}
    answer = http.post("/training/v1/serverless/inference/v1/completions", json=asked)
    assert "holds a training state" in answer.json()["error"]["message"]


def test_a_deleted_session_answers_no_more_and_its_saves_are_kept_for_thirty_days(
    pool: Pool, http: httpx.Client, emu: Emulator
) -> None:
    pool.create()
    accepted = pool.post("optim_step", {"model_id": pool.model_id, "seq_id": 1})
    pool.result(accepted)
    pool.run("save_weights", 2, path="s")
    assert [one["name"] for one in http.get(SESSIONS).json()["trainingSessions"]] == [
        f"accounts/local/trainingSessions/{pool.session}"
    ]
    assert http.delete(f"{SESSIONS}/{pool.session}").json() == {}
    assert http.delete(f"{SESSIONS}/{pool.session}").status_code == 404, "clients take it for done"
    assert http.get(SESSIONS).json()["trainingSessions"] == []
    assert "it was deleted" in http.get(f"{SESSIONS}/{pool.session}").json()["message"]
    late = pool.send("optim_step", {"model_id": pool.model_id, "seq_id": 3})
    assert (late.status_code, "is TRAINING_SESSION_STATE_DELETING" in late.json()["error"]["message"]) == (404, True)
    assert pool.result(accepted) == {"metrics": IDLE_STEP}
    assert http.get(f"{SESSIONS}/{pool.session}/checkpoints").status_code == 404
    kept = Pool(http)
    kept.create()
    run = pool.model_id.partition(":")[0]
    assert "error" not in kept.run("load_weights", 1, path=f"local/{run}/s")
    with emu.quirks.set("sessions.rows_outlive", True):
        assert http.get(f"{SESSIONS}/{pool.session}").json()["state"] == "TRAINING_SESSION_STATE_DELETING"
        assert len(http.get(f"{SESSIONS}/{pool.session}/checkpoints").json()["trainingSessionCheckpoints"]) == 1
    emu.clock.advance(31 * 24 * 3600)
    assert http.get(f"{SESSIONS}/{pool.session}").status_code == 404
    assert http.get(f"{SESSIONS}/{pool.session}/checkpoints").status_code == 404
    assert [run.session.rpartition("/")[2] for run in emu.world.runs] == [kept.session]
    assert len(emu.world.checkpoints) == 0


def test_an_idle_session_stops_and_one_that_says_so_lives(pool: Pool, http: httpx.Client, emu: Emulator) -> None:
    pool.create()
    for _ in range(3):
        emu.clock.advance(1200)
        pool.post("session_heartbeat", {"session_id": pool.session})
    assert "error" not in pool.run("optim_step", 1)
    with emu.quirks.set("sessions.inactivity_s", 0.0):
        emu.clock.advance(1801)
        assert http.get(f"{SESSIONS}/{pool.session}").json()["state"] == "TRAINING_SESSION_STATE_READY"
    Pool(http)
    assert emu.platform.trainers.live_models(f"accounts/local/trainingSessions/{pool.session}") == []
    assert http.get(f"{SESSIONS}/{pool.session}").json()["state"] == "TRAINING_SESSION_STATE_EXPIRED"
    assert pool.send("session_heartbeat", {"session_id": pool.session}).status_code == 404


def test_a_create_that_failed_may_keep_a_place(pool: Pool, http: httpx.Client, emu: Emulator) -> None:
    emu.quirks.set("sessions.quota", 1)
    emu.quirks.set("sessions.leak_on_failed_create", True)
    pool.create(lora_config={"rank": 0})
    assert http.get(f"{SESSIONS}/{pool.session}").json()["state"] == "TRAINING_SESSION_STATE_UNSPECIFIED"
    other = Pool(http)
    assert "may have 1 at a time" in str(other.create()["error"])
    http.delete(f"{SESSIONS}/{pool.session}")
    other.create(1)
    other.create(2, lora_config={"rank": 0})
    assert http.get(f"{SESSIONS}/{other.session}").json()["state"] == "TRAINING_SESSION_STATE_READY"


def test_sessions_hold_their_place_until_they_are_deleted_or_have_expired(http: httpx.Client, emu: Emulator) -> None:
    emu.quirks.set("sessions.quota", 1)
    first, second = Pool(http), Pool(http)
    first.create()
    assert "may have 1 at a time" in str(second.create(base_model="accounts/fireworks/models/none")["error"])
    assert "may have 1 at a time" in str(first.create(1)["error"])  # a place is one run's, not its session's
    emu.clock.advance(1801)
    assert http.get(f"{SESSIONS}/{first.session}").json()["state"] == "TRAINING_SESSION_STATE_EXPIRED"
    gone = http.get(f"{SESSIONS}/{first.session}/checkpoints")
    assert (gone.status_code, "no sign of life from its client" in gone.text) == (404, True)
    second, third = Pool(http), Pool(http)
    assert "error" not in second.create()
    full = str(third.create()["error"])
    assert "has 1 training runs on the pool and may have 1 at a time" in full
    assert f"`ftsim end {second.session}`" in full
    http.delete(f"{SESSIONS}/{second.session}")
    assert "error" not in third.create(1)


def test_places_are_counted_by_runs(http: httpx.Client, emu: Emulator) -> None:
    emu.quirks.set("sessions.quota", 3)
    one, other = Pool(http), Pool(http)
    assert "error" not in one.create(0)
    assert "error" not in other.create(0, base_only=True)  # a frozen reference is no run
    assert "error" not in one.create(1)
    assert "error" in one.create(2, lora_config={"rank": 4096})  # what could not be made has no place
    assert "error" not in other.create(1)
    assert "may have 3" in str(other.create(2)["error"])
    assert "error" not in other.create(3, base_only=True)
    one.result(one.post("unload_model", {"model_id": one.model_id}))
    assert "may have 3" in str(one.create(3)["error"])
    with emu.quirks.set("sessions.unload_frees_place", True):
        assert "error" not in one.create(4)
    http.delete(f"{SESSIONS}/{one.session}")
    assert "error" not in other.create(4)


def test_sessions_of_a_program_end_with_it_and_their_rows_stay_for_a_while(http: httpx.Client, emu: Emulator) -> None:
    emu.quirks.set("sessions.quota", 2)
    others = Pool(http)
    others.create()
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": f"tml-{emu.api_key}~17-x_y"}) as program:
        gone = Pool(program)
        gone.create()
        gone.run("save_weights", 1, path="kept")
        assert http.post("/_ftsim/programs/17-x_y:end").json() == {
            "ended": [f"accounts/local/trainingSessions/{gone.session}"]
        }
        assert program.post(API + "session_heartbeat", json={"session_id": gone.session}).status_code == 404
    assert http.post("/_ftsim/programs/17-x_y:end").json() == {"ended": []}
    shown = http.get(f"{SESSIONS}/{gone.session}").json()
    assert shown["state"] == "TRAINING_SESSION_STATE_EXPIRED"
    assert shown["status"]["message"] == "(its program is gone)"
    assert http.get(f"{SESSIONS}/{others.session}").json()["state"] == "TRAINING_SESSION_STATE_READY"
    assert "error" not in Pool(http).create()
    assert len(http.get(f"{SESSIONS}/{gone.session}/checkpoints").json()["trainingSessionCheckpoints"]) == 1
    emu.clock.advance(1801)
    assert http.get(f"{SESSIONS}/{gone.session}/checkpoints").status_code == 404


def test_a_key_with_a_mark_is_the_key_and_a_wrong_one_stays_wrong(http: httpx.Client, emu: Emulator) -> None:
    for key, status in ((f"{emu.api_key}~p", 200), ("key2~p", 200), ("wrong~p", 401), ("~p", 401), ("~", 401)):
        assert http.get("/v1/accounts", headers={"X-Api-Key": key}).status_code == status, key


def test_a_pooled_trainer_is_shared_by_the_sessions_of_its_base_model(http: httpx.Client, emu: Emulator) -> None:
    emu.quirks.set("sessions.max_gpu", 1)
    first, second = Pool(http), Pool(http)
    first.create()
    assert "maximum of 1 concurrent sessions reached" in str(second.create()["error"])
    assert http.get(f"{SESSIONS}/{second.session}").json()["state"] == "TRAINING_SESSION_STATE_READY"
    assert "error" not in Pool(http).create(base_model="accounts/fireworks/models/qwen3-4b")
    first.result(first.post("unload_model", {"model_id": first.model_id}))
    assert "error" not in second.create(1)


def test_sampler_weights_for_a_state_may_cost_the_live_models(pool: Pool, emu: Emulator) -> None:
    pool.create()
    pool.run("save_weights_for_sampler", 1, path="final-01234567")
    emu.quirks.set("load.sampler_path_kills_trainer", True)
    assert "sampler weights" in str(pool.run("load_weights", 2, path="final-01234567")["error"])
    assert "No session found" in str(pool.run("optim_step", 3)["error"])


def test_sessions_survive_a_restart_and_a_snapshot(
    pool: Pool, http: httpx.Client, emu: Emulator, backend: DictBackend, tmp_path: Path
) -> None:
    pool.create()
    pool.run("forward_backward", 1, forward_backward_input=batch(1))
    pool.run("optim_step", 2)
    pool.run("save_weights", 3, path="s")
    pool.post("create_sampling_route", {"base_model": BASE})
    run = pool.model_id.partition(":")[0]
    file = emu.snapshot(tmp_path / "a.zip")

    def checks(on: httpx.Client) -> None:
        again = Pool(on)
        again.create()
        assert "error" not in again.run("load_weights", 1, path=f"local/{run}/s", optimizer=True)
        asked = {"model": f"accounts/local/trainingSamplers/{BASE}", "prompt": [FIRST_TOKEN], "max_tokens": 1}
        assert on.post("/training/v1/serverless/inference/v1/completions", json=asked).status_code == 200
        late = again.send("optim_step", {"model_id": pool.model_id, "seq_id": 4})
        assert "No session found" in str(again.result(late.json())["error"])

    http.delete(f"{SESSIONS}/{pool.session}")
    emu.restore(file)
    assert http.get(f"{SESSIONS}/{pool.session}").json()["state"] == "TRAINING_SESSION_STATE_READY"
    checks(http)
    emu.stop()
    with (
        Emulator(backend, state_dir=tmp_path / "state", api_key="key1") as restarted,
        httpx.Client(base_url=restarted.url, headers={"X-API-Key": "key1"}, timeout=60) as client,
    ):
        checks(client)


def test_a_journal_of_the_pool_is_replayed_answer_for_answer(tmp_path: Path) -> None:
    backend = DictBackend(tmp_path / "base")
    with (
        Emulator(backend, seed=5) as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-API-Key": emulator.api_key}) as http,
    ):
        pool = Pool(http)
        pool.create()
        pool.run("forward_backward", 1, forward_backward_input=batch(1, 2))
        pool.run("optim_step", 2)
        pool.run("save_weights", 3, path="s")
        pool.run("load_weights", 4, path="s")
        http.delete(f"{SESSIONS}/{pool.session}")
        found = replay(saved(emulator), backend)
    assert (found.differences, found.skipped) == ([], [])
