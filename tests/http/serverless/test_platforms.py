"""The platform of a date: each row of docs/wire.md's table that a server decides, cell by cell."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.core.catalogue import PLATFORMS
from emulator.core.errors import InvalidArgument
from emulator.core.kinds import CheckpointKind
from emulator.quirks import profiles
from emulator.server import Emulator
from emulator.state.entities import Checkpoint, Job
from tests.doubles import BASE
from tests.http.serverless.conftest import Serve, step
from tests.sdk import RequestFailedError

FW = "accounts/fireworks/models"
HOT_LOAD = "/hot_load/v1/models/hot_load"
EXTRA = "Extra inputs are not permitted"


_MANAGED = "test_data_sets_are_not_written_and_managed_jobs_not_made_on_any_date"
HERE = "tests.http.serverless.test_platforms"
TESTED = {
    "`reset_prompt_cache`": (HERE, "test_fields_of_a_hot_load"),
    "`validation` of a hot load": (HERE, "test_fields_of_a_hot_load"),
    "ledger and hint of a hot load": ("tests.http.control.test_ledger", "test_ledger_and_hint_are_there_since_august"),
    "`availability`, `checkpointName` of a row": (HERE, "test_fields_of_a_row"),
    "`restoreReference` of a row": (HERE, "test_fields_of_a_row"),
    "states of a session": (HERE, "test_fields_and_states_of_a_session"),
    "writing data sets": ("tests.http.control.test_managed", _MANAGED),
    "creating managed jobs": ("tests.http.control.test_managed", _MANAGED),
    "longest name of a save on the pool": (HERE, "test_names_of_checkpoints_on_the_pool"),
    "runs on the pool": (HERE, "test_runs_on_the_pool"),
    "idle stop of a trainer": (HERE, "test_idle_jobs_are_stopped"),
    "model of a stream's chunks": (
        "tests.http.inference.test_hot_load",
        "test_a_stream_names_the_snapshot_that_answers",
    ),
    "key of a page of rows": (HERE, "test_the_key_of_a_page_of_rows"),
    "catalogue": (HERE, "test_the_catalogue"),
}
"""The rows of docs/wire.md's table of the platforms, and the test that asks each cell of one."""


def test_every_row_of_the_table_has_a_test_of_all_its_cells() -> None:
    text = (Path(__file__).parents[3] / "docs" / "wire.md").read_text("utf-8")
    section = text[text.index("### 1.3.1") : text.index("### 1.4")]
    rows = [line.split(" | ")[0].strip("| ") for line in section.splitlines() if line.startswith("| ")]
    assert rows[0] == "behaviour"
    assert rows[1:] == list(TESTED)
    for module, name in TESTED.values():
        assert callable(getattr(importlib.import_module(module), name)), name


@pytest.fixture(params=PLATFORMS)
def platform(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def emulator_settings(tmp_path: Path, platform: str) -> dict[str, Any]:
    return {"state_dir": tmp_path / "state", "api_key": "key1", "platform": platform}


@pytest.mark.parametrize(
    ("field", "value"),
    [("reset_prompt_cache", True), ("reset_prompt_cache", "new_session"), ("validation", {"extra_fields_ignore": []})],
)
def test_fields_of_a_hot_load(emu: Emulator, http: httpx.Client, platform: str, field: str, value: object) -> None:
    headers = {"fireworks-deployment": f"accounts/{emu.account}/deployments/d1", "fireworks-model": BASE}
    answer = http.post(HOT_LOAD, json={"identity": "s1", field: value}, headers=headers)
    refused = f"{field}: {EXTRA}" in answer.text
    assert refused == (platform == "2026-04")
    assert refused or answer.status_code == 404, "there is no such deployment, and nothing else to say"


def test_the_field_validation_is_refused_where_its_switch_says_so(emu: Emulator, http: httpx.Client) -> None:
    headers = {"fireworks-deployment": f"accounts/{emu.account}/deployments/d1", "fireworks-model": BASE}
    body = {"identity": "s1", "validation": {"extra_fields_ignore": ["a"]}}
    with emu.quirks.set("hotload.validation", "reject", deployment="d1"):
        assert f"validation: {EXTRA}" in http.post(HOT_LOAD, json=body, headers=headers).text
    with emu.quirks.set("hotload.validation", "accept", deployment="d1"):
        assert http.post(HOT_LOAD, json=body, headers=headers).status_code == 404


def test_names_on_the_pool_have_the_limit_that_is_set(emu: Emulator, new_job: Callable[..., Job]) -> None:
    subject = new_job("j1").subject
    with emu.quirks.set("sessions.names_max_len", 5):
        emu.platform.checkpoints.check_name(subject, "a" * 5, serverless=True)
        emu.platform.checkpoints.check_name(subject, "a" * 6)
        with pytest.raises(InvalidArgument, match="has 6 characters: use at most 5"):
            emu.platform.checkpoints.check_name(subject, "a" * 6, serverless=True)


@pytest.mark.parametrize("sampler", [False, True])
def test_names_of_checkpoints_on_the_pool(serve: Serve, platform: str, sampler: bool) -> None:
    training = serve().create_lora_training_client(BASE, rank=8)
    step(training, 1)

    def save(name: str) -> None:
        training.save_weights_for_sampler_ext(name) if sampler else training.save_state(name).result()

    save("a" * 17)
    if platform == "2026-04":
        save("b" * 18)
        return
    with pytest.raises((RequestFailedError, RuntimeError), match="has 18 characters: use at most 17"):
        save("b" * 18)


def test_names_of_sampler_saves_on_a_trainer_have_a_limit_when_it_is_turned_on(
    emu: Emulator, new_job: Callable[..., Job]
) -> None:
    subject = new_job("j1").subject
    emu.platform.checkpoints.check_name(subject, "c" * 55, sampler=True)
    with emu.quirks.set("sampler.names_max_len", 54):
        emu.platform.checkpoints.check_name(subject, "c" * 54, sampler=True)
        emu.platform.checkpoints.check_name(subject, "c" * 55)
        with pytest.raises(InvalidArgument, match="has 55 characters: use at most 54"):
            emu.platform.checkpoints.check_name(subject, "c" * 55, sampler=True)


def test_runs_on_the_pool(serve: Serve, platform: str) -> None:
    for _ in range(8):
        serve().create_lora_training_client(BASE, rank=8)
    if platform == "2026-04":
        serve().create_lora_training_client(BASE, rank=8)
        return
    with pytest.raises(Exception, match="has 8 training runs on the pool and may have 8 at a time"):
        serve().create_lora_training_client(BASE, rank=8)


def test_idle_jobs_are_stopped(emu: Emulator, http: httpx.Client, new_job: Callable[..., Job], platform: str) -> None:
    new_job("j1")
    patience = 3600 if platform == "2026-04" else 600
    emu.clock.advance(patience - 5)
    assert http.get("/v1/accounts/local/rlorTrainerJobs/j1").json()["state"] == "JOB_STATE_RUNNING"
    emu.clock.advance(10)
    assert http.get("/v1/accounts/local/rlorTrainerJobs/j1").json()["state"] == "JOB_STATE_PAUSED"


def test_fields_of_a_row(emu: Emulator, http: httpx.Client, new_job: Callable[..., Job], platform: str) -> None:
    owners = (new_job("j1").name, emu.platform.sessions.create("local").name)
    with emu.world.change():
        for owner in owners:
            now = emu.clock.now()
            row = Checkpoint(owner, f"run-{'0' * 32}-s", now, now, CheckpointKind.TRAINING_LORA, "gone", BASE)
            emu.world.checkpoints.put(row)
    body = http.get(f"/v1/{owners[0]}/checkpoints").json()
    (of_job,) = body.get("checkpoints") or body["rlorTrainerJobCheckpoints"]
    body = http.get(f"/v1/{owners[1]}/checkpoints").json()
    (of_session,) = body.get("trainingSessionCheckpoints") or body["rlorTrainerJobCheckpoints"]
    assert body["totalSize"] == 1
    newer = {"availability", "checkpointName", "restoreReference"}
    if platform == "2026-04":
        assert not newer & (of_job.keys() | of_session.keys())
        return
    where = {"availabilityClass": "SINGLE_REGION", "region": "REGION_UNSPECIFIED"}
    times = {name: of_job[name] for name in ("createTime", "updateTime")}
    assert of_job["availability"] == [{**where, **times}]
    assert of_job["restoreReference"] == f"cross_job://j1/run-{'0' * 32}-s"
    assert "checkpointName" not in of_job
    assert "restoreReference" not in of_session
    assert of_session["checkpointName"] == f"run-{'0' * 32}-s"
    with emu.quirks.set("rows.restore_reference", "name"), emu.quirks.set("rows.availability", "MANAGED_DURABLE"):
        (bent,) = http.get(f"/v1/{owners[0]}/checkpoints").json()["checkpoints"]
    assert bent["restoreReference"] == f"run-{'0' * 32}-s"
    assert bent["availability"][0]["availabilityClass"] == "MANAGED_DURABLE"


def test_fields_and_states_of_a_session(emu: Emulator, http: httpx.Client) -> None:
    session = emu.platform.sessions.create("local")
    shown = http.get(f"/v1/{session.name}").json()
    assert shown.keys() >= {"name", "displayName", "createdBy", "status", "createTime", "updateTime"}
    assert (shown["state"], shown["referenceState"]) == (
        "TRAINING_SESSION_STATE_READY",
        "TRAINING_SESSION_REFERENCE_STATE_UNSPECIFIED",
    )
    emu.clock.advance(1801)
    assert http.get(f"/v1/{session.name}").json()["state"] == "TRAINING_SESSION_STATE_EXPIRED"


def test_the_key_of_a_page_of_rows(http: httpx.Client, new_job: Callable[..., Job], platform: str) -> None:
    new_job("j1")
    body = http.get("/v1/accounts/local/rlorTrainerJobs/j1/checkpoints").json()
    assert ("rlorTrainerJobCheckpoints" in body) == (platform == "2026-04")


def test_the_catalogue(emu: Emulator, platform: str) -> None:
    names = set(emu.platform.catalogue.models)
    assert f"{FW}/qwen3-8b" in names
    late = {"kimi-k3", "muse-glimmer-30b", "qwen3p8-27b", "deepseek-v4-flash-0731"}
    assert {name for name in late if f"{FW}/{name}" in names} == (set() if platform == "2026-04" else late)
    assert (f"{FW}/glm-5p3" in names) == (platform == "2026-11")


def test_a_state_folder_remembers_its_platform(emu: Emulator, tmp_path: Path, platform: str) -> None:
    emu.stop()
    with Emulator(state_dir=tmp_path / "state") as again:
        assert again.world.platform == platform
        assert again.platform.catalogue.platform == platform
        again.reset()
        assert again.world.platform == platform
    with Emulator(state_dir=tmp_path / "state", platform="2026-08") as moved:
        assert moved.world.platform == "2026-08"
    with Emulator(state_dir=tmp_path / "state") as again:
        assert again.world.platform == "2026-08"


def test_a_snapshot_brings_its_platform(emu: Emulator, platform: str) -> None:
    file = emu.snapshot()
    with Emulator(platform="2026-11") as other:
        other.restore(file)
        assert other.world.platform == platform
        assert other.quirks.value("jobs.inactivity_s", job="j1") == (3600.0 if platform == "2026-04" else 600.0)


def test_a_setting_stands_above_the_platform(emu: Emulator) -> None:
    emu.move_to("2026-04")
    with emu.quirks.set("jobs.inactivity_s", 60.0, job="j1"):
        assert emu.quirks.value("jobs.inactivity_s", job="j1") == 60.0
        assert emu.quirks.value("jobs.inactivity_s", job="j2") == 3600.0
    assert emu.quirks.value("jobs.inactivity_s", job="j1") == 3600.0
    emu.move_to("2026-11")
    assert emu.quirks.value("jobs.inactivity_s", job="j1") == 600.0
    assert emu.quirks.quiet


def test_april_2026_is_another_name_for_the_oldest(emu: Emulator) -> None:
    emu.move_to("april-2026")
    assert emu.world.platform == "2026-04"
    beneath = {spec.name: emu.quirks.table[spec.name].check(spec.value) for spec in profiles.load("april-2026")}
    assert all(emu.quirks.value(emu.quirks.table[name], _anybody()) == value for name, value in beneath.items())


def _anybody() -> Any:
    from emulator.core.names import Subject

    return Subject("a", "j", "d", "c", "list_jobs")


def test_a_date_that_is_none_is_refused(emu: Emulator) -> None:
    with pytest.raises(InvalidArgument, match="the oldest platform is 2026-04"):
        emu.move_to("2026-01")
    with pytest.raises(InvalidArgument, match="a platform is a date"):
        Emulator(platform="autumn")
