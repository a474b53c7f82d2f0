"""Failures of the life of a deployment: it is not created, it is replaced behind its state, it outlives its trainer."""

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, train

_ANNOTATION = "fireworks-training-sdk/managed-rollout"


@scenario("E26", "the tag that a client writes by itself is refused: 403, not customer-writable")
def a_tag_is_not_customer_writable(stage: Stage) -> Report:
    """The same script worked the day before: now customers may write tags under custom/ alone."""
    tags = {_ANNOTATION: "true"}
    deployments.deploy(stage, None, deployment_id="before", annotations=tags)
    stage.quirks.set("deployments.tag_rule", "custom_only")
    error = refusal(deployments.deploy, stage, None, annotations=tags)
    answer = stage.exchanges("create_deployment")[-1]
    claim(answer.status == 403 and _ANNOTATION in answer.answer["message"], f"{answer.status}: {answer.answer}")
    again = stage.deployments.create_or_get(deployments.config(stage, None, deployment_id="before", annotations=tags))
    deployments.deploy(stage, None, annotations={"custom/run": "7"})
    claim(again.state == "READY", f"{again}")
    return Report(
        sees=[f"403: {answer.answer['message']}", f"the SDK says no more than {str(error).splitlines()[0][:60]}"],
        exchanges=[answer],
        right=["names a deployment that exists, for which nothing is written", "or writes its tags under custom/"],
    )


@scenario("E36", "a re-attach is judged by the row: READY all along, and the next load meets the old replica")
def a_reattach_is_judged_by_the_row(stage: Stage) -> Report:
    """The deployment says READY while its replicas are replaced; a load into the old one is lost with it."""
    first, second = stage.client(), stage.client("job-2")
    deployments.deploy(stage)
    train(first, 0)
    claim(deployments.load(stage, deployments.save(first, "one")), deployments.first_error(stage))
    old = deployments.replicas(stage)[0]["identity"]
    stage.quirks.set("deployments.roll_s", 30.0)
    stage.quirks.set("deployments.state_during_roll", "READY")
    slept = stage.time.slept
    with deployments.patient(stage):
        info = stage.deployments.reattach_trainer(
            deployments.DEPLOYMENT, base_model=BASE, trainer_job_name=stage.job_name("job-2"), timeout_s=600
        )
    waited, answering = stage.time.slept - slept, deployments.replicas(stage)[0]["identity"]
    seen = info.state == "READY" and answering == old and waited < 30
    still_upstream(SDK_1_2_28, seen, f"{info.state} after {waited:.0f} s, {answering} answers, before it was {old}")
    train(second, 0)
    lost = deployments.save(second, "two")
    claim(deployments.load(stage, lost), "the old replica takes the load")
    stage.clock.advance(31)
    stage.deployments.get(deployments.DEPLOYMENT)
    claim(deployments.served(stage) == [None], f"after the roll {deployments.served(stage)} is served")
    took = _until_replaced(stage, old)
    claim(deployments.load(stage, lost) and deployments.served(stage) == [lost], deployments.first_error(stage))
    return Report(
        sees=[
            f"reattach_trainer returns after {waited:.0f} s, {info.state}; {answering} still answers",
            f"{lost} is loaded, and half a minute later the deployment serves its base model",
        ],
        exchanges=stage.exchanges("patch_deployment", "get_deployment")[-2:],
        right=[f"waits for READY and for another replica than {old} ({took} looks), and loads then"],
    )


def _until_replaced(stage: Stage, identity: str) -> int:
    """Look until another replica answers; how many looks that took."""
    for look in range(1, 100):
        ready = stage.deployments.get(deployments.DEPLOYMENT).state == "READY"
        if ready and deployments.replicas(stage)[0]["identity"] != identity:
            return look
        stage.time.sleep(10)
    raise TimeoutError("no other replica came up")


@scenario("E38", "the deployment outlives its trainer: accelerators in use, the quota full, and it cannot be deleted")
def the_deployment_outlives_its_trainer(stage: Stage) -> Report:
    """Deleting the trainer leaves its deployment, which counts by its maximum and is not deleted while it is in use."""
    stage.quirks.set("deployments.quota", 2)
    stage.quirks.set("deployments.delete_check", "recent_traffic")
    stage.job()
    model = deployments.deploy(stage, replicas=2)
    deployments.complete(stage, model)
    stage.manager.delete("job-1")
    left = stage.deployments.get(deployments.DEPLOYMENT)
    claim(left.state == "READY" and len(deployments.replicas(stage)) == 2, f"{left}")
    stage.deployments.update(deployments.DEPLOYMENT, body={"minReplicaCount": 0}, update_mask="min_replica_count")
    stage.http.patch(f"/v1/{model}:scale", json={"replicaCount": 0})
    full = refusal(deployments.deploy, stage, None, deployment_id="dep-2")
    quota = stage.exchanges("create_deployment")[-1].answer["message"]
    claim("may have 2 replicas" in quota and not deployments.replicas(stage), f"{full}: {quota}")
    plain = stage.http.delete(f"/v1/{model}")
    claim(plain.status_code == 400 and "--ignore-checks" in plain.text, plain.text)
    stage.deployments.delete(deployments.DEPLOYMENT)
    gone = [stage.http.get(f"/v1/{model}").status_code, stage.manager.get("job-1")["state"]]
    claim(gone == [404, "JOB_STATE_DELETED"], f"both halves: {gone}")
    deployments.deploy(stage, None, deployment_id="dep-2", replicas=2)
    return Report(
        sees=[
            f"the trainer is deleted, {model} is {left.state} with 2 replicas",
            f"scaled to zero: {quota}",
            f"a plain DELETE: {plain.json()['message']}",
        ],
        exchanges=stage.exchanges("delete_job", "create_deployment", "delete_deployment")[-4:-2],
        right=[f"removes both halves and looks at both: {gone[0]} and {gone[1]}; the SDK deletes with ignoreChecks"],
    )
