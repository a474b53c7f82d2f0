"""Failures of loading: references that do not resolve, optimizers left out, ranks and models that differ."""

from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import trainers
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, OTHER_BASE, Stage, count_steps, train


@scenario("C1", "the path of a sampler save handed to load_state: refused, and once it took the trainer with it")
def sampler_weights_are_no_state(stage: Stage) -> Report:
    """Sampler weights hold no optimizer, and are no state that training can go on from."""
    client = stage.client()
    train(client, 0)
    path = client.save_weights_for_sampler_ext("step-1", checkpoint_type="base").path
    client.save_state("step-1").result()
    error = refusal(lambda: client.load_state_with_optimizer(path).result())
    claim("holds sampler weights" in str(error), f"refused with {error}")
    client.load_state_with_optimizer("step-1").result()
    doomed = stage.client("job-2")
    train(doomed, 0)
    lost = doomed.save_weights_for_sampler_ext("step-1", checkpoint_type="base").path
    stage.quirks.set("load.sampler_path_kills_trainer", True)
    refusal(lambda: doomed.load_state_with_optimizer(lost).result())
    state = stage.manager.get("job-2")["state"]
    claim(state == "JOB_STATE_FAILED", f"the job is {state}")
    return Report(
        sees=[f"load_state({path!r}): {str(error)[:200]}", f"on older trainers the job is {state} afterwards"],
        exchanges=stage.exchanges("load_weights")[:1],
        right=["load what save_state wrote ('step-1'); an adapter's weights go through load_adapter"],
    )


_DOCUMENTED = ("gs://bucket/job-1/step-1", "tinker://job-1/weights/step-1", "/mnt/step-1", "runs/step-1")


@scenario(
    "C2",
    "gs://, tinker://, absolute and nested references are documented and refused by the SDK",
    upstream=SDK_1_2_28,
)
def documented_references_are_refused(stage: Stage) -> Report:
    """Forms of a reference that documents show and that the SDK does not let through."""
    client = stage.client()
    errors = {form: refusal(client.load_state, form) for form in _DOCUMENTED}
    refused = all(isinstance(error, ValueError) for error in errors.values())
    still_upstream(SDK_1_2_28, refused and not stage.exchanges("load_weights"), f"refused by the SDK: {errors}")
    own: list[str] = []
    for style in ("tinker_uri", "gs_uri"):
        with stage.quirks.set("save.path_style", style):
            path = client.save_state(f"step-{len(own)}").result().path
        claim("://" in path, f"the path is {path}")
        own.append(f"{path}: {refusal(client.load_state, path)}")
    stage.checkpoints(client).save("step-7", data_consumed=7)
    resumed = stage.checkpoints(client).resume()
    claim(resumed and resumed.source == "step-7", f"resumed {resumed}")
    client.load_state("cross_job://job-1/step-1").result()
    return Report(
        sees=[
            *(f"load_state({form!r}): {error}" for form, error in errors.items()),
            f"a server's own path cannot be loaded: {own[0]}",
        ],
        exchanges=stage.exchanges("load_weights"),
        right=["bare names, or cross_job://<job>/<name>; TrainingCheckpoints keeps names, not paths"],
    )


@scenario("C3", "cross_job:// to the same job says not found, though the checkpoint was just saved")
def cross_job_to_the_same_job(stage: Stage) -> Report:
    """References across jobs are looked up in durable storage, where a fresh state is not yet."""
    stage.quirks.set("dcp.durable_after_s", 60.0)
    client = stage.client()
    train(client, 0)
    client.save_state("step-1").result()
    path = client.resolve_checkpoint_path("step-1", source_job_id="job-1")
    error = refusal(lambda: client.load_state(path).result())
    claim("not found" in str(error), f"refused with {error}")
    before = stage.weights(client)
    train(client, 1)
    resumed = stage.checkpoints(client).resume(init_from_checkpoint="job-1:step-1")
    claim(resumed and resumed.step == 0 and stage.weights(client) == before, f"resumed {resumed}")
    stage.clock.advance(60)
    client.load_state(path).result()
    return Report(
        sees=[f"load_state({path!r}): {str(error)[:160]}", "a minute later the same call succeeds"],
        exchanges=stage.exchanges("load_weights")[:2],
        right=["TrainingCheckpoints.resume(init_from_checkpoint='job-1:step-1') on job-1 sends the bare name"],
    )


@scenario("C4", "cross_job:// to a job that is gone: 404")
def cross_job_to_a_job_that_is_gone(stage: Stage) -> Report:
    """The job that holds the checkpoint is deleted and past its retention, or never was."""
    stage.client("source").save_state("step-9").result()
    client = stage.client()
    stage.manager.delete("source")
    client.load_state("cross_job://source/step-9").result()
    stage.clock.advance(31 * 24 * 3600)
    gone = refusal(lambda: client.load_state("cross_job://source/step-9").result())
    unknown = refusal(lambda: client.load_state("cross_job://never/step-9").result())
    claim("not found" in str(gone) and "not found" in str(unknown), f"{gone}; {unknown}")
    jobs = len(stage.exchanges("create_job"))
    early = refusal(_start_from, stage, "source", "step-9")
    claim(len(stage.exchanges("create_job")) == jobs, "a trainer was created for nothing")
    return Report(
        sees=[
            f"31 days after the source was deleted: {str(gone)[:160]}",
            f"a job that never was: {str(unknown)[:120]}",
        ],
        exchanges=stage.exchanges("load_weights", "delete_job"),
        right=[f"read the row before a trainer is created, and keep the source: {str(early).splitlines()[0][:160]}"],
    )


def _start_from(stage: Stage, job: str, name: str) -> None:
    rows = stage.manager.list_checkpoints(job)
    if not any(row["name"].endswith(f"/{name}") for row in rows):
        raise RuntimeError(f"{job} has no checkpoint {name}")
    stage.manager.create(stage.job_config("phase-2"))


@scenario("C5", "a pooled trainer refuses cross_job://")
def the_pool_refuses_cross_job(stage: Stage) -> Report:
    """A training session is no source job: what continues a job's checkpoint elsewhere fails on the pool."""
    stage.client("source", rank=4).save_state("step-1").result()
    first = stage.serverless()
    before = first.create_lora_training_client(BASE, rank=4)
    train(before, 1)
    saved = before.save_state("step-1").result().path
    client = stage.serverless().create_lora_training_client(BASE, rank=4)
    fresh = stage.weights(client)
    of_job = refusal(lambda: client.load_state("cross_job://source/step-1").result())
    claim("a session is no job" in str(of_job), str(of_job))
    of_session = refusal(lambda: client.load_state(f"cross_job://{first.training_session_id}/step-1").result())
    claim("a session is no job" in str(of_session), str(of_session))
    colon = stage.ask_pool(client, "load_weights", seq_id=3, path=f"{first.training_session_id}:step-1")
    claim(colon["category"] == "user" and "cannot load" in colon["error"], f"{colon}")
    claim(stage.weights(client) == fresh, "a refused load changed the weights")
    client = stage.serverless().create_lora_training_client(BASE, rank=4)
    client.load_state_with_optimizer(saved).result()
    claim(stage.weights(client) == stage.weights(before), f"{saved} should be what was saved")
    client.save_state("step-2").result()
    client.load_state_with_optimizer("step-2").result()
    return Report(
        sees=[trainers.first_line(of_job), f"and of a session's id: {str(colon['error'])[:200]}"],
        exchanges=stage.exchanges("load_weights")[:2],
        right=[f"names another run's checkpoint by its run, {saved}, and this run's by its bare name"],
    )


@scenario("C6", "the optimizer is silently not restored: the next step is that of a weights-only load")
def the_optimizer_is_not_restored(stage: Stage) -> Report:
    """A load that leaves the optimizer out says nothing; the next step differs."""
    whole = stage.client()
    train(whole, 0, 1)
    whole.save_state("step-2").result()
    resumed, weights_only, dropped = stage.client(), stage.client(), stage.client()
    resumed.load_state_with_optimizer("step-2").result()
    weights_only.load_state("step-2").result()
    with stage.quirks.set("load.drop_optimizer", True):
        dropped.load_state_with_optimizer("step-2").result()
    counted = {name: count_steps(c, 2) for name, c in (("whole", whole), ("resumed", resumed), ("dropped", dropped))}
    count_steps(weights_only, 2)
    digests = [stage.weights(client) for client in (whole, resumed, dropped, weights_only)]
    claim(digests[0] == digests[1], "an honest load continues as the run that was not interrupted")
    claim(digests[2] == digests[3] != digests[0], "a dropped optimizer should be a weights-only load, bit for bit")
    claim(counted == {"whole": 3, "resumed": 3, "dropped": 1}, f"the optimizers count {counted}")
    return Report(
        sees=[
            "load_state_with_optimizer succeeds; after one step the weights are those of a weights-only load",
            f"they differ from the run that was never interrupted ({digests[2][:12]} and {digests[0][:12]})",
        ],
        exchanges=stage.exchanges("load_weights")[-1:],
        right=[f"compare the step that the first optim_step reports with the checkpoint's: {counted}"],
    )


@scenario("C7", "a load without the optimizer flag brings the moments along on one server and not on another")
def the_optimizer_flag_is_left_out(stage: Stage) -> Report:
    """The server decides the meaning of a load without the `optimizer` flag."""
    source = stage.client()
    train(source, 0, 1)
    source.save_state("step-2").result()
    counted = {}
    for default in (False, True):
        client = stage.client()
        with stage.quirks.set("load.default_optimizer", default):
            stage.ask(client, "load_weights", path="step-2")
        counted[default] = count_steps(client, 2)
    claim(counted == {False: 1, True: 3}, f"the next step is number {counted}")
    client = stage.client()
    with stage.quirks.set("load.default_optimizer", True):
        client.load_state("step-2").result()
    sent = stage.exchanges("load_weights")[-1]
    claim(sent.json["optimizer"] is False and count_steps(client, 2) == 1, f"the SDK sends {sent.json}")
    return Report(
        sees=[f"the same request: the next step is number {counted[False]} here and {counted[True]} there"],
        exchanges=[stage.exchanges("load_weights")[0], sent],
        right=["always send the flag, as the SDK does: the server's default does not matter"],
    )


@scenario("C8", "a weights-only load resets the live optimizer on one server and keeps it on another")
def a_weights_only_load_keeps_old_moments(stage: Stage) -> Report:
    """Loading weights only: the live optimizer starts anew, or keeps moments of other weights."""
    stage.client().save_state("step-0").result()
    counted, digests = {}, {}
    for rule in ("reset", "keep"):
        client = stage.client()
        train(client, 3, 4)
        with stage.quirks.set("load.weights_only", rule):
            client.load_state("step-0").result()
        counted[rule], digests[rule] = count_steps(client, 0), stage.weights(client)
    fresh = stage.client()
    with stage.quirks.set("load.weights_only", "keep"):
        fresh.load_state("step-0").result()
    count_steps(fresh, 0)
    claim(counted == {"reset": 1, "keep": 3}, f"the next step is number {counted}")
    claim(digests["keep"] != digests["reset"] == stage.weights(fresh), "stale moments should show in the weights")
    return Report(
        sees=[
            f"after the load the next step is number {counted['reset']} here, {counted['keep']} there, with old moments"
        ],
        exchanges=stage.exchanges("load_weights")[:2],
        right=["load into a model that was just created: there are no moments to keep, and both servers agree"],
    )


@scenario("C9", "loading in the middle of a run: LoadWeights is not permitted")
def a_load_in_the_middle_of_a_run(stage: Stage) -> Report:
    """A load is allowed as the first request of a model, and at no other time."""
    stage.quirks.set("load.first_request_only", True)
    client = stage.client()
    train(client, 0)
    client.save_state("step-1").result()
    error = refusal(lambda: client.load_state("step-1").result())
    claim("not permitted with seq_id" in str(error), f"refused with {error}")
    checkpoints = stage.checkpoints(client, run="ours")
    checkpoints.save("step-1b", data_consumed=8)
    resumed = stage.checkpoints(stage.client(), run="ours").resume()
    claim(resumed and resumed.source == "step-1b", f"resumed {resumed}")
    return Report(
        sees=[f"after the first step: {str(error)[:160]}"],
        exchanges=stage.exchanges("load_weights"),
        right=["create a client and load at once, as TrainingCheckpoints.resume() expects: allowed everywhere"],
    )


@scenario("C10", "rank of client, job and checkpoint differ: refused, at creation or at load")
def ranks_differ(stage: Stage) -> Report:
    """Rank and mode are fixed when the job is created."""
    stage.job("full")
    mode = refusal(stage.service("full").create_training_client, base_model=BASE, lora_rank=2)
    claim("without LoRA config" in str(mode), f"refused with {mode}")
    small = stage.client("rank-2", rank=2)
    train(small, 0)
    small.save_state("step-1").result()
    large = stage.client("rank-4", rank=4)
    rank = refusal(lambda: large.load_state("cross_job://rank-2/step-1").result())
    claim("LoRA rank 2" in str(rank), f"refused with {rank}")
    same = stage.client("rank-2-again", rank=2)
    same.load_state("cross_job://rank-2/step-1").result()
    claim(stage.weights(same) == stage.weights(small), "equal ranks should load")
    return Report(
        sees=[f"a LoRA client on a full-parameter job: {str(mode)[:180]}", f"rank 2 into rank 4: {str(rank)[:140]}"],
        exchanges=stage.exchanges("load_weights")[:1],
        right=["one rank for job, client and checkpoint: rank 2 into rank 2 loads"],
    )


@scenario("C11", "resuming from a checkpoint of another base model is refused")
def another_base_model(stage: Stage) -> Report:
    """A checkpoint knows the base model it belongs to."""
    stage.job("other", base_model=OTHER_BASE)
    stage.service("other").create_training_client(base_model=OTHER_BASE, lora_rank=0).save_state("step-0").result()
    client = stage.client()
    path = "cross_job://other/step-0"
    error = refusal(lambda: client.load_state(path).result())
    claim(OTHER_BASE in str(error), f"refused with {error}")
    made_for = stage.manager.get("other")["trainingConfig"]["baseModel"]
    claim(made_for == OTHER_BASE != BASE, f"the source job says {made_for}")
    return Report(
        sees=[str(error)[:200]],
        exchanges=stage.exchanges("load_weights", "get_job"),
        right=[f"ask before loading: the job that holds the checkpoint trains {made_for}"],
    )


@scenario("C12", "a warm start from a LoRA add-on at job creation has no effect, or is refused")
def a_warm_start_has_no_effect(stage: Stage) -> Report:
    """A job created with `warmStartFrom` a LoRA add-on does not start from it."""
    source = stage.client("source", rank=2)
    train(source, 0, 1)
    checkpoints = stage.checkpoints(source, "source")
    checkpoints.save("step-2", resumable=False, promotable=True)
    adapter = checkpoints.promote_latest("adapter", BASE)["name"]
    refused = _create(stage, "refused", adapter)
    stage.quirks.set("jobs.warm_start_lora", "ignored")
    taken = _create(stage, "ignored", adapter)
    claim((refused.status_code, taken.status_code) == (400, 200), f"{refused.status_code}, {taken.status_code}")
    warm, cold = stage.client("ignored", rank=2), stage.client("cold", rank=2)
    claim(stage.weights(warm) == stage.weights(cold) != stage.weights(source), "the adapter should not be there")
    stage.checkpoints(warm, "ignored").resume(warm_start_from_adapter=adapter)
    claim(stage.weights(warm) == stage.weights(source), "load_adapter should bring the adapter")
    return Report(
        sees=[
            f"refused: {refused.json()['message'][:160]}",
            "or accepted, and the new client's adapter is that of a job without a warm start, bit for bit",
        ],
        exchanges=stage.exchanges("create_job"),
        right=["create the job on the base model, then load_adapter: the adapter is there, bit for bit"],
    )


def _create(stage: Stage, job: str, adapter: str) -> Any:
    config = {"baseModel": BASE, "loraRank": 2, "maxContextLength": 64, "warmStartFrom": adapter}
    return stage.http.post(
        f"/v1/accounts/{stage.account}/rlorTrainerJobs",
        params={"rlorTrainerJobId": job},
        json={"trainingConfig": config},
    )
