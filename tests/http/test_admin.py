"""The control API over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from emulator.core.clock import parse_rfc3339
from emulator.platform.deployments.spec import DeploymentSpec
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from emulator.state.blobs import RECORD
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import Wire

JOB = "accounts/local/rlorTrainerJobs/j1"
SHAPE = "accounts/fireworks/deploymentShapes/ds-qwen3-8b"


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path)) as emulator:
        emulator.platform.jobs.create("local", JobSpec(base_model=BASE), "j1")
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}) as client:
        yield client


def test_state_and_rows(emu: Emulator, http: httpx.Client) -> None:
    wire = Wire(http)
    wire.run("optim_step", 1)
    wire.run("save_weights", 2, path="step-1")
    (job,) = http.get("/_ftsim/state").json()["jobs"]
    assert (job["name"], job["live_models"]) == (JOB, [wire.model_id])
    assert job["checkpoints"] == [{"id": "step-1", "kind": "CHECKPOINT_TYPE_TRAINING", "step": 1}]
    answer = http.get("/_ftsim/rows", params={"owner": JOB}).json()
    (row,) = answer["rows"]
    assert (row["name"], row["step"], row["saved_as"]) == (f"{JOB}/checkpoints/step-1", 1, "save_weights")
    files = [path for path in emu.platform.blobs.path(row["blob"]).iterdir() if path.name != RECORD]
    assert row["size"] == sum(path.stat().st_size for path in files)
    assert answer["now"] * 1_000_000 == pytest.approx(emu.clock.now(), abs=60_000_000)


def test_the_ledger_tells_every_load_and_the_row_who_loaded_it(emu: Emulator, http: httpx.Client) -> None:
    wire = Wire(http)
    wire.run("save_weights_for_sampler", 1, path="one")
    spec = DeploymentSpec(BASE, enable_hot_load=True, hot_load_trainer_job=JOB, deployment_shape=SHAPE)
    emu.platform.deployments.create("local", spec, "d1")
    (saved,) = (row.id for row in emu.world.checkpoints.of(JOB))
    for identity in (saved, "nowhere"):
        emu.platform.hotload.start("local", "d1", BASE, identity, None)
    loaded, refused = http.get("/_ftsim/deployments/d1/snapshots").json()["snapshots"]
    assert (loaded["identity"], loaded["error"], loaded["checkpoint"]) == (saved, "", f"{JOB}/checkpoints/{saved}")
    assert refused["identity"] == "nowhere"
    assert "not found" in refused["error"]
    assert parse_rfc3339(loaded["time"]) < parse_rfc3339(refused["time"]) < emu.clock.now()
    (row,) = http.get("/_ftsim/rows", params={"owner": JOB}).json()["rows"]
    assert row["loaded_by"] == ["d1"]
    assert http.get("/_ftsim/deployments/none/snapshots").status_code == 404


def test_the_clock_only_moves_forward(emu: Emulator, http: httpx.Client) -> None:
    before = emu.clock.now()
    assert http.post("/_ftsim/clock", json={"advance_s": 3600}).status_code == 200
    assert emu.clock.now() - before >= 3600 * 1_000_000


def test_quirks_are_set_listed_and_cleared(emu: Emulator, http: httpx.Client) -> None:
    body = {"name": "http.fail", "value": 503, "times": 2, "for_s": 60, "where": {"endpoint": "get_job"}}
    assert http.post("/_ftsim/quirks", json=body).json()["left"] == 2
    http.post("/_ftsim/quirks", json={"name": "rpc.dedupe", "value": False})
    path = "/v1/accounts/local/rlorTrainerJobs/j1"
    assert [http.get(path).status_code for _ in range(3)] == [503, 503, 200]
    listed = http.get("/_ftsim/quirks").json()
    assert [setting["name"] for setting in listed["active"]] == ["rpc.dedupe"]
    assert {"http.fail", "rows.time_precision"} <= {quirk["name"] for quirk in listed["table"]}
    http.delete("/_ftsim/quirks", params={"name": "rows.time_precision"})
    assert len(emu.quirks.active()) == 1
    http.delete("/_ftsim/quirks")
    assert emu.quirks.active() == []


def test_a_preempted_job_has_failed(emu: Emulator, http: httpx.Client) -> None:
    assert http.post("/_ftsim/jobs/j1:preempt").json() == {"name": JOB, "state": "JOB_STATE_FAILED"}
    assert http.post("/_ftsim/jobs/j1:preempt").status_code == 400


def test_reset_and_seed(emu: Emulator, http: httpx.Client) -> None:
    models = []
    for seed in (1, 2, 1):
        http.post("/_ftsim/seed", json={"seed": seed})
        assert len(emu.world.jobs) == 0
        emu.platform.jobs.create("local", JobSpec(base_model=BASE), "j1")
        models.append(Wire(http).model_id)
    assert models[0] == models[2] != models[1]
    http.post("/_ftsim/reset")
    assert (len(emu.world.jobs), len(emu.journal)) == (0, 0)


def test_the_journal_keeps_bodies_and_no_keys(emu: Emulator, http: httpx.Client) -> None:
    wire = Wire(http)
    wire.post("telemetry", {"events": ["x" * 1_000_000]})
    http.get("/v1/accounts/local/rlorTrainerJobs/none")
    told = http.get("/_ftsim/journal", params={"limit": 3}).json()["exchanges"]
    assert [(e["endpoint"], e["status"]) for e in told[1:]] == [("telemetry", 200), ("get_job", 404)]
    assert (len(told[1]["request"]), told[1]["request_size"] > 5000) == (4096, True)
    assert "not found" in told[2]["response"]
    assert emu.api_key not in http.get("/_ftsim/journal").text
    only = http.get("/_ftsim/journal", params={"endpoint": "create_session"}).json()["exchanges"]
    assert [e["endpoint"] for e in only] == ["create_session"]
    (created,) = emu.journal.of("create_model")
    assert created.json == wire.created
    assert created.answer["model_id"] == wire.model_id
    assert emu.journal.of("telemetry")[0].json is None


def test_the_journal_tells_what_changed_and_which_quirk_struck(emu: Emulator, http: httpx.Client) -> None:
    body = {"trainingConfig": {"baseModel": BASE}}
    http.post("/v1/accounts/local/rlorTrainerJobs", params={"rlorTrainerJobId": "j2"}, json=body)
    emu.quirks.set("http.delay_s", 0.001, times=1)
    http.get("/v1/accounts")
    made, slow = http.get("/_ftsim/journal", params={"limit": 2}).json()["exchanges"]
    assert made["changes"] == [{"kind": "job", "how": "created", "name": JOB.replace("j1", "j2")}]
    assert slow["quirks"] == [{"name": "http.delay_s", "value": 0.001}]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "clock", {"advance_s": -1}, 400),
        ("POST", "clock", {"advance_s": "1"}, 400),
        ("POST", "clock", {"advance_s": True}, 400),
        ("POST", "clock", {"advance_s": 1e12}, 400),
        ("POST", "clock", {"advance_s": 10**400}, 400),
        ("POST", "seed", {"seed": "x"}, 400),
        ("POST", "quirks", {"name": "no.such", "value": 1}, 400),
        ("POST", "quirks", {"name": "http.fail", "value": "x"}, 400),
        ("POST", "quirks", {"name": "http.fail"}, 400),
        ("POST", "quirks", {"name": "http.fail", "value": 99999}, 400),
        ("POST", "quirks", {"name": "http.fail", "value": 503, "times": -3}, 400),
        ("POST", "quirks", {"name": "http.fail", "value": 503, "times": 0}, 400),
        ("POST", "quirks", {"name": "http.fail", "value": 503, "for_s": 1e300}, 400),
        ("POST", "quirks", {"name": "http.fail", "value": 503, "for_s": -1}, 400),
        ("POST", "quirks", {"name": "jobs.pending_s", "value": 1e300}, 400),
        ("POST", "quirks", {"name": "http.fail", "value": 1, "times": "2"}, 400),
        ("POST", "quirks", {"name": "http.fail", "value": 1, "where": {"planet": "mars"}}, 400),
        ("POST", "jobs/none:preempt", {}, 404),
        ("GET", "journal?limit=x", None, 400),
        ("GET", "journal?limit=%C2%B2", None, 400),
        ("GET", "rows?owner=j1", None, 400),
        ("GET", "rows?owner=accounts/other/rlorTrainerJobs/j1", None, 400),
        ("GET", "nothing", None, 404),
    ],
)
def test_bad_requests_say_why(http: httpx.Client, method: str, path: str, body: object, status: int) -> None:
    answer = http.request(method, f"/_ftsim/{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["message"]
    assert http.get("/_ftsim/state").json()["quirks"] == []
