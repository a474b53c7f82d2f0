"""Decides which bucket a deployment reads: its trainer's or its own; refuses what may not be mixed (FAILURES E14).

PER_TRAINER: the deployment names a trainer job and reads that job's bucket. PER_DEPLOYMENT: trainer jobs name the
deployment and write into its bucket.
"""

from emulator.core.errors import InvalidArgument
from emulator.core.names import Subject, resource, split_resource
from emulator.quirks import deployments
from emulator.state.entities import Checkpoint, Deployment, Job
from emulator.state.world import World


def own_bucket(account: str, deployment_id: str) -> str:
    """The bucket of a deployment that no trainer is attached to."""
    return f"gs://emu/rl-checkpoints/{account}/{deployment_id}/"


def trainer(world: World, account: str, name: str) -> Job:
    """The job that a deployment is to be attached to; raises InvalidArgument."""
    owner, _ = split_resource(name, "rlorTrainerJobs")
    if owner != account:
        raise InvalidArgument(f"hotLoadTrainerJob {name[:200]!r} belongs to another account")
    job = world.jobs.get(name)
    if job is None:
        raise InvalidArgument(f"hotLoadTrainerJob {name[:200]!r} does not exist: create the trainer job first")
    return job


def attach(world: World, deployment: Deployment, asked_url: str = "") -> str:
    """Check the deployment's scope; returns the bucket it reads. Raises InvalidArgument (FAILURES E14)."""
    own = own_bucket(deployment.account, deployment.id)
    strict = not world.quirks.value(deployments.VALIDATION_SKIP, deployment.subject)
    if not deployment.hot_load_trainer_job:
        if strict and asked_url and deployment.hot_load_bucket_url and asked_url != deployment.hot_load_bucket_url:
            raise InvalidArgument(
                f"hot_load_bucket_url {asked_url[:200]!r} conflicts with the bucket of {deployment.name}, "
                f"{deployment.hot_load_bucket_url}: a deployment keeps its bucket, create another one"
            )
        return asked_url or own
    job = trainer(world, deployment.account, deployment.hot_load_trainer_job)
    if strict and job.hot_load_deployment:
        raise InvalidArgument(
            f"hotload flow mismatch: {job.name} was created with hotLoadDeploymentId={job.hot_load_deployment} "
            "(PER_DEPLOYMENT) and cannot be named by hotLoadTrainerJob (PER_TRAINER): use one of the two flows"
        )
    if strict and asked_url and asked_url != job.bucket_url:
        raise InvalidArgument(
            f"hot_load_bucket_url {asked_url[:200]!r} conflicts with the bucket of {job.name}, {job.bucket_url}: "
            "leave hot_load_bucket_url out when hotLoadTrainerJob is set"
        )
    return asked_url or job.bucket_url


def check_trainer(world: World, account: str, deployment_id: str) -> None:
    """Refuse a trainer for the bucket of a deployment that reads another one; raises InvalidArgument."""
    deployment = world.deployments.get(resource(account, "deployments", deployment_id))
    skip = world.quirks.value(deployments.VALIDATION_SKIP, Subject(deployment=deployment_id))
    if deployment is not None and deployment.hot_load_trainer_job and not skip:
        raise InvalidArgument(
            f"hotload flow mismatch: {deployment.name} is attached to {deployment.hot_load_trainer_job} (PER_TRAINER) "
            "and cannot be named by hotLoadDeploymentId (PER_DEPLOYMENT): use one of the two flows"
        )


def find(world: World, deployment: Deployment, identity: str) -> Checkpoint | None:
    """The row behind a snapshot identity, in the bucket that the deployment reads."""
    jobs = [deployment.hot_load_trainer_job]
    if not deployment.hot_load_trainer_job:
        mine = [job.name for job in world.jobs.of(deployment.account) if job.hot_load_deployment == deployment.id]
        jobs = mine[::-1]
    rows = (world.checkpoints.get(f"{job}/checkpoints/{identity}") for job in jobs)
    now = world.clock.ticks()
    return next((row for row in rows if row is not None and not (row.expires and now >= row.expires)), None)


def missing(world: World, deployment: Deployment, identity: str) -> str:
    """Say why a snapshot is not in the bucket, as the service would say it (FAILURES E14, E15)."""
    plain = f'checkpoint "{identity}" not found in GCS'
    mine = f"accounts/{deployment.account}/"
    elsewhere = next((row for row in world.checkpoints if row.id == identity and row.owner.startswith(mine)), None)
    if elsewhere is None:
        return plain
    return (
        f"{plain}: [save_weights_for_sampler] Bucket mismatch: {elsewhere.owner} saved it into its own bucket, "
        f"{deployment.name} reads {deployment.hot_load_bucket_url}"
    )
