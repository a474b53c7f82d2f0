"""Quotas tell what the creates refuse by, and how much of it is taken."""

from collections.abc import Callable
from typing import Any

import httpx

from emulator.server import Emulator


def quotas(http: httpx.Client, emu: Emulator) -> dict[str, tuple[str, int]]:
    listed = http.get(f"/v1/accounts/{emu.account}/quotas").json()["quotas"]
    return {one["name"].rpartition("/")[2]: (one["maxValue"], one["usage"]) for one in listed}


def test_a_quota_tells_what_is_taken_until_a_create_is_refused(
    http: httpx.Client, emu: Emulator, new_job: Callable[..., Any]
) -> None:
    assert quotas(http, emu) == {"training-runs": ("8", 0)}, "what has no limit is left out"
    emu.quirks.set("jobs.quota", 2)
    assert quotas(http, emu)["trainer-jobs"] == ("2", 0)
    new_job("one")
    new_job("two")
    assert quotas(http, emu)["trainer-jobs"] == ("2", 2)
    body = {"serviceMode": True, "trainingConfig": {"baseModel": "accounts/fireworks/models/qwen3-8b"}}
    assert http.post(f"/v1/accounts/{emu.account}/rlorTrainerJobs", json=body).status_code == 403
    http.delete(f"/v1/accounts/{emu.account}/rlorTrainerJobs/one")
    one = http.get(f"/v1/accounts/{emu.account}/quotas/trainer-jobs").json()
    assert (one["value"], one["usage"]) == ("2", 1)
    assert http.get(f"/v1/accounts/{emu.account}/quotas/trainers").status_code == 404


def test_replicas_count_as_many_as_they_may_become(http: httpx.Client, emu: Emulator) -> None:
    emu.quirks.set("deployments.quota", 5)
    body = {"baseModel": "accounts/fireworks/models/qwen3-8b", "maxReplicaCount": 3, "acceleratorType": "NVIDIA_H200"}
    made = http.post(f"/v1/accounts/{emu.account}/deployments?deploymentId=d1", json=body)
    assert made.status_code == 200, made.text
    assert quotas(http, emu)["deployment-replicas"] == ("5", 3)
