"""Failures of choosing what to promote: rows, kinds, base models, retention."""

import warnings
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import promotions
from ftsim.scenarios.support.report import Report, claim, refusal
from ftsim.scenarios.support.stage import BASE, Stage, train


@scenario("D1", "a delta is the newest sampler row and cannot be promoted")
def the_newest_row_is_a_delta(stage: Stage) -> Report:
    """A delta holds only what changed, so it cannot become a model."""
    from ftsim.training.promote_checkpoint import choose

    client = stage.client()
    train(client, 0)
    base = promotions.sampler(client, "step-1")
    train(client, 1)
    delta = promotions.sampler(client, "step-2", "delta")
    kinds = [row.kind.value for row in stage.rows("job-1")]
    claim(kinds[-1].endswith("INFERENCE_ARC_V2"), f"the rows are {kinds}")
    error = refusal(promotions.promote, stage, delta, "mine")
    claim("(HTTP 400)" in str(error), str(error))
    claim(promotions.models(stage) == [], "a refused promotion left a model")
    row = choose(promotions.rows(stage), None)
    claim(row.id == base, f"our client chose {row.id}")
    model = promotions.promote_rightly(stage, row, "mine")
    claim(model["kind"] == "HF_BASE_MODEL", f"promoted {model}")
    return Report(
        sees=[promotions.first_line(error), promotions.cause(error)],
        exchanges=stage.exchanges("promote")[:1],
        right=[f"takes the newest row that says promotable, {base}, and gets {model['name']}", f"base model {BASE}"],
    )


@scenario("D2", "a resumable checkpoint (DCP) cannot be promoted")
def a_training_state_is_promoted(stage: Stage) -> Report:
    """A training state is for resuming, whatever its name."""
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    train(client, 0)
    checkpoints.save("step-1", data_consumed=1)
    error = refusal(promotions.promote, stage, "step-1", "mine")
    claim("(HTTP 400)" in str(error), str(error))
    claim(promotions.models(stage) == [], "a refused promotion left a model")
    checkpoints.save("step-1", resumable=False, promotable=True)
    model = checkpoints.promote_latest("mine", BASE)
    claim(model["kind"] == "HF_BASE_MODEL", f"promoted {model}")
    return Report(
        sees=[promotions.first_line(error), promotions.cause(error)],
        exchanges=stage.exchanges("promote")[:1],
        right=[f"saves with promotable=True as well and promotes that row to {model['name']}"],
    )


@scenario("D3", "promoting a listed row says: checkpoint not found in GCS")
def a_listed_rows_files_are_gone(stage: Stage) -> Report:
    """A row is listed, its blob is gone: collected, in another bucket, or lost by an earlier bad promotion."""
    from ftsim.training.checks import check_output_model_id

    client = stage.client()
    checkpoints = stage.checkpoints(client)
    train(client, 0)
    first = promotions.sampler(client, "step-1")
    with stage.quirks.set("promote.blob", "missing", times=1):
        gone = refusal(promotions.promote, stage, first, "mine")
    claim("not found in GCS" in str(gone), str(gone))
    stage.quirks.set("models.id_rule", "dns_label")
    with stage.quirks.set("promote.blob", "orphaned_after_bad_id", times=1):
        bad = refusal(promotions.promote, stage, first, "-mine")
    lost = refusal(promotions.promote, stage, first, "mine")
    claim("(HTTP 400)" in str(bad) and "not found in GCS" in str(lost), f"{bad}, then {lost}")
    claim(first in [row.id for row in promotions.rows(stage)], "the row should still be listed")
    early = refusal(check_output_model_id, "-mine")
    checkpoints.save("step-1-again", resumable=False, promotable=True)
    model = checkpoints.promote_latest("mine", BASE)
    return Report(
        sees=[promotions.cause(gone), f"after a promotion to '-mine': {promotions.cause(lost)}"],
        exchanges=stage.exchanges("promote")[:3],
        right=[
            f"looks at the id before the first request: {early}",
            f"saves again, lists again, promotes that row: {model['name']}",
        ],
    )


@scenario("D10", "a row listed as promotable is refused when it is promoted")
def a_promotable_row_is_refused(stage: Stage) -> Report:
    """A row may have changed between the list and the promotion."""
    client = stage.client()
    train(client, 0)
    name = promotions.sampler(client, "step-1")
    stage.quirks.set("rows.promotable_flips", True, times=1, checkpoint=name)
    row = promotions.row(stage, name)
    claim(row.promotable, f"the list says {row}")
    error = refusal(promotions.promote, stage, name, "mine")
    claim("(HTTP 400)" in str(error) and promotions.models(stage) == [], str(error))
    listed = [found for found in promotions.rows(stage) if found.promotable]
    model = promotions.promote_rightly(stage, listed[0], "mine")
    claim(model["state"] == "READY", f"got {model}")
    return Report(
        sees=["list_checkpoints: promotable true", promotions.first_line(error), promotions.cause(error)],
        exchanges=[*stage.exchanges("list_checkpoints")[:1], *stage.exchanges("promote")[:1]],
        right=[f"lists again, once, and promotes what is promotable then: {listed[0].id} to {model['name']}"],
    )


OTHER = "accounts/fireworks/models/qwen3-8b"


@scenario("D11", "a promotion without base_model, or with another trainer's, is refused")
def the_base_model_is_missing_or_wrong(stage: Stage) -> Report:
    """The base model of a promotion: optional once, then required, and always the trainer's own."""
    client = stage.client()
    train(client, 0)
    name = promotions.sampler(client, "step-1")
    missing = _post(stage, name, "naive")
    claim(missing.status_code == 400 and "base_model is required" in missing.text, missing.text)
    mismatch = refusal(promotions.promote, stage, name, "mine", base=OTHER)
    claim("(HTTP 400)" in str(mismatch), str(mismatch))
    with stage.quirks.set("promote.base_model", "inferred"):
        inferred = _post(stage, name, "inferred")
    claim(inferred.status_code == 200, inferred.text)
    job = stage.manager.get("job-1")
    base = job["trainingConfig"]["baseModel"]
    model = promotions.promote_rightly(stage, promotions.row(stage, name), "mine", base)
    claim(base == BASE and model["state"] == "READY", f"{base}: {model}")
    return Report(
        sees=[f"without: {missing.json()['message']}", f"with another: {promotions.cause(mismatch)}"],
        exchanges=stage.exchanges("promote")[:2],
        right=[f"sends the base model that the trainer job names, {base}: {model['name']}"],
    )


def _post(stage: Stage, name: str, model: str) -> Any:
    """A promotion as a client from before the field was required sends it."""
    body = {"output_model": f"accounts/{stage.account}/models/{model}", "trainer_job_id": stage.job_name("job-1")}
    return stage.http.post(f"/v1/accounts/{stage.account}/checkpoints/{name}:promote", json=body)


@scenario("D12", "a row of an old job promotes only with the deprecated hot_load_deployment_id")
def a_row_needs_the_deployments_bucket(stage: Stage) -> Report:
    """Rows from before a job's bucket was stored are found through the deployment only."""
    client = stage.client()
    train(client, 0)
    name = promotions.sampler(client, "step-1")
    stage.quirks.set("jobs.legacy_bucket", True, job="job-1")
    error = refusal(promotions.promote, stage, name, "mine")
    claim("not found in GCS" in str(error), str(error))
    full = f"{stage.job_name('job-1')}/checkpoints/{name}"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = stage.manager.promote_checkpoint(
            name=full, output_model_id="mine", base_model=BASE, hot_load_deployment_id="dep-1"
        )
    kinds = [warning.category for warning in told]
    claim(DeprecationWarning in kinds and model["state"] == "READY", f"{kinds}, {model}")
    return Report(
        sees=[promotions.cause(error), f"with the deployment: DeprecationWarning, and {model['name']}"],
        exchanges=stage.exchanges("promote"),
        right=["names the deployment for rows of such a job only, and not where the plain promotion works"],
    )


@scenario("D13", "a checkpoint promoted through the wrong resource family")
def the_wrong_family_of_resources(stage: Stage) -> Report:
    """Jobs, sessions and managed jobs have names and routes of their own."""
    client = stage.client()
    train(client, 0)
    name = promotions.sampler(client, "step-1")
    account, manager = f"accounts/{stage.account}", stage.manager
    of_job, of_session = (
        f"{account}/{kind}/job-1/checkpoints/{name}" for kind in ("rlorTrainerJobs", "trainingSessions")
    )
    target: dict[str, Any] = {"output_model_id": "mine", "base_model": BASE}
    wrong = [
        refusal(manager.promote_checkpoint, name=of_session, **target),
        refusal(manager.promote_session_checkpoint, name=of_job, **target),
        refusal(manager.promote_training_job_checkpoint, name=of_job, **target),
        refusal(manager.promote_checkpoint, "job-2", name=of_job, **target),
        refusal(manager.promote_checkpoint, None, name, name=of_job, **target),
    ]
    claim(all(isinstance(error, ValueError) for error in wrong), f"{wrong}")
    claim(not stage.exchanges("promote"), "the SDK should refuse these before any request")
    body = {"output_model": f"{account}/models/mine", "base_model": BASE, "trainer_job_id": f"{account}/dpoJobs/job-1"}
    family = stage.http.post(f"/v1/{account}/checkpoints/{name}:promote", json=body)
    session = stage.http.post(f"/v1/{of_session}:promote", json={**body, "trainer_job_id": ""})
    claim((family.status_code, session.status_code) == (400, 404), f"{family.text}, {session.text}")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        old = manager.promote_checkpoint("job-1", name, "mine-by-position", BASE)
    claim([warning.category for warning in told] == [DeprecationWarning], f"{told}")
    listed = promotions.row(stage, name).name
    model = promotions.promote_rightly(stage, promotions.row(stage, name), "mine")
    claim(listed == of_job and model["state"] == old["state"] == "READY", f"{listed}, {model}")
    return Report(
        sees=[*(promotions.first_line(error) for error in wrong[:3]), f"the positional form: {told[0].message}"[:160]],
        exchanges=stage.exchanges("promote")[:1],
        right=[f"passes on the name that the list gave, unchanged: {listed}"],
    )


@scenario("D14", "the newest promotable row of a LoRA job is a merged one and gives a base model")
def the_newest_row_is_merged(stage: Stage) -> Report:
    """The kind of a promoted model is that of the row, and the newest row of a LoRA job may hold no adapter."""
    from ftsim.training.promote_checkpoint import choose

    client = stage.client(rank=4)
    train(client, 0, 1)
    adapter = promotions.sampler(client, "step-2")
    merged = promotions.sampler(client, "step-2-merged", "merged_base")
    rows = promotions.rows(stage)
    newest = choose(rows, None)
    claim(newest.id == merged, f"the newest promotable row is {newest.id}")
    surprise = promotions.promote(stage, newest.id, "newest")
    claim(surprise["kind"] == "HF_BASE_MODEL", f"{merged} became {surprise['kind']}")
    wanted = next(row for row in rows if row.promotable and row.type.endswith("INFERENCE_LORA"))
    model = promotions.promote_rightly(stage, wanted, "mine")
    claim(wanted.id == adapter and model["kind"] == "HF_PEFT_ADDON", f"{wanted.id} became {model['kind']}")
    return Report(
        sees=[
            f"rows, newest first: {', '.join(f'{row.id} {row.type}' for row in rows)}",
            f"the newest one becomes {surprise['kind']}",
        ],
        exchanges=stage.exchanges("promote")[:1],
        right=[
            f"chooses by checkpointType, {wanted.type}: {model['kind']} on {model['peftDetails']['baseModel']}",
            f"the job's base model is {BASE}",
        ],
    )


@scenario("D15", "the newest row is not the highest step: an older step saved again is promoted")
def the_newest_row_is_of_an_older_step(stage: Stage) -> Report:
    """Rows are in the order of time, and an older step can be saved later."""
    from ftsim.training.promote_checkpoint import choose

    first = stage.client()
    train(first, 0)
    first.save_state("step-1").result()
    train(first, 1)
    highest = promotions.sampler(first, "step-2")
    again = stage.client()  # a retry of the run goes back to the state before
    again.load_state_with_optimizer("step-1").result()
    older = promotions.sampler(again, "step-1")
    rows = promotions.rows(stage)
    newest = choose(rows, None)
    claim(newest.id == older, f"the newest promotable row is {newest.id}")
    promotions.promote(stage, newest.id, "newest")
    step = promotions.step_of(stage, "newest")
    claim(step == 1, f"the model holds step {step}")
    best = max((row for row in rows if row.promotable), key=lambda row: int(row.id.split("-")[1]))
    right = choose(rows, "step-2")
    claim(best.id == right.id == highest, f"by name {right.id}, by step {best.id}")
    model = promotions.promote_rightly(stage, right, "mine")
    claim(promotions.step_of(stage, "mine") == 2, f"{model['name']} holds step {promotions.step_of(stage, 'mine')}")
    return Report(
        sees=[f"rows, newest first: {', '.join(row.id for row in rows)}", f"the newest one's model holds step {step}"],
        exchanges=stage.exchanges("promote")[:1],
        right=[f"names the checkpoint or compares steps of one lineage: {highest}, step 2, to {model['name']}"],
    )


@scenario("D16", "output_model_id is set and no save was promotable: found out at the very end")
def nothing_that_was_saved_is_promotable(stage: Stage) -> Report:
    """A run that is to end in a model has to save something that can become one."""
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    for step in (1, 2):
        train(client, step)
        checkpoints.save(f"step-{step}", data_consumed=step)
    rows = promotions.rows(stage)
    naive = [row for row in rows if row.promotable]
    claim(len(rows) == 2 and not naive, f"the rows are {rows}")
    slept = stage.time.slept
    error = refusal(checkpoints.promote_latest, "mine", BASE)
    claim("no promotable checkpoint" in str(error) and not stage.exchanges("promote"), str(error))
    waited = stage.time.slept - slept
    checkpoints.save("step-2", promotable=True, data_consumed=2)
    model = checkpoints.promote_latest("mine", BASE)
    claim(model["state"] == "READY", f"got {model}")
    return Report(
        sees=[f"training is over; promotable rows: {len(naive)} of {len(rows)}", f"after {waited:.0f} s: {error}"],
        exchanges=stage.exchanges("list_checkpoints")[-1:],
        right=[f"a recipe with output_model_id always makes its last save promotable: {model['name']}"],
    )


DAY_S = 24 * 3600


@scenario("D17", "a deleted trainer's checkpoints are listed and promoted for thirty days, then gone")
def a_deleted_trainers_rows_expire(stage: Stage) -> Report:
    """A deleted trainer keeps its checkpoints for thirty days, and not a day longer."""
    client = stage.client()
    train(client, 0)
    name = promotions.sampler(client, "step-1")
    client.save_state("step-1").result()
    stage.manager.delete("job-1")
    state = stage.manager.get("job-1")["state"]
    jobs = f"/v1/accounts/{stage.account}/rlorTrainerJobs"
    listed = stage.http.get(jobs).json().get("rlorTrainerJobs") or []
    claim(state == "JOB_STATE_DELETED" and not listed, f"{state}, listed {listed}")
    cancelled = stage.http.post(f"{jobs}/job-1:cancel", json={})
    claim("cannot cancel job in state: JOB_STATE_DELETED" in cancelled.text, cancelled.text)
    stage.clock.advance(29 * DAY_S)
    stage.manager.delete("job-1")  # does not start the thirty days anew
    kept = [row.id for row in promotions.rows(stage)]
    model = promotions.promote_rightly(stage, promotions.row(stage, name), "mine")
    claim(kept == ["step-1", name] and model["state"] == "READY", f"day 29: {kept}, {model}")
    stage.clock.advance(1.01 * DAY_S)
    gone = refusal(stage.manager.list_checkpoints, "job-1")
    late = refusal(promotions.promote, stage, name, "late")
    claim("(HTTP 404)" in str(late) and stage.manager.try_get("job-1") is None, str(late))
    still = stage.http.get(f"/v1/accounts/{stage.account}/models/mine").json()["state"]
    claim(still == "READY", f"the model promoted in time is {still}")
    return Report(
        sees=[
            f"the job: {state}, and no list of jobs shows it",
            f"day 31: {promotions.first_line(late)}",
            f"its list: {promotions.first_line(gone)}",
        ],
        exchanges=[*stage.exchanges("cancel_job"), *stage.exchanges("promote")],
        right=["promotes what it wants to keep within thirty days of the first delete: the model stays"],
    )
