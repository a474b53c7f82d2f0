"""RUNNING is what the control plane thinks; only a step shows that a trainer works."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, batch, train

ID = "F8"
TITLE = "the job is RUNNING and the trainer is not alive: healthz fails, or nothing is ever done"


def reproduce(stage: Stage) -> Report:
    stage.job()
    stage.quirks.set("jobs.healthz", 503, job="job-1")
    slept = stage.time.slept
    with running.patient(stage):
        error = refusal(stage.manager.wait_for_existing, "job-1", poll_interval_s=60, timeout_s=900)
    waited = stage.time.slept - slept
    claim(isinstance(error, TimeoutError) and waited >= 900, f"after {waited:.0f} s: {error!r}")
    state = stage.manager.get("job-1")["state"]
    stage.quirks.clear()
    stuck = stage.client("job-2")
    with stage.quirks.set("futures.never_resolve", True, job="job-2", endpoint="forward_backward"):
        pending = stuck.forward_backward(batch(), "cross_entropy")
        hang = refusal(pending.result, timeout=0.3)
    healthy = stage.http.get(f"/training/v1/rlorTrainerJobs/{stage.account}/job-2/api/v1/healthz").status_code
    claim(isinstance(hang, TimeoutError) and healthy == 200, f"{hang!r}, healthz {healthy}")
    again = stage.client("job-2")
    losses = train(again, 0)
    claim(running.steps(stage, again) == 1, "a new client should train")
    return Report(
        sees=[f"{state}, healthz 503, after {waited:.0f} s: {running.first_line(error)}",
              f"{running.state(stage, 'job-2')}, healthz {healthy}, and a forward_backward that never ends"],
        exchanges=stage.exchanges("get_job")[-1:],
        right=[f"gives the first step a timeout ({type(hang).__name__}) and connects again: loss {losses[0]:.3f}"],
    )  # fmt: skip
