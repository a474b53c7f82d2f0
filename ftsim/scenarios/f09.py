"""A trainer that is asked nothing for an hour is taken back."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "F9"
TITLE = "a long rollout looks idle: the trainer is stopped for inactivity"
HOUR_S = 3600.0


def reproduce(stage: Stage) -> Report:
    client = stage.client(inactivity_s=HOUR_S)
    checkpoints = stage.checkpoints(client)
    train(client, 0)
    checkpoints.save("step-1", data_consumed=1)
    for _ in range(4):
        stage.clock.advance(0.75 * HOUR_S)
        client.get_info()  # any call will do
    kept = stage.manager.get("job-1")["state"]
    stage.clock.advance(1.1 * HOUR_S)
    stopped = stage.manager.get("job-1")
    claim((kept, stopped["state"]) == ("JOB_STATE_RUNNING", "JOB_STATE_PAUSED"), f"{kept}, {stopped['state']}")
    with running.patient(stage):
        error = refusal(train, client, 1)
    long = refusal(stage.manager.create, stage.job_config("job-2", inactivity_timeout="14400s"))
    claim(isinstance(long, ValueError) and "3 hours" in str(long), f"{long!r}")
    running.bring_up(stage)
    resumed = stage.checkpoints(stage.client()).resume()
    claim(resumed and resumed.step == 1 and resumed.data_consumed == 1, f"resumed {resumed}")
    return Report(
        sees=[f"{stopped['state']}: {stopped['statusMessage']}", f"the next step: {running.first_line(error)}",
              f"longer than three hours is refused: {running.first_line(long)}"],
        exchanges=stage.exchanges("get_job")[1:2],
        right=["a cheap call every 45 minutes kept it for three hours",
               f"and expects to be stopped: brings the job up again, resumes at step {resumed.step}"],
    )  # fmt: skip
