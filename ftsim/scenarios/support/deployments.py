"""Helpers of the scenarios that deploy and hot-load."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ftsim.scenarios.support.stage import BASE, Stage

DEPLOYMENT = "dep-1"
PATH = "/hot_load/v1/models/hot_load"
SHAPE = "accounts/fireworks/deploymentShapes/ds-qwen3-4b"


def deploy(stage: Stage, job: str | None = "job-1", *, replicas: int = 1, **facts: Any) -> str:
    """A deployment, on the bucket of a trainer job or on its own; its model name."""
    info = stage.deployments.create_or_get(config(stage, job, replicas=replicas, **facts))
    return str(info.inference_model)


def config(stage: Stage, job: str | None = "job-1", *, replicas: int = 1, **facts: Any) -> Any:
    """A create request as the vendor's client makes it."""
    from fireworks.training.sdk import DeploymentConfig

    return DeploymentConfig(
        **{
            "deployment_id": DEPLOYMENT,
            "base_model": BASE,
            "accept_shapeless_risk": True,
            "min_replica_count": replicas,
            "max_replica_count": max(replicas, 1),
            "hot_load_trainer_job": stage.job_name(job) if job else None,
            **facts,
        }
    )


def syncer(stage: Stage, client: Any, **options: Any) -> Any:
    """The vendor's `WeightSyncer` from a training client to the deployment."""
    from fireworks.training.sdk import WeightSyncer

    return WeightSyncer(
        **{
            "policy_client": client,
            "deploy_mgr": stage.deployments,
            "deployment_id": DEPLOYMENT,
            "base_model": BASE,
            "warmup_after_hotload": False,
            **options,
        }
    )


def save(client: Any, name: str, kind: str = "base") -> str:
    """Save weights for sampling; the snapshot's identity."""
    return str(client.save_weights_for_sampler_ext(name, checkpoint_type=kind).snapshot_name)


def after(previous: str) -> dict[str, str]:
    """The metadata that a client sends with a delta."""
    return {"previous_snapshot_identity": previous, "compression_format": "arc_v2", "checksum_format": "alder32"}


def load(stage: Stage, identity: str, metadata: dict[str, str] | None = None, **options: Any) -> bool:
    """The manager's `hotload_and_wait`; its waiting passes on the emulator's clock."""
    with patient(stage):
        return bool(stage.deployments.hotload_and_wait(DEPLOYMENT, BASE, identity, metadata, **options))


def sync(stage: Stage, weights: Any, name: str, kind: str | None = None) -> str:
    """The syncer's `save_and_hotload`; its waiting passes on the emulator's clock."""
    with patient(stage):
        return str(weights.save_and_hotload(name, kind))


@contextlib.contextmanager
def patient(stage: Stage) -> Iterator[None]:
    """Nothing of the vendor's that deals with deployments really sleeps in here."""
    from fireworks.training.sdk import deployment, errors, weight_syncer

    with stage.fake_time(deployment, errors, weight_syncer):
        yield


def headers(stage: Stage) -> dict[str, str]:
    return {"fireworks-deployment": f"accounts/{stage.account}/deployments/{DEPLOYMENT}", "fireworks-model": BASE}


def status(stage: Stage) -> dict[str, Any]:
    """The hot-load status as it is on the wire."""
    return dict(stage.http.get(PATH, headers=headers(stage)).json())


def replicas(stage: Stage) -> list[dict[str, Any]]:
    return list(status(stage)["replicas"])


def served(stage: Stage) -> list[str | None]:
    """The snapshot that each replica says it serves."""
    return [replica["current_snapshot_identity"] for replica in replicas(stage)]


def first_error(stage: Stage) -> str:
    """The first replica's error."""
    return str(replicas(stage)[0]["loading_state"].get("error", ""))


def weights(stage: Stage) -> list[str]:
    """A digest of the weights that each replica really has."""
    found = stage.emulator.platform.deployments.get(stage.account, DEPLOYMENT)
    return [stage.emulator.platform.replicas.of_pod(found, pod).fingerprint() for pod in found.pods]


def everywhere(stage: Stage, snapshot: str, within_s: float = 600.0) -> float:
    """Wait until every replica serves a snapshot, as a right client does; the seconds it took. Raises TimeoutError."""
    waited = 0.0
    while set(served(stage)) != {snapshot}:
        if waited >= within_s:
            raise TimeoutError(f"not every replica serves {snapshot} after {within_s:g} s")
        stage.time.sleep(5)
        waited += 5
    return waited


def requests(stage: Stage) -> list[dict[str, Any]]:
    """The bodies of all hot-load requests, oldest first."""
    return [exchange.json for exchange in stage.exchanges("hot_load")]


def complete(stage: Stage, model: str, **body: Any) -> Any:
    """One plain completion."""
    sent = {"model": model, "prompt": [1, 2, 3], "max_tokens": 4, "temperature": 0, **body}
    return stage.http.post("/inference/v1/completions", json=sent)
