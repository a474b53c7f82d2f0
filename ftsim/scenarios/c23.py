"""Cleaning up deletes the trainer, and with it what a run could resume from."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "C23"
TITLE = "close() deletes the trainer that holds the checkpoints: nothing to resume"


def reproduce(stage: Stage) -> Report:
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
