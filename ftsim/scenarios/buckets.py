"""Failures of the bucket that a trainer writes to and a deployment reads from, and of re-attaching one to the other."""

from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, train


@scenario("E14", "a trainer and a deployment that read and write different buckets")
def trainer_and_deployment_use_different_buckets(stage: Stage) -> Report:
    """Two flows of buckets exist, and mixing them is refused, or noticed late."""
    account = f"/v1/accounts/{stage.account}"
    stage.job("own-1")
    deployments.deploy(stage, None)  # a bucket of its own: PER_DEPLOYMENT
    bound = stage.job("bound-1", hot_load_deployment=deployments.DEPLOYMENT)
    deployments.deploy(stage, "own-1", deployment_id="dep-2")  # PER_TRAINER
    body = {"baseModel": BASE, "enableHotLoad": True, "acceleratorType": "NVIDIA_H200_141GB"}
    own = stage.job_name("own-1")
    refused = [
        _create(stage, {**body, "hotLoadTrainerJob": bound.name}),
        _create(stage, {**body, "hotLoadTrainerJob": own, "hotLoadBucketUrl": "gs://else/"}),
        stage.http.patch(
            f"{account}/deployments/{deployments.DEPLOYMENT}",
            params={"updateMask": "hot_load_bucket_url"},
            json={"hotLoadBucketUrl": "gs://else/"},
        ),
        stage.http.post(
            f"{account}/rlorTrainerJobs",
            params={"rlorTrainerJobId": "job-4", "deploymentId": "dep-2"},
            json={"trainingConfig": {"baseModel": BASE}},
        ),
    ]
    said = [answer.json()["message"] for answer in refused]
    claim([answer.status_code for answer in refused] == [400] * 4, f"{said}")
    claim(["mismatch" in text for text in said] == [True, False, False, True], f"{said}")
    late = _unvalidated(stage)
    client = stage.client("own-1")
    train(client, 0)
    right = deployments.save(client, "right")
    manager = stage.deployments
    with deployments.patient(stage):
        loaded = manager.hotload_and_wait("dep-2", BASE, right)
    claim(loaded, "a deployment attached to its trainer should load")
    return Report(
        sees=[*(text[:200] for text in said), f"without validation, at the first load: {late}"],
        exchanges=stage.exchanges("create_deployment", "patch_deployment", "create_job")[-4:],
        right=["PER_TRAINER only: the trainer first, then a deployment with hot_load_trainer_job; it loads"],
    )


def _create(stage: Stage, body: dict[str, Any], identifier: str = "dep-3") -> Any:
    query = {"deploymentId": identifier, "acceptShapelessRisk": "true"}
    return stage.http.post(f"/v1/accounts/{stage.account}/deployments", params=query, json=body)


def _unvalidated(stage: Stage) -> str:
    """The same mix-up on a server that does not look: what the load says."""
    stage.job("late-1")
    with stage.quirks.set("validation.skip", True):
        made = stage.http.post(
            f"/v1/accounts/{stage.account}/deployments",
            params={"deploymentId": "late", "acceptShapelessRisk": "true"},
            json={"baseModel": BASE, "enableHotLoad": True, "acceleratorType": "NVIDIA_H200_141GB"},
        )
    claim(made.status_code == 200, made.text)
    client = stage.client("late-1")
    train(client, 0)
    snapshot = deployments.save(client, "lost")
    with deployments.patient(stage):
        claim(not stage.deployments.hotload_and_wait("late", BASE, snapshot), "a foreign bucket should not load")
    status = stage.deployments.hotload_check_status("late", BASE)
    error = str(status["replicas"][0]["loading_state"]["error"])
    claim("not found in GCS" in error and "Bucket mismatch" in error, error)
    return error


@scenario("E15", "a reused deployment does not accept the snapshots of a trainer that has its own bucket")
def a_reused_deployment_watches_another_bucket(stage: Stage) -> Report:
    """A deployment is used again, and the new trainer does not know of it."""
    deployments.deploy(stage, None)
    inside = stage.client("job-1", hot_load_deployment=deployments.DEPLOYMENT)
    train(inside, 0)
    claim(deployments.load(stage, deployments.save(inside, "one")), deployments.first_error(stage))
    outside = stage.client("job-2")  # made without the deployment's id
    train(outside, 0)
    snapshot = deployments.save(outside, "two")
    claim(not deployments.load(stage, snapshot), "the deployment should not find the snapshot")
    said, why = str(stage.deployments.last_hotload_error_message), deployments.first_error(stage)
    claim("Bucket mismatch" in why, why)
    with deployments.patient(stage):
        stage.deployments.reattach_trainer(
            deployments.DEPLOYMENT, base_model=BASE, trainer_job_name=stage.job_name("job-2"), timeout_s=60
        )
    claim(deployments.load(stage, snapshot) and deployments.served(stage) == [snapshot], deployments.first_error(stage))
    return Report(
        sees=[said.splitlines()[0], why],
        exchanges=stage.exchanges("hot_load", "patch_deployment")[1:],
        right=[f"points the deployment at the new trainer first (hot_load_trainer_job), then loads {snapshot}"],
    )


@scenario("E16", "a re-attach to the same trainer never settles for a client that waits for a new replica")
def a_reattach_to_the_same_trainer(stage: Stage) -> Report:
    """Setting a field to what it is changes nothing, and no replica is replaced."""
    job = stage.job()
    deployments.deploy(stage)
    before = deployments.replicas(stage)[0]["identity"]
    stage.deployments.update(
        deployments.DEPLOYMENT, body={"hotLoadTrainerJob": job.name}, update_mask="hot_load_trainer_job"
    )
    slept = stage.time.slept_here
    error = refusal(_wait_for_another, stage, before)
    claim(isinstance(error, TimeoutError), f"{error!r}")
    waited = stage.time.slept_here - slept
    patches = len(stage.exchanges("patch_deployment"))
    with deployments.patient(stage):
        info = stage.deployments.reattach_trainer(
            deployments.DEPLOYMENT, base_model=BASE, trainer_job_name=job.name, timeout_s=600
        )
    claim(info.state == "READY" and len(stage.exchanges("patch_deployment")) == patches, "the SDK patched")
    claim(stage.time.slept_here - slept == waited, "the SDK waited for nothing")
    return Report(
        sees=[f"{error}", f"the replica is {before} all the time"],
        exchanges=stage.exchanges("patch_deployment"),
        right=["the SDK compares first, sends no PATCH for an equal value, and waits for nothing"],
    )


def _wait_for_another(stage: Stage, identity: str, within_s: float = 600.0) -> None:
    """Wait as a client does that takes a new replica for the sign of success."""
    waited = 0.0
    while deployments.replicas(stage)[0]["identity"] == identity:
        if waited >= within_s:
            raise TimeoutError(f"no new replica within {within_s:g} s of the re-attach")
        stage.time.sleep(10)
        waited += 10


@scenario("E17", "for a while after a re-attach the old replica still answers")
def the_old_replica_still_answers(stage: Stage) -> Report:
    """A re-attach replaces the replicas: first the old ones answer, then new ones with an old error."""
    first, second = stage.client(), stage.client("job-2")
    deployments.deploy(stage)
    weights = deployments.syncer(stage, first)
    train(first, 0)
    old = deployments.sync(stage, weights, "one")
    before = deployments.replicas(stage)[0]["identity"]
    stage.quirks.set("deployments.roll_s", 30.0)
    stage.quirks.set("hotload.stale_error_reads", 1)
    stage.deployments.update(
        deployments.DEPLOYMENT, body={"hotLoadTrainerJob": stage.job_name("job-2")}, update_mask="hot_load_trainer_job"
    )
    (answering,) = deployments.replicas(stage)
    state = stage.deployments.get(deployments.DEPLOYMENT).state
    claim(
        (answering["identity"], answering["current_snapshot_identity"], state) == (before, old, "UPDATING"),
        f"{state}: {answering}",
    )
    with deployments.patient(stage):
        info = stage.deployments.reattach_trainer(
            deployments.DEPLOYMENT, base_model=BASE, trainer_job_name=stage.job_name("job-2"), timeout_s=600
        )
    (fresh,) = deployments.replicas(stage)
    claim(info.state == "READY" and fresh["identity"] != before, f"{info.state}: {fresh}")
    claim(fresh["loading_state"]["target_snapshot_identity"] == old, f"{fresh['loading_state']}")
    weights = deployments.syncer(stage, second)
    train(second, 0)
    new = deployments.sync(stage, weights, "two")
    claim(deployments.served(stage) == [new], deployments.first_error(stage))
    roll = deployments.replicas(stage)[0]["identity"]
    stage.deployments.update(
        deployments.DEPLOYMENT, body={"hotLoadTransitionType": "SYNC"}, update_mask="hot_load_transition_type"
    )
    stage.clock.advance(31)
    stage.deployments.get(deployments.DEPLOYMENT)
    claim(deployments.replicas(stage)[0]["identity"] != roll, "another transition type should roll too")
    return Report(
        sees=[
            f"re-attached, {state}: {before} still serves {old}",
            f"then {fresh['identity']} shows {fresh['loading_state']}",
        ],
        exchanges=stage.exchanges("patch_deployment")[:1],
        right=[f"waits for READY and another replica, starts the chain anew with a full snapshot: {new}"],
    )


@scenario("E18", "a re-attach while a snapshot loads: the load is lost")
def a_reattach_loses_a_load(stage: Stage) -> Report:
    """A re-attach in the middle of a load: nobody promised what becomes of the load."""
    first, second = stage.client(), stage.client("job-2")
    deployments.deploy(stage)
    train(first, 0)
    train(second, 0)
    lost, kept = deployments.save(first, "one"), deployments.save(second, "two")
    stage.quirks.set("hotload.duration_s", 60.0)
    stage.deployments.hotload(deployments.DEPLOYMENT, BASE, lost)
    other = {"body": {"hotLoadTrainerJob": stage.job_name("job-2")}, "update_mask": "hot_load_trainer_job"}
    with stage.quirks.set("deployments.patch_during_load", "reject"):
        rejected = refusal(stage.deployments.update, deployments.DEPLOYMENT, **other)
    said = stage.exchanges("patch_deployment")[0].answer["message"]
    claim("is loading a snapshot" in said, f"{rejected}: {said}")
    stage.deployments.update(deployments.DEPLOYMENT, **other)
    stage.clock.advance(61)
    (replica,) = deployments.replicas(stage)
    claim(replica["current_snapshot_identity"] is None, f"the load should be lost with its replica: {replica}")
    with deployments.patient(stage):
        waited = stage.deployments.wait_for_hotload(deployments.DEPLOYMENT, BASE, lost, timeout_seconds=300)
    claim(not waited, "the client that asked for the load should wait in vain")
    stage.deployments.hotload(deployments.DEPLOYMENT, BASE, kept)
    took = deployments.everywhere(stage, kept)
    back = {"body": {"hotLoadTrainerJob": stage.job_name("job-1")}, "update_mask": "hot_load_trainer_job"}
    stage.deployments.update(deployments.DEPLOYMENT, **back)
    return Report(
        sees=[
            f"where it is accepted: {lost} is never there, wait_for_hotload gives False after 300 s",
            f"where it is not: {said}",
        ],
        exchanges=stage.exchanges("hot_load", "patch_deployment")[:3],
        right=[f"one owner per deployment: lets the load end ({took:.0f} s), and only then attaches another trainer"],
    )


@scenario("E19", "scale_to_zero sends no updateMask, and the deployment loses its trainer", upstream=SDK_1_2_28)
def scaling_to_zero_loses_the_trainer(stage: Stage) -> Report:
    """A PATCH without a mask may mean: everything else back to its default."""
    job = stage.job()
    deployments.deploy(stage)
    stage.quirks.set("deployments.patch_without_mask", "replace_all")
    stage.deployments.scale_to_zero(deployments.DEPLOYMENT)
    sent = stage.exchanges("patch_deployment")[-1]
    still_upstream(SDK_1_2_28, "updateMask" not in sent.query, f"scale_to_zero sends {sent.query!r}")
    lost = stage.deployments.get(deployments.DEPLOYMENT)
    enabled = stage.http.get(f"/v1/accounts/{stage.account}/deployments/{deployments.DEPLOYMENT}").json()[
        "enableHotLoad"
    ]
    claim(not lost.hot_load_trainer_job and not enabled, f"left: {lost.hot_load_trainer_job}, hot load {enabled}")
    deployments.deploy(stage, deployment_id="dep-2")
    body = {"minReplicaCount": 0, "maxReplicaCount": 0}
    kept = stage.deployments.update("dep-2", body=body, update_mask=["min_replica_count", "max_replica_count"])
    claim(kept.hot_load_trainer_job == job.name, f"with a mask: {kept}")
    return Report(
        sees=[
            f"PATCH {sent.request.decode()} without updateMask",
            f"hotLoadTrainerJob was {job.name}, is {lost.hot_load_trainer_job!r}; enableHotLoad is {enabled}",
        ],
        exchanges=[sent],
        right=[f"update() with updateMask min_replica_count,max_replica_count: still {kept.hot_load_trainer_job}"],
    )
