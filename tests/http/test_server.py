"""The server itself: starting, stopping, restarting, and who may talk to it."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fireworks.training.sdk import FireworksClient

from emulator.core.errors import FailedPrecondition, StorageFailed, Unavailable
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from tests import server_process
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import Wire


@pytest.fixture
def backend(tmp_path: Path) -> DictBackend:
    return DictBackend(tmp_path / "backend")


@contextlib.contextmanager
def talking(url: str, key: str = "fw-ftsim-local") -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=30) as client:
        yield client


def create(emu: Emulator, job_id: str = "j1") -> None:
    emu.platform.jobs.create(emu.account, JobSpec(base_model=BASE), job_id)


def test_it_answers_at_once_and_leaves_nothing_behind(backend: DictBackend) -> None:
    began = time.perf_counter()
    with Emulator(backend) as emu:
        assert httpx.get(emu.url + "/healthz").json() == {"status": "ok"}
        assert time.perf_counter() - began < 2
        assert httpx.get(emu.url + "/readyz").json() == {"status": "ready"}
        root, port = emu.platform.blobs.root, emu.port
    assert not root.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/healthz")
    emu.stop()


def test_no_answer_waits_for_a_delayed_acknowledgement(backend: DictBackend) -> None:
    with Emulator(backend) as emu, talking(emu.url) as http:
        seconds = []
        for _ in range(10):
            began = time.perf_counter()
            http.post("/_ftsim/clock", json={"advance_s": 0})
            seconds.append(time.perf_counter() - began)
        assert min(seconds) < 0.02  # 0.04 without TCP_NODELAY (WIRE 0, rule 19)


def test_readiness_waits_for_the_first_import(backend: DictBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"ready": False, "warmed": 0}

    def warm() -> None:
        state["warmed"] += 1

    monkeypatch.setattr(backend, "ready", lambda: state["ready"])
    monkeypatch.setattr(backend, "warm", warm)
    with Emulator(backend) as emu:
        assert [httpx.get(emu.url + "/readyz").status_code for _ in range(2)] == [503, 503]
        state["ready"] = True
        assert httpx.get(emu.url + "/readyz").status_code == 200
    assert state["warmed"] == 1


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({}, "/v1/accounts", 401),
        ({"X-Api-Key": "wrong"}, "/v1/accounts", 401),
        ({"Authorization": "Basic mine"}, "/v1/accounts", 401),
        ({"X-Api-Key": "mine"}, "/v1/accounts", 200),
        ({"Authorization": "Bearer mine"}, "/v1/accounts", 200),
        ({"X-Api-Key": "tml-local", "Authorization": "bearer mine"}, "/v1/accounts", 200),
        ({"X-Api-Key": "other"}, "/v1/accounts/me/rlorTrainerJobs/j1", 403),
        ({"X-Api-Key": "other"}, "/training/v1/rlorTrainerJobs/me/j1/api/v1/healthz", 403),
        ({"X-Api-Key": "mine"}, "/v1/accounts/me/rlorTrainerJobs/j1", 200),
        ({"X-Api-Key": "mine"}, "/training/v1/rlorTrainerJobs/me/j1/api/v1/healthz", 200),
        ({}, "/_ftsim/state", 401),
        ({"X-Api-Key": "mine"}, "/no/such/path", 404),
    ],
)
def test_keys(backend: DictBackend, headers: dict[str, str], path: str, status: int) -> None:
    with Emulator(backend, account="me", api_key="mine", keys={"other": "you"}) as emu:
        create(emu)
        answer = httpx.get(emu.url + path, headers=headers)
        assert answer.status_code == status
        if status != 200:
            assert set(answer.json()) == {"code", "message", "details"}
        assert "mine" not in repr(list(emu.journal))


def test_a_body_over_the_limit_is_refused(backend: DictBackend) -> None:
    with Emulator(backend, body_limit=1000) as emu, talking(emu.url) as http:
        create(emu)
        path = "/training/v1/rlorTrainerJobs/local/j1/api/v1/telemetry"
        assert http.post(path, content=b" " * 900).status_code == 200
        assert http.post(path, content=b" " * 1001).status_code == 413
        chunked = http.post(path, content=(b" " * 400 for _ in range(3)))
        assert chunked.status_code == 413
        assert chunked.json()["code"] == 3


def test_reset_is_quick_and_keeps_address_and_seed(backend: DictBackend) -> None:
    with Emulator(backend, seed=7) as emu, talking(emu.url) as http:
        names = []
        for _ in range(2):
            create(emu)
            emu.quirks.set("http.fail", 500, endpoint="get_job")
            wire = Wire(http)
            wire.run("save_weights", 1, path="s")
            names.append((wire.model_id, emu.world.checkpoints.of("accounts/local/rlorTrainerJobs/j1")[0].blob))
            began = time.perf_counter()
            emu.reset()
            assert time.perf_counter() - began < 0.2
            assert (len(emu.world.jobs), len(emu.journal), emu.quirks.active()) == (0, 0, [])
        assert names[0] == names[1]
        assert http.get("/healthz").status_code == 200


def test_a_state_folder_serves_one_emulator_at_a_time(backend: DictBackend, tmp_path: Path) -> None:
    with Emulator(backend, state_dir=tmp_path / "state") as emu:
        said = rf"another emulator \(process {os.getpid()}\) at {emu.url} uses the state folder"
        with pytest.raises(FailedPrecondition, match=said):
            Emulator(backend, state_dir=tmp_path / "state").start()
        record = json.loads((tmp_path / "state" / "server.json").read_text())
        assert (record["url"], record["api_key"]) == (emu.url, emu.api_key)
    assert not (tmp_path / "state" / "server.json").exists()
    with Emulator(backend, state_dir=tmp_path / "state"):
        pass


def test_a_folder_that_cannot_be_made_or_a_taken_port_is_a_clear_error(backend: DictBackend, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot be written"):
        Emulator(backend, state_dir=tmp_path / "file" / "state").start()
    with Emulator(backend) as emu, pytest.raises(Unavailable, match="cannot listen on"):
        Emulator(backend, port=emu.port).start()


def test_a_restart_continues_where_it_was(backend: DictBackend, tmp_path: Path) -> None:
    state = tmp_path / "state"
    seen: set[str] = set()
    for start in range(3):
        with Emulator(backend, state_dir=state) as emu, talking(emu.url, emu.api_key) as http:
            if start == 0:
                create(emu)
            assert emu.platform.jobs.get("local", "j1").state == "JOB_STATE_RUNNING"
            wire = Wire(http)
            if start:
                assert "error" not in wire.run("load_weights", 1, path=f"step-{start - 1}", optimizer=True)
            ids = {
                wire.submit("optim_step", 2),
                wire.submit("save_weights", 3, path=f"step-{start}"),
                str(wire.model_id),
            }
            assert all("error" not in wire.result(request_id) for request_id in ids - {wire.model_id})
            assert not ids & seen
            seen |= ids
            lost = wire.send("retrieve_future", {"request_id": next(iter(seen - ids), "req-none")})
            assert lost.status_code == 404
            assert "reconnect and load a checkpoint" in lost.json()["message"]
            rows = FireworksClient(api_key=emu.api_key, base_url=emu.url).list_checkpoints("j1")
            assert [row["name"].rsplit("/")[-1] for row in rows] == [f"step-{at}" for at in range(start + 1)]
    with Emulator(backend, state_dir=state) as emu, talking(emu.url, emu.api_key) as http:
        again = Wire(http)
        again.model_id = wire.model_id
        assert "create the model again and load a checkpoint" in str(again.run("optim_step", 1)["error"])


def test_an_acknowledged_save_survives_kill_minus_nine(tmp_path: Path) -> None:
    state = tmp_path / "state"
    saved: list[str] = []
    for start in range(3):
        process, url = server_process.start(state)
        try:
            with talking(url) as http:
                if start == 0:
                    config = {"trainingConfig": {"baseModel": BASE}, "serviceMode": True}
                    created = http.post("/v1/accounts/local/rlorTrainerJobs?rlorTrainerJobId=j1", json=config)
                    assert created.status_code == 200, created.text
                rows = http.get("/v1/accounts/local/rlorTrainerJobs/j1/checkpoints").json()["checkpoints"]
                assert [row["name"].rsplit("/")[-1] for row in rows] == saved
                wire = Wire(http)
                for seq, name in enumerate(saved, 1):
                    assert "error" not in wire.run("load_weights", seq, path=name)
                name = f"step-{start}"
                assert wire.run("save_weights", len(saved) + 1, path=name)["path"] == name
                saved.append(name)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    assert len(list((state / "blobs" / "local" / "j1").iterdir())) == 3


def test_what_a_killed_save_left_aside_is_removed_and_never_listed(backend: DictBackend, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Emulator(backend, state_dir=state) as emu:
        create(emu)
    left = state / "blobs" / ".staging" / "3"
    left.mkdir(parents=True)
    (left / ".metadata").write_text("half")
    with Emulator(backend, state_dir=state) as emu:
        assert not left.exists()
        assert FireworksClient(api_key=emu.api_key, base_url=emu.url).list_checkpoints("j1") == []


def test_stopping_does_not_wait_for_a_long_poll(backend: DictBackend) -> None:
    emu = Emulator(backend).start()
    create(emu)
    with talking(emu.url) as http:
        wire = Wire(http)
        emu.quirks.set("optim.slow_s", 60.0)
        wire.submit("optim_step", 1)
        began = time.perf_counter()
        emu.stop()
        assert time.perf_counter() - began < 5


def test_env_names_every_address_a_client_may_look_for(backend: DictBackend) -> None:
    with Emulator(backend) as emu:
        env = emu.env()
        assert {env[name] for name in ("FIREWORKS_BASE_URL", "FIREWORKS_TRAINER_GATEWAY_URL")} == {emu.url}
        assert (env["FIREWORKS_API_KEY"], env["FIREWORKS_ACCOUNT_ID"]) == (emu.api_key, emu.account)


@pytest.mark.parametrize(
    ("style", "read"),
    [
        ("status", lambda answer: answer.json()["message"]),
        ("error_object", lambda answer: answer.json()["error"]["message"]),
        ("detail", lambda answer: answer.json()["detail"]),
        ("text", lambda answer: answer.text),
    ],
)
def test_error_bodies_come_in_every_shape(backend: DictBackend, style: str, read: object) -> None:
    with Emulator(backend) as emu, talking(emu.url) as http:
        emu.quirks.set("errors.style", style)
        answer = http.get("/v1/accounts/local/rlorTrainerJobs/none")
        assert answer.status_code == 404
        assert "not found" in read(answer)  # type: ignore[operator]
