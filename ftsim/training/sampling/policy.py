"""The policy as it samples: a deployment that belongs to the trainer job, and the weights that are sent to it."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Protocol

from fireworks.training.sdk import DeploymentConfig, DeploymentManager, FixedConcurrencyController, WeightSyncer
from fireworks.training.sdk.client import FiretitanSamplingClient

from ftsim.training.checkpoints.promotion import poll
from ftsim.training.checkpoints.rows import step_name
from ftsim.training.clients import Account, Manager, SamplingClient, TrainingClient
from ftsim.training.config import SamplingConfig
from ftsim.training.errors import ConfigError, TrainerError
from ftsim.training.interrupts import named_interrupts

logger = logging.getLogger(__name__)


class Deployments(Protocol):
    """The part of the SDK's `DeploymentManager` that the recipes call."""

    inference_url: str

    def get(self, deployment_id: str) -> Any: ...

    def create_or_get(self, config: DeploymentConfig) -> Any: ...

    def wait_for_ready(self, deployment_id: str, *, timeout_s: float) -> object: ...

    def reattach_trainer(
        self, deployment_id: str, *, base_model: str, trainer_job_name: str, timeout_s: float
    ) -> object: ...

    def hotload_check_status(self, *, deployment_id: str, base_model: str) -> dict[str, Any]: ...

    def delete(self, deployment_id: str) -> object: ...


class Syncer(Protocol):
    """The part of the SDK's `WeightSyncer` that a policy calls."""

    deploy_mgr: Deployments
    deployment_id: str
    base_model: str
    hotload_timeout: float

    def save_and_hotload(self, name: str, checkpoint_type: str | None = None) -> str: ...

    def reset_delta_chain(self) -> object: ...


class Policy:
    """A deployment that follows a training client: `client.sample(...)` draws from it, `sync` updates it."""

    def __init__(self, syncer: Syncer, client: SamplingClient, longest_prompt: int) -> None:
        """`longest_prompt` is how many tokens leave room for an answer."""
        self.client = client
        self.longest_prompt = longest_prompt
        self._syncer = syncer

    def sync(self, name: str) -> None:
        """Save the trainer's weights under `name`, load them on every replica, and return when they are there.

        The syncer counts a snapshot as sent before it is loaded, so after any failure its next delta would not fit:
        then one full snapshot is tried, and its error, if any, is raised.
        """
        try:
            with named_interrupts():
                snapshot = self._syncer.save_and_hotload(name)
        except Exception as error:
            logger.warning("weights %s were not loaded (%s); sending all of them", name, error)
            self._syncer.reset_delta_chain()
            snapshot = self._syncer.save_and_hotload(f"{name}-full", "base")
        self._await_replicas(snapshot)

    def _await_replicas(self, snapshot: str) -> None:
        """The syncer looks at the first replica only; samples must not come from older weights."""
        syncer = self._syncer

        def everywhere() -> bool:
            status = syncer.deploy_mgr.hotload_check_status(
                deployment_id=syncer.deployment_id, base_model=syncer.base_model
            )
            return all(_holds(replica, snapshot) for replica in status.get("replicas") or [])

        if not poll(everywhere, wait_s=syncer.hotload_timeout):
            raise TrainerError(
                f"deployment {syncer.deployment_id} has replicas that do not load {snapshot} within "
                f"{syncer.hotload_timeout} s: look at its replicas, or use deployment_replicas=1"
            )


def _holds(replica: dict[str, Any], snapshot: str) -> bool:
    adapters = replica.get("loaded_adapters") or []
    loaded = [adapter.get("identity") for adapter in adapters if adapter.get("status") == "loaded"]
    return snapshot in (replica.get("current_snapshot_identity"), *loaded)


def connect_deployments(manager: Account) -> Deployments:
    """Returns the SDK's manager of deployments for the service that `manager` talks to."""
    deployments: Deployments = DeploymentManager(api_key=manager.api_key, base_url=manager.base_url)
    return deployments


@contextlib.contextmanager
def rollout_policy(
    manager: Manager,
    config: SamplingConfig,
    deployment_id: str,
    job_id: str,
    client: TrainingClient,
    *,
    longest_prompt: int,
    snapshot: str,
    moved: bool,
) -> Iterator[Policy]:
    """Yields the policy of `client` on a deployment, which is made if there is none and deleted afterwards.

    A deployment that `config.deployment_id` names must exist, is attached to the trainer job, and is left so.
    `moved` says that the trainer no longer holds the base model: then, or when the deployment was there before, its
    weights come first, saved as `snapshot`, so that sampling goes on with the policy it has.
    """
    deployments = connect_deployments(manager)
    job = f"accounts/{manager.account_id}/rlorTrainerJobs/{job_id}"
    try:
        found = _bring_up(manager, deployments, deployment_config(manager, config, deployment_id, job), config)
        syncer = WeightSyncer(
            policy_client=client,
            deploy_mgr=deployments,
            deployment_id=deployment_id,
            base_model=config.base_model,
            hotload_timeout=config.weight_sync.weight_sync_timeout,
            first_checkpoint_type="base" if found or moved else config.weight_sync.first_checkpoint_type,
            lora_rank=config.lora_rank,
        )
        sampler = FiretitanSamplingClient.create(
            inference_url=deployments.inference_url,
            model=f"accounts/{manager.account_id}/deployments/{deployment_id}",
            api_key=manager.api_key,
            concurrency_controller=FixedConcurrencyController(config.rollout_concurrency),
        )
        with contextlib.closing(sampler):
            policy = Policy(syncer, sampler, longest_prompt)
            if found or moved or config.weight_sync.weight_sync_before_training:
                policy.sync(snapshot)
            yield policy
    finally:
        if config.deployment_id is None:
            deployments.delete(deployment_id)


def sync_name(config: SamplingConfig, phase: str, step: int) -> str:
    """Returns the name of a snapshot for sampling, in a phase of the trainer job.

    An adapter's is also what the final save would write, so it has that name; a delta's must not be taken for it.
    """
    return step_name(step, phase, "step" if config.lora_rank else "sync")


def deployment_config(manager: Manager, config: SamplingConfig, deployment_id: str, job: str) -> DeploymentConfig:
    """Returns the create request of the deployment that samples, in the trainer's own bucket."""
    infra = config.infra
    shape = infra.deployment_shape_id
    if shape is None and infra.training_shape_id:
        shape = manager.resolve_training_profile(infra.training_shape_id).deployment_shape_version or None
    return DeploymentConfig(
        deployment_id=deployment_id,
        base_model=config.base_model,
        description=f"samples for {job.rpartition('/')[2]}",
        deployment_shape=shape,
        accept_shapeless_risk=shape is None,
        region=infra.region,
        min_replica_count=config.deployment_replicas,
        max_replica_count=config.deployment_replicas,
        hot_load_trainer_job=job,
        for_training=config.deployment_id is None,
    )


def check_deployment(manager: Manager, config: SamplingConfig) -> None:
    """Refuse a `deployment_id` that names nothing, or another model's deployment, before anything is made."""
    if config.deployment_id is None:
        return
    found = connect_deployments(manager).get(config.deployment_id)
    if found is None:
        raise ConfigError(
            f"deployment_id names {config.deployment_id!r}, which the account has not: name a deployment that exists, "
            "or leave deployment_id out for one of this run's own"
        )
    # It would answer all the same, in the tokens of another model (FAILURES E20).
    if found.base_model not in (None, "", config.base_model):
        raise ConfigError(
            f"deployment_id: {config.deployment_id} serves {found.base_model}, not {config.base_model}: name another"
        )


def _bring_up(manager: Manager, deployments: Deployments, wanted: DeploymentConfig, config: SamplingConfig) -> bool:
    """Wait for the deployment, made if it is the run's own; returns whether it was there before, with any weights."""
    found = deployments.get(wanted.deployment_id)
    named = config.deployment_id is not None
    if named and found is None:
        raise TrainerError(f"deployment {wanted.deployment_id} is gone: name another one")
    info = found if named else deployments.create_or_get(wanted)
    timeout = config.infra.deployment_timeout_s
    deployments.wait_for_ready(wanted.deployment_id, timeout_s=timeout)
    # Attaching it to the trainer that it has would change nothing, and waiting for the change would never end. One of
    # our own is attached as it is made, whether it says so or not.
    attached, job = info.hot_load_trainer_job or "", wanted.hot_load_trainer_job
    if attached != job and (attached or (named and not _saves_there(manager, str(job), wanted.deployment_id))):
        deployments.reattach_trainer(
            wanted.deployment_id, base_model=wanted.base_model, trainer_job_name=job, timeout_s=timeout
        )
    return found is not None


def _saves_there(manager: Manager, job: str, deployment_id: str) -> bool:
    """Returns True when the trainer saves into the bucket of the deployment, which then needs no other link to it."""
    made = manager.try_get(job.rpartition("/")[2]) or {}
    return str(made.get("hotLoadDeploymentId") or "").rpartition("/")[2] == deployment_id


def release_deployment(manager: Account, deployment_id: str) -> None:
    """Delete what a killed run may have left."""
    deployments = connect_deployments(manager)
    if deployments.get(deployment_id) is not None:
        deployments.delete(deployment_id)
