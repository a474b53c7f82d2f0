"""The reply to a create is lost: who made the id decides how many trainers there are."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage

ID = "F6"
TITLE = "a lost reply to a create leaves two paid trainers"


def reproduce(stage: Stage) -> Report:
    path, body = f"/v1/accounts/{stage.account}/rlorTrainerJobs", {"trainingConfig": {"baseModel": BASE}}
    with stage.quirks.set("http.lose_reply", "after", times=1, endpoint="create_job"):
        lost = refusal(stage.http.post, path, json=body)
    again = stage.http.post(path, json=body)
    jobs = [job.id for job in stage.emulator.world.jobs]
    claim(again.status_code == 200 and len(jobs) == 2, f"an old client's second try made {jobs}")
    exchanges = stage.exchanges("create_job")
    wanted = stage.job_config("job-1")
    seen = []
    for fault, value in (("http.lose_reply", "after"), ("http.reset", "after")):
        stage.quirks.set(fault, value, times=1, endpoint="create_job")
        seen.append(running.first_line(refusal(stage.manager.create, wanted)))
    stage.quirks.set("http.apply_then_fail", 504, times=1, endpoint="create_job")
    with running.patient(stage):
        made = stage.manager.create(wanted)
    claim(made.job_id == "job-1" and len(stage.emulator.world.jobs) == 3, f"{made}, {len(stage.emulator.world.jobs)}")
    claim(running.bring_up(stage).job_id == "job-1", "our recipe should find the same job")
    return Report(
        sees=[f"{lost}; asked again, a client that leaves the id to the server has {len(jobs)} jobs: {jobs}"],
        exchanges=exchanges,
        right=[
            f"sends its own rlorTrainerJobId: after {', '.join(seen)} and a 504 it still has one job, {made.job_id}"
        ],
    )
