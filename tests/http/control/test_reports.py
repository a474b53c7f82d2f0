"""Reports on deployments, jobs, runs and checkpoints, and what the autoscaling policy does."""

from typing import Any

import httpx
import pytest
from fireworks import Fireworks
from fireworks.training.sdk.client import FiretitanServiceClient

from emulator.server import Emulator
from ftsim.testing.clients import take_step
from tests.doubles import BASE
from tests.http.control.test_billing import complete, deploy


def test_an_idle_deployment_has_no_replicas_until_it_is_asked(emu: Emulator, http: httpx.Client) -> None:
    place = deploy(http, emu, autoscalingPolicy={"scaleToZeroWindow": "300s"})
    complete(http, place, 1)
    emu.clock.advance(290)
    assert http.get(f"/v1/{place}").json()["replicaCount"] == 1
    emu.clock.advance(20)
    assert http.get(f"/v1/{place}").json()["replicaCount"] == 0
    body = {"model": place, "prompt": [1], "max_tokens": 1}
    first = http.post("/inference/v1/completions", json=body)
    assert (first.status_code, "DEPLOYMENT_SCALING_UP" in first.text) == (503, True)
    assert http.post("/inference/v1/completions", json=body).status_code == 200


def test_a_part_of_the_policy_is_patched_alone(emu: Emulator, http: httpx.Client) -> None:
    place = deploy(http, emu, autoscalingPolicy={"scaleUpWindow": "30s"}, minReplicaCount=1)
    mask = {"updateMask": "min_replica_count,autoscaling_policy.scale_to_zero_window"}
    body: dict[str, Any] = {"minReplicaCount": 0, "autoscalingPolicy": {"scaleToZeroWindow": "300s"}}
    changed = http.patch(f"/v1/{place}", params=mask, json=body).json()
    assert changed["autoscalingPolicy"] == {"scaleUpWindow": "30s", "scaleToZeroWindow": "300s"}
    assert changed["minReplicaCount"] == 0
    for window in ("299s", "5m", 300):
        refused = http.patch(f"/v1/{place}", params=mask, json={"autoscalingPolicy": {"scaleToZeroWindow": window}})
        assert (refused.status_code, "from 300s on" in refused.text) == (400, True)
    assert http.get(f"/v1/{place}").json()["autoscalingPolicy"]["scaleToZeroWindow"] == "300s"


def test_shards_and_the_end_of_a_deployment_are_told(emu: Emulator, http: httpx.Client) -> None:
    place = deploy(http, emu, minReplicaCount=2)
    (shard,) = http.get(f"/v1/{place}/shards").json()["deploymentShards"]
    assert (shard["state"], shard["replicaStats"]["readyReplicaCount"]) == ("READY", 2)
    assert http.get(f"/v1/{place}/terminationMessage").json() == {"message": ""}
    emu.quirks.set("deployments.settles_in", "FAILED")
    failed = deploy(http, emu, "d2")
    assert "no replica came up" in http.get(f"/v1/{failed}/terminationMessage").json()["message"]
    http.delete(f"/v1/{place}")
    assert "undelete it" in http.get(f"/v1/{place}/terminationMessage").json()["message"]


def test_a_session_is_restored_from_outside_and_its_run_is_listed(emu: Emulator, http: httpx.Client) -> None:
    service = FiretitanServiceClient(base_url=f"{emu.url}/training/v1/serverless", api_key=emu.api_key)
    client = service.create_lora_training_client(base_model=BASE, rank=4)
    take_step(client, 0)
    path = client.save_state("one").result().path
    take_step(client, 1)
    (session,) = http.get(f"/v1/accounts/{emu.account}/trainingSessions").json()["trainingSessions"]
    restored = http.post(f"/v1/{session['name']}:loadState", json={"path": path})
    assert (restored.status_code, restored.json()["name"]) == (200, session["name"])
    trainer = emu.platform.pool.trainer(emu.account, session["name"].rpartition("/")[2])
    (model,) = trainer.models.values()
    assert trainer.backend._models[model.id].step == 1  # type: ignore[attr-defined]
    for sent, said in (({}, "path is required"), ({"path": "none"}, "not found")):
        refused = http.post(f"/v1/{session['name']}:loadState", json=sent)
        assert (refused.status_code, said in refused.text) == (400, True)
    (run,) = http.get(f"/v1/accounts/{emu.account}/trainingRuns").json()["trainingRuns"]
    assert (run["state"], run["baseModel"]) == ("READY", BASE)
    assert run["sourceTrainingSessionId"] == session["name"].rpartition("/")[2]
    assert http.get(f"/v1/{run['name']}").json() == run
    service.close()
    http.delete(f"/v1/{session['name']}")
    assert http.get(f"/v1/{run['name']}").json()["state"] == "EXPIRED"


def test_a_synced_checkpoint_says_where_else_it_is(emu: Emulator, http: httpx.Client, new_job: Any) -> None:
    new_job("j1")
    gateway = f"{emu.url}/training/v1/rlorTrainerJobs/{emu.account}/j1"
    service = FiretitanServiceClient(base_url=gateway, api_key=emu.api_key)
    service.create_training_client(base_model=BASE, lora_rank=0).save_state("one").result()
    service.close()
    rows = f"/v1/accounts/{emu.account}/rlorTrainerJobs/j1/checkpoints"
    wanted = {"region": "US_VIRGINIA_1", "targetAvailability": "MANAGED_DURABLE"}
    for _ in range(2):
        done = http.post(f"{rows}/one:sync", json=wanted).json()["checkpoint"]
    assert [one["region"] for one in done["availability"]] == ["REGION_UNSPECIFIED", "US_VIRGINIA_1"]
    assert http.get(rows).json()["checkpoints"] == [done]
    for sent, said in (({"region": "here"}, "US_VIRGINIA_1"), ({"targetAvailability": "NEAR"}, "MANAGED_DURABLE")):
        refused = http.post(f"{rows}/one:sync", json=sent)
        assert (refused.status_code, said in refused.text) == (400, True)
    assert http.post(f"{rows}/two:sync", json=wanted).status_code == 404


def test_the_log_of_a_job_is_read_without_a_key(emu: Emulator, http: httpx.Client, new_job: Any) -> None:
    new_job("j1")
    http.get(f"/v1/accounts/{emu.account}/rlorTrainerJobs/j1")
    link = http.get(f"/v1/accounts/{emu.account}/rlorTrainerJobs/j1/publicLogs").json()["signedUrl"]
    log = httpx.get(link)
    assert (log.status_code, " get_job 200\n" in log.text, "JOB_STATE_RUNNING" in log.text) == (200, True, True)
    assert httpx.get(link.replace("j1", "j2")).status_code == 403
    assert httpx.get(link.partition("?")[0]).status_code == 401


@pytest.mark.parametrize("size", [1, 200])
def test_serverless_models_are_listed(emu: Emulator, http: httpx.Client, size: int) -> None:
    path = f"/v1/accounts/{emu.account}/serverlessModels"
    found = http.get(path, params={"pageSize": size}).json()
    assert all(one["supportsServerless"] for one in found["models"])
    assert found["totalSize"] > 1
    with Fireworks(api_key=emu.api_key, base_url=emu.url, account_id=emu.account) as client:
        listed = {one.name for one in client.models.list(account_id="fireworks")}
    assert {one["name"] for one in found["models"]} <= listed
