"""Failures of what becomes of a result: a model that is not the run's, is not served, or says nothing new."""

from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments, promotions
from ftsim.scenarios.support.report import Report, claim, refusal
from ftsim.scenarios.support.stage import BASE, Stage, short, train


@scenario("D18", "the final export failed, the promotion takes an earlier snapshot")
def an_earlier_snapshot_is_promoted(stage: Stage) -> Report:
    """Any promotable row of the job will do for code that promotes the newest one."""
    client = stage.client()
    train(client, 0)
    promotions.sampler(client, "sync-1")
    train(client, 1, 2)
    stage.quirks.set("http.fail", 400, endpoint="save_weights_for_sampler", times=1)
    lost = refusal(promotions.sampler, client, "final")
    newest = [row for row in stage.manager.list_checkpoints("job-1") if row["promotable"]][-1]
    stage.manager.promote_checkpoint(name=newest["name"], output_model_id="naive", base_model=BASE)
    step = promotions.step_of(stage, "naive")
    claim(step == 1, f"promoted step {step}")
    ours = refusal(_by_name, stage, "final")
    promotions.sampler(client, "final")
    promoted = _by_name(stage, "final")
    claim(promotions.step_of(stage, promoted) == 3, f"{promoted} is of step {promotions.step_of(stage, promoted)}")
    return Report(
        sees=[f"the last save: {promotions.first_line(lost)}", f"the promotion succeeds, with {short(newest['name'])}"],
        exchanges=stage.exchanges("save_weights_for_sampler", "promote")[-3:-1],
        right=[f"asks for the final name and for no other: {ours}", f"saves it again, and promotes step 3: {promoted}"],
    )


def _by_name(stage: Stage, logical: str) -> str:
    """Promote the row that was saved under this name, whatever its suffix; raises RuntimeError when there is none."""
    rows = [row for row in promotions.rows(stage) if row.promotable and row.is_save_of(f"{logical}")]
    if not rows:
        raise RuntimeError(f"no promotable checkpoint of job-1 matches {logical!r}")
    promotions.promote(stage, rows[0].id, "right")
    return "right"


@scenario("D19", "promoted, READY, and not served: NOT_FOUND for the model's own id")
def a_promoted_model_is_not_served(stage: Stage) -> Report:
    """READY says that the files are there. A model answers through a deployment, by full paths."""
    stage.quirks.set("models.serve_form", "deployed")
    client = stage.client(rank=4)
    train(client, 0)
    checkpoints = stage.checkpoints(client)
    checkpoints.save("final", resumable=False, promotable=True)
    model = checkpoints.promote_latest("mine", BASE)
    deployments.deploy(stage, None, deployment_id="dep-1", base_model=model["name"])
    deployment = f"accounts/{stage.account}/deployments/dep-1"
    names = [model["name"], f"{model['name']}#dep-1"]
    answers = [deployments.complete(stage, name) for name in names]
    claim([answer.status_code for answer in answers] == [404, 404], f"{[answer.text for answer in answers]}")
    right = deployments.complete(stage, f"{model['name']}#{deployment}", logprobs=True)
    base = deployments.complete(stage, BASE, logprobs=True)
    claim(right.status_code == 200, right.text)
    told, plain = (answer.json()["choices"][0]["logprobs"]["content"][0]["logprob"] for answer in (right, base))
    claim(told != plain, "the model should not answer as its base does")
    return Report(
        sees=[f"{model['name']} is {model['state']}"]
        + [f"asked as {name}: {answer.status_code}" for name, answer in zip(names, answers, strict=True)],
        exchanges=stage.exchanges("completions")[:2],
        right=[
            f"sends one request to {model['name']}#{deployment}: {told:.4f} for its first token, the base {plain:.4f}"
        ],
    )


@scenario("D20", "the exported adapter holds tensors that the server has no place for: refused, or dropped in silence")
def an_adapter_holds_what_nobody_can_take(stage: Stage) -> Report:
    """Trainers export what they hold, engines look for a place by name; what has none is refused or left out."""
    client = stage.client(rank=4)
    deployments.deploy(stage)
    train(client, 0, 1, 2)
    stage.quirks.set("export.adapter_keys", "extra_head", times=1)
    extra = deployments.save(client, "extra")
    claim(not deployments.load(stage, extra, timeout_seconds=5), "an engine that checks should refuse it")
    refused = deployments.first_error(stage)
    with stage.quirks.set("export.adapter_keys", "other_prefix"):
        renamed = deployments.save(client, "renamed")
    before = _first_logprob(stage)
    with stage.quirks.set("hotload.adapter_keys", "drop"):
        claim(deployments.load(stage, renamed), deployments.first_error(stage))
        dropped = _first_logprob(stage)
    claim(dropped == before, f"nothing of the adapter has a place, and yet {before} became {dropped}")
    own = deployments.save(client, "own")
    claim(deployments.load(stage, own), deployments.first_error(stage))
    applied = _first_logprob(stage)
    claim(applied != dropped, "an adapter that is applied should show")
    return Report(
        sees=[
            f"with tensors of another head: {refused[:200]}",
            f"under another prefix: acknowledged, served, and still {dropped:.4f}, as without an adapter",
        ],
        exchanges=stage.exchanges("hot_load_status")[:1],
        right=[f"compares with the answer without an adapter ({before:.4f}): applied it is {applied:.4f}"],
    )


def _first_logprob(stage: Stage) -> float:
    """The log-probability of the first token that the deployment answers, at temperature 0."""
    model = f"accounts/{stage.account}/deployments/{deployments.DEPLOYMENT}"
    answer: dict[str, Any] = deployments.complete(stage, model, logprobs=True).json()
    return float(answer["choices"][0]["logprobs"]["content"][0]["logprob"])


@scenario("H1", "the run ends well and is promoted, and the model equals its base")
def a_run_without_a_step_is_promoted(stage: Stage) -> Report:
    """Every group had equal rewards, or every row was rejected: no step, a good ending, a model like the base."""
    client = stage.client(rank=4)
    checkpoints = stage.checkpoints(client)
    start = stage.weights(client)
    checkpoints.save("final", resumable=False, promotable=True)
    model = checkpoints.promote_latest("naive", BASE)
    answers = [deployments.complete(stage, name, logprobs=True).json()["choices"] for name in (model["name"], BASE)]
    claim(model["state"] == "READY" and answers[0] == answers[1], f"{answers}")
    steps = stage.rows("job-1")[-1].step
    claim(steps == 0 and stage.weights(client) == start, f"{steps} steps were taken")
    stage.quirks.set("promote.zero_delta", "warn")
    warned = checkpoints.promote_latest("warned", BASE)
    claim("no optimizer step" in warned["description"], f"{warned}")
    stage.quirks.set("promote.zero_delta", "reject")
    refused = refusal(checkpoints.promote_latest, "refused", BASE)
    train(client, 0)
    claim(stage.weights(client) != start, "a step should change the weights")
    checkpoints.save("final-1", resumable=False, promotable=True)
    checkpoints.promote_latest("right", BASE)
    return Report(
        sees=[f"{model['name']} is {model['state']} and answers as {BASE} does, to the last digit"],
        exchanges=stage.exchanges("promote")[:1],
        right=[
            "counts its steps and compares a weight before it promotes",
            f"a server that looks: {warned['description']}",
            promotions.cause(refused),
        ],
    )
