"""The row of a job outlives its pod for a while."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage

ID = "F2"
TITLE = "a dead trainer still shown as RUNNING is waited for, and never resumed"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("jobs.stale_running_reads", 2)
    stage.job()
    running.preempt(stage)
    error = refusal(running.reconnect, stage)
    exchanges = stage.exchanges()
    seen = isinstance(error, RuntimeError) and not stage.exchanges("resume_job")
    still_upstream(UPSTREAM, seen, f"reconnect_and_wait raised {error!r} without resuming")
    claim(running.state(stage) == "JOB_STATE_FAILED", f"the job is {running.state(stage)}")
    stage.job("job-2")
    running.preempt(stage, "job-2")
    endpoint = running.bring_up(stage, "job-2")
    claim(running.state(stage, "job-2") == "JOB_STATE_RUNNING", f"{endpoint} of a job that does not run")
    states = [exchange.answer["state"] for exchange in exchanges if exchange.endpoint == "get_job"]
    return Report(
        sees=[f"GET job: {', '.join(states)}; healthz: 503", running.first_line(error)],
        exchanges=[exchange for exchange in exchanges if exchange.endpoint in ("get_job", "healthz")],
        right=[f"believes a state only when it lasts, and resumes what failed while it waited: {endpoint.job_id} runs"],
    )
