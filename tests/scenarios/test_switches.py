"""Switches that no scenario needs, each seen from the client."""

from collections.abc import Iterator

import pytest

from ftsim.scenarios import shared_backend
from ftsim.scenarios.support.stage import BASE, Stage, open_stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_stage(shared_backend()) as opened:
        yield opened


def test_the_largest_rank_is_set_by_the_server(stage: Stage) -> None:
    stage.quirks.set("jobs.max_lora_rank", 8)
    config = {"baseModel": BASE, "loraRank": 16, "maxContextLength": 64}
    answer = stage.http.post(f"/v1/accounts/{stage.account}/rlorTrainerJobs", json={"trainingConfig": config})
    assert answer.status_code == 400
    assert "8" in answer.json()["message"]


def test_a_deployment_is_creating_for_so_many_reads(stage: Stage) -> None:
    stage.quirks.set("deployments.create_reads", 2)
    deploy(stage)
    states = [stage.deployments.get("d1").state for _ in range(3)]
    assert states == ["CREATING", "CREATING", "READY"]


def test_an_unknown_snapshot_is_an_error_in_the_status_or_at_once(stage: Stage) -> None:
    deploy(stage)
    headers = {"fireworks-deployment": f"accounts/{stage.account}/deployments/d1", "fireworks-model": BASE}
    path, body = "/hot_load/v1/models/hot_load", {"identity": "nowhere"}
    assert stage.http.post(path, json=body, headers=headers).status_code == 200
    (replica,) = stage.http.get(path, headers=headers).json()["replicas"]
    assert replica["loading_state"]["stage"] == "error"
    stage.quirks.set("hotload.unknown_identity", "404")
    assert stage.http.post(path, json=body, headers=headers).status_code == 404


def test_a_load_is_carried_out_after_so_many_reads(stage: Stage) -> None:
    client = stage.client()
    deploy(stage, hot_load_trainer_job=stage.job_name("job-1"))
    saved = client.save_weights_for_sampler_ext("step-0", checkpoint_type="base").snapshot_name
    stage.quirks.set("hotload.duration_reads", 2)
    stage.deployments.hotload("d1", BASE, saved)
    held = [
        stage.deployments.hotload_check_status("d1", BASE)["replicas"][0]["current_snapshot_identity"] for _ in range(3)
    ]
    assert held[0] != saved
    assert held[-1] == saved


def deploy(stage: Stage, **settings: str) -> None:
    from fireworks.training.sdk import DeploymentConfig

    stage.deployments.create_or_get(
        DeploymentConfig(
            deployment_id="d1",
            base_model=BASE,
            description="for tests",
            accept_shapeless_risk=True,
            min_replica_count=1,
            **settings,
        )
    )


def test_a_server_may_suffix_sampler_rows_as_it_likes(stage: Stage) -> None:
    stage.quirks.set("sampler.suffix", "random")
    client = stage.client()
    asked = client.save_weights_for_sampler_ext("step-0", checkpoint_type="base")
    (row,) = stage.rows("job-1")
    assert row.id == asked.path
    assert row.id.startswith("step-0-")
    assert row.id != asked.snapshot_name


@pytest.mark.parametrize("state", ["PAUSED", "COMPLETED"])
def test_an_idle_job_settles_where_the_server_says(stage: Stage, state: str) -> None:
    stage.quirks.set("jobs.inactivity_s", 60.0)
    stage.quirks.set("jobs.inactivity_settles_in", state)
    stage.job(inactivity_s=60.0)
    assert stage.manager.get("job-1")["state"] == "JOB_STATE_RUNNING"
    stage.clock.advance(61)
    assert stage.manager.get("job-1")["state"] == f"JOB_STATE_{state}"
    stage.manager.resume_and_wait("job-1")
    assert stage.manager.get("job-1")["state"] == "JOB_STATE_RUNNING"
