"""A path is built from what it is given: a full name becomes a path within a path."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage

ID = "A16"
TITLE = "a job's full name where its short id is wanted gives 404 for a job that exists"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    from fireworks.training.sdk import fireworks_client

    job = stage.job().name
    with stage.hurry(fireworks_client):
        error = refusal(stage.manager.list_checkpoints, job)
    asked = stage.exchanges()[-1]
    doubled = f"/rlorTrainerJobs/{job}/checkpoints"
    claim(asked.status == 404 and asked.path.endswith(doubled), f"asked {asked.path}, answered {asked.status}")
    checkpoints = stage.checkpoints(stage.client(), job)
    checkpoints.save("step-0", data_consumed=0)
    claim(len(stage.truth("job-1")) == 1, "our client did not save")
    return Report(
        sees=[f"list_checkpoints({job!r}): {str(error).splitlines()[0][:120]}", "the job exists and runs"],
        exchanges=[asked],
        right=["TrainingCheckpoints takes either form and asks with the last part of the name"],
    )
