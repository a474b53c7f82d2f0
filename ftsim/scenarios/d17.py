"""A deleted trainer keeps its checkpoints for thirty days, and not a day longer."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "D17"
TITLE = "a deleted trainer's checkpoints are listed and promoted for thirty days, then gone"
DAY_S = 24 * 3600


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    name = promoting.sampler(client, "step-1")
    client.save_state("step-1").result()
    stage.manager.delete("job-1")
    state = stage.manager.get("job-1")["state"]
    jobs = f"/v1/accounts/{stage.account}/rlorTrainerJobs"
    listed = stage.http.get(jobs).json().get("rlorTrainerJobs") or []
    claim(state == "JOB_STATE_DELETED" and not listed, f"{state}, listed {listed}")
    cancelled = stage.http.post(f"{jobs}/job-1:cancel", json={})
    claim("cannot cancel job in state: JOB_STATE_DELETED" in cancelled.text, cancelled.text)
    stage.clock.advance(29 * DAY_S)
    stage.manager.delete("job-1")  # does not start the thirty days anew
    kept = [row.id for row in promoting.rows(stage)]
    model = promoting.promote_rightly(stage, promoting.row(stage, name), "mine")
    claim(kept == ["step-1", name] and model["state"] == "READY", f"day 29: {kept}, {model}")
    stage.clock.advance(1.01 * DAY_S)
    gone = refusal(stage.manager.list_checkpoints, "job-1")
    late = refusal(promoting.promote, stage, name, "late")
    claim("(HTTP 404)" in str(late) and stage.manager.try_get("job-1") is None, str(late))
    still = stage.http.get(f"/v1/accounts/{stage.account}/models/mine").json()["state"]
    claim(still == "READY", f"the model promoted in time is {still}")
    return Report(
        sees=[f"the job: {state}, and no list of jobs shows it", f"day 31: {promoting.first_line(late)}",
              f"its list: {promoting.first_line(gone)}"],
        exchanges=[*stage.exchanges("cancel_job"), *stage.exchanges("promote")],
        right=["promotes what it wants to keep within thirty days of the first delete: the model stays"],
    )  # fmt: skip
