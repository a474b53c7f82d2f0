"""A resumed job shows its former state for a moment, and one of those states is taken for final."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage

ID = "F1"
TITLE = "a preempted job is resumed, read once more as FAILED, and given up"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("jobs.resume_flip_after_reads", 1)
    stage.job()
    running.preempt(stage)
    error = refusal(running.reconnect, stage)
    exchanges = stage.exchanges("get_job", "resume_job")
    seen = isinstance(error, RuntimeError) and len(stage.exchanges("resume_job")) == 1
    still_upstream(UPSTREAM, seen, f"reconnect_and_wait resumed and then raised {error!r}")
    after = stage.manager.get("job-1")["state"]
    claim(after == "JOB_STATE_RUNNING", f"the job is {after}")
    stage.job("job-2")
    stage.http.post(f"/v1/accounts/{stage.account}/rlorTrainerJobs/job-2:cancel", json={})
    running.reconnect(stage, "job-2")  # the same delay from CANCELLED is borne
    stage.job("job-3")
    running.preempt(stage, "job-3")
    endpoint = running.bring_up(stage, "job-3")
    claim(running.state(stage, "job-3") == "JOB_STATE_RUNNING", f"{endpoint} of a job that does not run")
    return Report(
        sees=[
            running.first_line(error),
            f"a moment later the job is {after}",
            "from CANCELLED the same delay is borne",
        ],
        exchanges=exchanges,
        right=[f"gives every state a grace after a resume: {endpoint.job_id} runs"],
    )
