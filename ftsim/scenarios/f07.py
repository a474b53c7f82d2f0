"""Waiting for a machine and waiting for a trainer to start are two things."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage

ID = "F7"
TITLE = "a job waits many hours for capacity; states unheard of use up the time to get ready"
HOUR_S = 3600.0


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("jobs.pending_s", 20 * HOUR_S)
    stage.quirks.set("jobs.create_s", 600.0)
    naive = stage.http.post(
        f"/v1/accounts/{stage.account}/rlorTrainerJobs", params={"rlorTrainerJobId": "job-0"},
        json={"trainingConfig": {"baseModel": stage.job_config("job-0").base_model}},
    )  # fmt: skip
    stage.clock.advance(900)
    waiting = stage.manager.get("job-0")["state"]
    claim(naive.status_code == 200 and waiting == "JOB_STATE_PENDING", f"{waiting}")
    slept = stage.time.slept
    with running.patient(stage):
        endpoint = stage.manager.create_and_wait(stage.job_config("job-1"), poll_interval_s=800, timeout_s=900)
    waited = stage.time.slept - slept
    claim(waited >= 20 * HOUR_S and endpoint.job_id == "job-1", f"ready after {waited:.0f} s")
    with running.patient(stage):
        short = refusal(stage.manager.create_and_wait, stage.job_config("job-2"), pending_timeout_s=60)
    claim("remained pending" in str(short), str(short))
    stage.quirks.clear()
    stage.job("job-3")
    stage.quirks.set("jobs.state_script", ["JOB_STATE_UNHEARD_OF"] * 5, job="job-3")
    with running.patient(stage):
        unknown = refusal(stage.manager.wait_for_existing, "job-3", poll_interval_s=300, timeout_s=900)
    claim(isinstance(unknown, TimeoutError) and "did not become ready" in str(unknown), f"{unknown!r}")
    with running.patient(stage):
        ready = stage.manager.wait_for_existing("job-3", poll_interval_s=300, timeout_s=900)
    return Report(
        sees=[f"after 15 minutes the job is {waiting}: a client with one budget gives up and starts another",
              f"five reads of an unknown state: {running.first_line(unknown)}"],
        exchanges=stage.exchanges("get_job")[:1],
        right=[f"the SDK counts readiness from placement only: ready after {waited / HOUR_S:.1f} h",
               f"an unknown state is waited through with a larger timeout: {ready.job_id} was well all the time"],
    )  # fmt: skip
