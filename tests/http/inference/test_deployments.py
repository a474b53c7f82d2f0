"""Deployments through the SDK's manager (WIRE 1.12, 4.2; FAILURES E14 to E22)."""

from typing import Any

import httpx
import pytest
from fireworks.training.sdk import DeploymentConfig, DeploymentManager

from emulator import Emulator
from emulator.platform.jobs.spec import JobSpec
from tests.http.inference.conftest import BASE, SHAPE, Deploy


def url(emulator: Emulator, deployment: str = "") -> str:
    return f"/v1/accounts/{emulator.account}/deployments" + (f"/{deployment}" if deployment else "")


def scaled(http: httpx.Client, deployment: str, replicas: int) -> int:
    """Scale, which answers nothing, and count the replicas."""
    assert http.patch(f"{deployment}:scale", json={"replicaCount": replicas}).json() == {}
    return int(http.get(deployment).json()["replicaCount"])


def body(**more: Any) -> dict[str, Any]:
    full = {"baseModel": BASE, "deploymentShape": SHAPE, "enableHotLoad": True, "description": "x", **more}
    return {key: value for key, value in full.items() if value is not None}


def job(emulator: Emulator, job_id: str, **facts: Any) -> str:
    return emulator.platform.jobs.create(emulator.account, JobSpec(BASE, **facts), job_id).name


def test_a_deployment_is_ready_at_once_and_gone_when_deleted(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy
) -> None:
    assert deploy() == f"accounts/{emulator.account}/deployments/d1"
    info = manager.get("d1")
    assert info is not None
    assert (info.state, info.base_model, info.hot_load_transition_type) == ("READY", BASE, None)
    assert info.deployment_shape_version == f"{SHAPE}/versions/v1"
    assert info.hot_load_bucket_url == f"gs://emu/rl-checkpoints/{emulator.account}/d1/"
    manager.delete("d1")
    assert manager.get("d1") is None


def test_a_taken_id_is_a_conflict_and_the_manager_uses_what_is_there(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, http: httpx.Client
) -> None:
    deploy()
    assert http.post(url(emulator), params={"deploymentId": "d1"}, json=body()).status_code == 409
    other = DeploymentConfig("d1", "accounts/fireworks/models/qwen3-8b")
    assert manager.create_or_get(other).base_model == BASE  # FAILURES E20


@pytest.mark.parametrize(
    ("change", "query", "says"),
    [
        ({"deploymentShape": "ds-qwen3-4b"}, {}, "invalid deploymentShape"),
        ({"deploymentShape": None}, {}, "acceleratorType"),
        ({"acceleratorType": "NVIDIA_H200_141GB"}, {}, "shape has its own"),
        ({}, {"acceptShapelessRisk": "true"}, "acceptShapelessRisk"),
        ({"deploymentShape": "accounts/fireworks/deploymentShapes/ds-qwen3-8b"}, {}, "is for"),
        ({"baseModel": None}, {}, "baseModel is required"),
        ({"minReplicaCount": 3, "maxReplicaCount": 1}, {}, "minReplicaCount"),
        ({"hotLoadTransitionType": "LATER"}, {}, "hotLoadTransitionType"),
        ({"enableHotLoad": False, "hotLoadTrainerJob": "x"}, {}, "enableHotLoad"),
        ({"hotLoadTrainerJob": "accounts/local/rlorTrainerJobs/none"}, {}, "does not exist"),
        ({}, {"deploymentId": "Bad_Id"}, "invalid deploymentId"),
    ],
)
def test_a_create_that_makes_no_sense_is_refused(
    emulator: Emulator, http: httpx.Client, change: dict[str, Any], query: dict[str, str], says: str
) -> None:
    answer = http.post(url(emulator), params={"deploymentId": "d1", **query}, json=body(**change))
    assert answer.status_code == 400
    assert says in answer.json()["message"]
    assert not list(emulator.world.deployments)


@pytest.mark.parametrize(
    ("quirk", "change", "says"),
    [
        ("deployments.require_description", {"description": None}, "description"),
        ("deployments.private_shapes", {}, "forTraining"),
    ],
)
def test_some_accounts_refuse_more(
    emulator: Emulator, http: httpx.Client, quirk: str, change: dict[str, Any], says: str
) -> None:
    with emulator.quirks.set(quirk, True):
        answer = http.post(url(emulator), params={"deploymentId": "d1"}, json=body(**change))
        assert (answer.status_code, says in answer.text) == (400, True)
    assert http.post(url(emulator), params={"deploymentId": "d1"}, json=body(**change)).status_code == 200


def test_bucket_scopes_cannot_be_mixed(emulator: Emulator, http: httpx.Client) -> None:
    per_trainer = job(emulator, "t1")
    http.post(url(emulator), params={"deploymentId": "own"}, json=body())
    bound = job(emulator, "t2", hot_load_deployment="own")
    refused = [
        http.post(url(emulator), params={"deploymentId": "d1"}, json=body(hotLoadTrainerJob=bound)),
        http.post(
            url(emulator),
            params={"deploymentId": "d1"},
            json=body(hotLoadTrainerJob=per_trainer, hotLoadBucketUrl="gs://b/"),
        ),
        http.patch(
            url(emulator, "own"), params={"updateMask": "hot_load_bucket_url"}, json={"hotLoadBucketUrl": "gs://b/"}
        ),
    ]
    http.post(url(emulator), params={"deploymentId": "d2"}, json=body(hotLoadTrainerJob=per_trainer))
    refused.append(
        http.post(
            f"/v1/accounts/{emulator.account}/rlorTrainerJobs",
            params={"rlorTrainerJobId": "t3", "deploymentId": "d2"},
            json={"trainingConfig": {"baseModel": BASE}},
        )
    )
    assert [answer.status_code for answer in refused] == [400] * 4
    says = ["hotload flow mismatch", "conflicts with", "conflicts with", "hotload flow mismatch"]
    assert all(text in answer.json()["message"] for text, answer in zip(says, refused, strict=True))
    with emulator.quirks.set("validation.skip", True):
        allowed = http.post(url(emulator), params={"deploymentId": "d1"}, json=body(hotLoadTrainerJob=bound))
    assert allowed.status_code == 200


def test_scaling_to_zero_keeps_the_deployment_ready_and_without_replicas(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, http: httpx.Client
) -> None:
    trainer = job(emulator, "t1")
    deploy(hot_load_trainer_job=trainer)
    manager.scale_to_zero("d1")
    seen = http.get(url(emulator, "d1")).json()
    assert (seen["state"], seen["replicaCount"], seen["hotLoadTrainerJob"]) == ("READY", 0, trainer)
    up = http.patch(
        url(emulator, "d1"),
        params={"updateMask": "minReplicaCount,maxReplicaCount"},
        json={"minReplicaCount": 2, "maxReplicaCount": 3},
    )
    assert up.json()["replicaCount"] == 2
    assert scaled(http, url(emulator, "d1"), 3) == 3
    assert http.patch(url(emulator, "d1") + ":scale", json={"replicaCount": 4}).status_code == 400


def test_a_patch_or_a_roll_leaves_as_many_replicas_as_there_were(
    emulator: Emulator, deploy: Deploy, http: httpx.Client
) -> None:
    deploy(hot_load_trainer_job=job(emulator, "t1"), max_replica_count=4)
    assert scaled(http, url(emulator, "d1"), 3) == 3
    assert http.patch(url(emulator, "d1"), json={"maxReplicaCount": 5}).json()["replicaCount"] == 3
    assert http.patch(url(emulator, "d1"), json={"hotLoadTrainerJob": job(emulator, "t2")}).json()["replicaCount"] == 3
    assert http.patch(url(emulator, "d1"), json={"maxReplicaCount": 2}).json()["replicaCount"] == 2
    http.patch(url(emulator, "d1"), json={"minReplicaCount": 0})
    assert scaled(http, url(emulator, "d1"), 0) == 0
    assert http.patch(url(emulator, "d1"), json={"hotLoadTrainerJob": job(emulator, "t3")}).json()["replicaCount"] == 0
    assert http.patch(url(emulator, "d1"), json={"maxReplicaCount": 1}).json()["replicaCount"] == 1


def test_hot_load_that_is_enabled_later_has_a_bucket_and_needs_its_trainer(
    emulator: Emulator, deploy: Deploy, http: httpx.Client
) -> None:
    deploy(enable_hot_load=False)
    attach = {"hotLoadTrainerJob": job(emulator, "t1")}
    refused = http.patch(url(emulator, "d1"), json=attach)
    assert (refused.status_code, "need enableHotLoad" in refused.text) == (400, True)
    nobody = {"enableHotLoad": True, "hotLoadTrainerJob": f"accounts/{emulator.account}/rlorTrainerJobs/none"}
    assert http.patch(url(emulator, "d1"), json=nobody).status_code == 400
    own = http.patch(url(emulator, "d1"), json={"enableHotLoad": True}).json()
    assert own["hotLoadBucketUrl"].endswith("/d1/")
    assert http.patch(url(emulator, "d1"), json=attach).json()["hotLoadBucketUrl"].endswith("/trainer-t1/")


def test_a_patch_without_mask_may_replace_everything(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, http: httpx.Client
) -> None:
    deploy(hot_load_trainer_job=job(emulator, "t1"))
    emulator.quirks.set("deployments.patch_without_mask", "replace_all")
    manager.scale_to_zero("d1")
    assert http.get(url(emulator, "d1")).json().get("hotLoadTrainerJob", "") == ""


def test_a_mask_zeroes_what_it_names_and_the_body_lacks(emulator: Emulator, deploy: Deploy, http: httpx.Client) -> None:
    deploy(description="first")
    answer = http.patch(url(emulator, "d1"), params={"updateMask": "description"}, json={"displayName": "n"}).json()
    assert (answer["description"], answer.get("displayName")) == ("", None)
    assert http.patch(url(emulator, "d1"), params={"updateMask": "base_model"}, json={}).status_code == 400


def test_a_refused_patch_changes_nothing(emulator: Emulator, deploy: Deploy, http: httpx.Client) -> None:
    deploy()
    before = http.get(url(emulator, "d1")).json()
    answer = http.patch(
        url(emulator, "d1"),
        params={"updateMask": "description,hot_load_trainer_job"},
        json={"description": "y", "hotLoadTrainerJob": "accounts/local/rlorTrainerJobs/none"},
    )
    assert answer.status_code == 400
    assert http.get(url(emulator, "d1")).json() == before


def test_a_slow_roll_answers_with_the_old_replica_first(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, http: httpx.Client
) -> None:
    deploy()
    (old,) = manager.hotload_check_status("d1", BASE)["replicas"]
    emulator.quirks.set("deployments.roll_s", 120.0)
    manager.update("d1", {"hotLoadTransitionType": "SYNC"}, "hot_load_transition_type")
    assert http.get(url(emulator, "d1")).json()["state"] == "UPDATING"
    assert manager.hotload_check_status("d1", BASE)["replicas"][0]["identity"] == old["identity"]
    emulator.clock.advance(121)
    assert http.get(url(emulator, "d1")).json()["state"] == "READY"
    assert manager.hotload_check_status("d1", BASE)["replicas"][0]["identity"] != old["identity"]


def test_creation_takes_as_long_as_the_switches_say(
    emulator: Emulator, manager: DeploymentManager, http: httpx.Client
) -> None:
    emulator.quirks.set("deployments.create_s", 300.0)
    made = http.post(url(emulator), params={"deploymentId": "d1"}, json=body()).json()
    assert (made["state"], made["replicaCount"]) == ("CREATING", 0)
    emulator.clock.advance(301)
    assert http.get(url(emulator, "d1")).json()["state"] == "READY"


def test_a_deployment_stuck_in_creating_serves_and_the_manager_notices(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, http: httpx.Client
) -> None:
    emulator.quirks.set("deployments.stuck_creating", True)
    deploy()
    assert http.get(url(emulator, "d1")).json()["state"] == "CREATING"


def test_a_failed_deployment_is_made_anew(emulator: Emulator, manager: DeploymentManager, deploy: Deploy) -> None:
    emulator.quirks.set("deployments.settles_in", "FAILED", times=1)
    info = manager.create_or_get(DeploymentConfig("d1", BASE, deployment_shape=SHAPE))
    assert info.state == "FAILED"
    assert deploy() == f"accounts/{emulator.account}/deployments/d1"


def test_a_soft_delete_hides_and_can_be_undone(emulator: Emulator, deploy: Deploy, http: httpx.Client) -> None:
    deploy()
    deploy("d2")
    assert http.delete(url(emulator, "d1")).status_code == 200
    names = [row["name"][-2:] for row in http.get(url(emulator)).json()["deployments"]]
    assert names == ["d2"]
    assert len(http.get(url(emulator), params={"showDeleted": "true"}).json()["deployments"]) == 2
    assert http.get(url(emulator, "d1")).json()["state"] == "DELETED"
    assert http.post(url(emulator, "d1") + ":undelete").json()["state"] == "READY"
    assert http.post(url(emulator, "d1") + ":undelete").status_code == 400


def test_deployments_of_others_and_of_nobody(emulator: Emulator, http: httpx.Client) -> None:
    assert http.get(url(emulator, "none")).status_code == 404
    assert http.get("/v1/accounts/other/deployments/d1").status_code == 403
