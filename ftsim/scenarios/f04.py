"""Reconnecting to a tombstone waits for a state that never comes."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage

ID = "F4"
TITLE = "reconnecting to a deleted job waits two minutes and then advises to cancel it"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    stage.job()
    stage.manager.delete("job-1")
    slept = stage.time.slept
    error = refusal(running.reconnect, stage)
    waited = stage.time.slept - slept
    seen = waited >= 120 and "stuck in JOB_STATE_DELETED" in str(error) and "cancel it" in str(error)
    still_upstream(UPSTREAM, seen, f"after {waited:.0f} s: {error}")
    reads = stage.exchanges("get_job")
    cancelled = stage.http.post(f"/v1/accounts/{stage.account}/rlorTrainerJobs/job-1:cancel", json={})
    claim(cancelled.status_code == 400, f"the advice works: {cancelled.text}")
    slept = stage.time.slept
    ours = refusal(running.bring_up, stage)
    claim("was deleted" in str(ours) and stage.time.slept == slept, f"{ours}")
    return Report(
        sees=[f"after {waited:.0f} s and {len(reads)} reads: {running.first_line(error)}",
              f"the advice to cancel it: {cancelled.json()['message']}"],
        exchanges=reads[:1],
        right=[f"says at once: {ours}"],
    )  # fmt: skip
