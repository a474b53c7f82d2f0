"""Failures of going on with a run: the wrong checkpoint, a torn one, or none."""

import json
import re
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments, trainers
from ftsim.scenarios.support.report import Report, claim, refusal
from ftsim.scenarios.support.stage import BASE, Stage, count_steps, newest_as_text, train


@scenario("C13", "the same log_path with a new trainer: a silent fresh start beside the old job's cursor file")
def a_new_trainer_beside_an_old_cursor(stage: Stage) -> Report:
    """The list is per job: with a new trainer and the old log path there is a cursor and no checkpoint."""
    client = stage.client()
    train(client, 0)
    stage.checkpoints(client).save("step-1", data_consumed=8)
    new = stage.client("job-2")
    rows = stage.manager.list_checkpoints("job-2")
    naive = rows[-1]["name"] if rows else None
    claim(naive is None, f"naive resume finds {naive}")
    ours = refusal(stage.checkpoints(new, "job-2").resume)
    claim("belong to another job" in str(ours), f"our client says {ours}")
    resumed = stage.checkpoints(stage.client()).resume()
    claim(resumed and resumed.data_consumed == 8, f"on the old job we resume {resumed}")
    return Report(
        sees=["job-2 lists nothing: 'no checkpoint, starting at step 0', while dataloader.json knows step-1"],
        exchanges=stage.exchanges("list_checkpoints")[2:3],
        right=[f"TrainingCheckpoints refuses: {str(ours)[:220]}", f"with the old job it resumes step {resumed.step}"],
    )


@scenario("C14", "init_from resets the step to 0, so names of two phases on one job collide")
def two_phases_use_the_same_names(stage: Stage) -> Report:
    """A run that starts from another phase's checkpoint counts from 0 again, and comes to names that are taken."""
    first = stage.client()
    dpo = stage.checkpoints(first, run="dpo")
    train(first, 0)
    dpo.save("step-1", data_consumed=8)
    naive = stage.client()
    naive.load_state("step-1").result()
    train(naive, 1, 2)
    collision = refusal(lambda: naive.save_state("step-1").result())
    claim("already exists" in str(collision), f"refused with {collision}")
    second = stage.client()
    rl = stage.checkpoints(second, run="rl")
    info = rl.resume(init_from_checkpoint="job-1:step-1")
    train(second, 1)
    ours = refusal(rl.save, "step-1", data_consumed=4)
    rl.save("rl-step-1", data_consumed=4)
    resumed = stage.checkpoints(stage.client(), run="rl").resume()
    claim(info and info.step == 0 and resumed and resumed.source == "rl-step-1", f"{info}, then {resumed}")
    return Report(
        sees=[f"the second phase saves its own step-1: {str(collision)[:160]}"],
        exchanges=stage.exchanges("save_weights")[1:2],
        right=[f"TrainingCheckpoints says so before it sends: {str(ours)[:200]}", "a prefix per phase: rl-step-1"],
    )


@scenario("C22", "the newest checkpoint is torn: the loader starts from scratch, or from half a model")
def the_newest_checkpoint_is_torn(stage: Stage) -> Report:
    """The newest state is listed and not whole."""
    errors, resumes = {}, []
    for number, damage in enumerate(("missing_metadata", "missing_shard")):
        job = f"job-{number}"
        client = stage.client(job)
        checkpoints = stage.checkpoints(client, job, run=job)
        train(client, 0)
        checkpoints.save("step-1", data_consumed=8)
        train(client, 1)
        stage.quirks.set("dcp.torn", damage, times=1)
        checkpoints.save("step-2", data_consumed=16)
        rows = [row["name"].rsplit("/", 1)[1] for row in stage.manager.list_checkpoints(job)]
        claim(rows == ["step-1", "step-2"], f"the rows are {rows}")
        new = stage.client(job)
        untouched = stage.weights(new)
        errors[damage] = str(refusal(_load, new, "step-2"))
        claim(stage.weights(new) == untouched, "a torn state was loaded in part")
        resumed = stage.checkpoints(new, job, run=job).resume()
        claim(resumed and (resumed.source, resumed.data_consumed) == ("step-1", 8), f"resumed {resumed}")
        resumes.append(resumed.source)
    return Report(
        sees=[f"{damage}: step-2 is listed, load says {said[:140]}" for damage, said in errors.items()],
        exchanges=stage.exchanges("load_weights")[:2],
        right=[f"TrainingCheckpoints tries the row before, {resumes[0]}, with its cursor; with none left it stops"],
    )


@scenario("C32", "the newest checkpoint is damaged on disk: every way to use it is refused")
def the_newest_checkpoint_is_damaged(stage: Stage) -> Report:
    """A bit of the newest state and of the newest weights is another than was saved."""
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    train(client, 0)
    checkpoints.save("step-1", data_consumed=8)
    train(client, 1)
    stage.quirks.set("save.damaged", True)
    checkpoints.save("step-2", data_consumed=16, promotable=True)
    new = stage.client()
    untouched = stage.weights(new)
    loading = refusal(_load, new, "step-2")
    promoting = refusal(stage.checkpoints(new).promote_latest, "m1", BASE)
    claim("is damaged on disk" in str(loading), f"a damaged state was not refused: {loading}")
    claim("is damaged on disk" in str(promoting), f"damaged weights were not refused: {promoting}")
    claim(stage.weights(new) == untouched, "a damaged state was loaded in part")
    resumed = stage.checkpoints(new).resume()
    claim(resumed and (resumed.source, resumed.data_consumed) == ("step-1", 8), f"resumed {resumed}")
    return Report(
        sees=[f"load of step-2: {str(loading)[:160]}", f"promotion: {str(promoting)[:160]}"],
        exchanges=stage.exchanges("load_weights")[:2],
        right=[f"TrainingCheckpoints tries the row before, {resumed.source}, with its cursor; with none left it stops"],
    )


def _load(client: Any, name: str) -> None:
    client.load_state_with_optimizer(name).result()


@scenario("C23", "close() deletes the trainer that holds the checkpoints: nothing to resume")
def closing_deletes_the_trainer(stage: Stage) -> Report:
    """Cleaning up deletes the trainer, and with it what a run could resume from."""
    from ftsim.training import trainers

    client = stage.client()
    train(client, 0)
    stage.checkpoints(client).save("step-1", data_consumed=8, promotable=True)
    stage.manager.delete("job-1")
    error = refusal(stage.manager.resume_and_wait, "job-1")
    answer = stage.exchanges("resume_job")[-1].answer
    claim("JOB_STATE_DELETED" in answer["message"], f"resume says {answer}")
    model = stage.checkpoints(client).promote_latest("rescued", BASE)

    ours = stage.client("job-2")
    stage.checkpoints(ours, "job-2", run="kept").save("step-1", data_consumed=8)
    trainers.release(stage.manager, "job-2")
    stage.manager.resume_and_wait("job-2")
    resumed = stage.checkpoints(stage.client("job-2"), "job-2", run="kept").resume()
    claim(resumed and resumed.source == "step-1", f"resumed {resumed}")
    return Report(
        sees=[f"the next run resumes the job: {str(error).splitlines()[0][:120]}: {answer['message']}"],
        exchanges=stage.exchanges("delete_job", "resume_job", "cancel_job"),
        right=[
            "release the accelerators with a cancel, which keeps the checkpoints: resume and load work",
            f"what was deleted can still be promoted for 30 days: {model['name']}",
        ],
    )


@scenario("C24", "a rerun of the first phase resumes from a row of the later phase, which is newest on the job")
def a_rerun_resumes_from_a_later_phase(stage: Stage) -> Report:
    """Two phases on one job: the newest row belongs to the other one."""
    first = stage.client()
    train(first, 0)
    stage.checkpoints(first, run="dpo").save("step-1", data_consumed=8)
    second = stage.client()
    rl = stage.checkpoints(second, run="rl")
    rl.resume(init_from_checkpoint="job-1:step-1")
    train(second, 1)
    rl.save("rl-step-1", data_consumed=4)
    newest = newest_as_text(stage.manager.list_checkpoints("job-1"))
    claim(newest == "rl-step-1", f"the newest row is {newest}")
    again = stage.client()
    resumed = stage.checkpoints(again, run="dpo").resume()
    claim(resumed and (resumed.source, resumed.data_consumed) == ("step-1", 8), f"resumed {resumed}")
    claim(stage.weights(again) == stage.weights(first), "the weights are not those of the first phase")
    return Report(
        sees=[f"the newest row of the job is {newest}: the DPO rerun goes on from RL's weights"],
        exchanges=stage.exchanges("list_checkpoints")[-1:],
        right=["TrainingCheckpoints resumes rows that its own cursor file knows: step-1, 8 rows consumed"],
    )


@scenario("F12", "after a full-parameter unload other jobs cannot load that trainer's checkpoints")
def states_become_unreadable_for_other_jobs(stage: Stage) -> Report:
    """Unloading a full-parameter model takes more away than the model."""
    stage.quirks.set("unload.clears_request_state", True)
    source, adapter = stage.client("job-1"), stage.client("job-2", rank=4)
    for client in (source, adapter):
        train(client, 0)
        client.save_state("step-1").result()
    other, lora = stage.client("job-3"), stage.client("job-4", rank=4)
    reference = other.resolve_checkpoint_path("step-1", source_job_id="job-1")
    other.load_state(reference).result()
    source.unload_model().result()
    error = refusal(lambda: other.load_state(reference).result())
    claim("Trainer job not found or not running" in str(error), str(error))
    adapter.unload_model().result()
    lora.load_state(lora.resolve_checkpoint_path("step-1", source_job_id="job-2")).result()
    stage.job("job-5")
    kept, reader = stage.client("job-5"), stage.client("job-6")
    train(kept, 1)
    kept.save_state("step-1").result()
    reader.load_state(reader.resolve_checkpoint_path("step-1", source_job_id="job-5")).result()
    return Report(
        sees=[f"load_state({reference!r}) worked; after the unload: {trainers.first_line(error)}"],
        exchanges=[*stage.exchanges("unload_model")[:1], *stage.exchanges("load_weights")[1:2]],
        right=["unloads LoRA models only: their checkpoints, and those of a model left loaded, are found"],
    )


@scenario("C25", "the server's half of a checkpoint is there, the client's half is not")
def half_a_checkpoint(stage: Stage) -> Report:
    """The process dies between the visible row and the write of its cursor."""
    client = stage.client()
    train(client, 0)
    stage.checkpoints(client, run="naive").save("step-1", data_consumed=8)
    train(client, 1)
    client.save_state("step-2").result()  # and here the naive program dies, before it writes dataloader.json
    cursors = json.loads((stage.folder / "naive" / "dataloader.json").read_text())
    newest = newest_as_text(stage.manager.list_checkpoints("job-1"))
    claim(newest == "step-2" not in cursors, f"the newest row is {newest}, the file knows {cursors}")

    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2", run="ours")
    train(ours, 0)
    checkpoints.save("step-1", data_consumed=8)
    train(ours, 1)
    _killed_after_the_save(checkpoints)
    refusal(checkpoints.save, "step-2", data_consumed=16)
    again = stage.client("job-2")
    resumed = stage.checkpoints(again, "job-2", run="ours").resume()
    claim(resumed and (resumed.source, resumed.data_consumed) == ("step-2", 16), f"resumed {resumed}")
    return Report(
        sees=[
            f"the list ends with {newest}, dataloader.json knows {', '.join(cursors)}: naive code loads step-2 and "
            "reads the data from the beginning, careful code goes back to step-1"
        ],
        exchanges=stage.exchanges("save_weights")[1:2],
        right=["TrainingCheckpoints writes the cursor before the save and confirms it afterwards: step-2, 16 rows"],
    )


def _killed_after_the_save(checkpoints: Any) -> None:
    """Let the process die when the save was made and nothing was looked at yet."""

    class Dead(Exception):
        pass

    class Control:
        def list_checkpoints(self, job: str) -> Any:
            if self.calls:
                raise Dead
            self.calls += 1
            return real.list_checkpoints(job)

        calls = 0

    real, checkpoints.fw_client = checkpoints.fw_client, Control()


@scenario("C29", "after a resume the sampler still holds old weights: a batch of rollouts by another policy")
def the_sampler_is_not_resumed(stage: Stage) -> Report:
    """The trainer goes on from its checkpoint; the deployment has what the last life loaded, or nothing."""
    client = stage.client()
    deployments.deploy(stage)
    train(client, 0)
    claim(deployments.load(stage, deployments.save(client, "sync-1")), deployments.first_error(stage))
    train(client, 1, 2)
    stage.checkpoints(client).save("step-3", data_consumed=24)
    again = stage.client()
    resumed = stage.checkpoints(again).resume()
    policy, sampler = stage.weights(again), deployments.served(stage)
    old = deployments.weights(stage)
    claim(resumed and sampler[0] and sampler[0].startswith("sync-1"), f"resumed {resumed}, served {sampler}")
    weights = deployments.syncer(stage, again)
    name = deployments.sync(stage, weights, "resumed-3")
    claim(deployments.served(stage) == [name] and deployments.weights(stage) != old, "the sync changed nothing")
    return Report(
        sees=[
            f"the trainer is at step {resumed.step}, the deployment serves {sampler[0]} and answers without an error",
            f"its rollouts are not of the policy that is trained ({policy[:8]})",
        ],
        exchanges=stage.exchanges("load_weights", "hot_load_status")[-1:],
        right=[f"one full sync before the first rollout, under a name that was never used: {name}"],
    )


@scenario("C31", "the step is read out of the checkpoint's name: a resumed run counts from 0")
def the_step_is_read_out_of_the_name(stage: Stage) -> Report:
    """Weights and optimizer are those of step 3; the name does not say so in the form that is looked for."""
    client = stage.client()
    train(client, 0, 1, 2)
    steps = {}
    for name in ("s000003", "dpo-step-3", "step-3"):
        client.save_state(name).result()
        match = re.fullmatch(r"step-(\d+)", name)
        steps[name] = int(match[1]) if match else 0
    claim(steps == {"s000003": 0, "dpo-step-3": 0, "step-3": 3}, f"naive parsing gives {steps}")
    rows = stage.rows("job-1")
    claim([row.step for row in rows] == [3, 3, 3], f"the states are of steps {[row.step for row in rows]}")
    again = stage.client()
    again.load_state_with_optimizer("s000003").result()
    counted = count_steps(again, 3)
    checkpoints = stage.checkpoints(stage.client("job-2"), "job-2", run="ours", phase="dpo")
    train(checkpoints.client, 0, 1, 2)
    checkpoints.save_step(3, 24)
    resumed = stage.checkpoints(stage.client("job-2"), "job-2", run="ours", phase="dpo").resume()
    claim(counted == 4 and resumed and resumed.step == 3, f"the optimizer counts {counted}, resumed {resumed}")
    return Report(
        sees=[f"{name} is taken for step {step}, its schedule starts anew" for name, step in steps.items() if not step],
        exchanges=stage.exchanges("load_weights")[:1],
        right=[
            f"asks the optimizer, which counts {counted - 1} steps before this one, or stores the step",
            f"TrainingCheckpoints reads what its names have in common, phase or not: step {resumed.step}",
        ],
    )
