"""Failures of the life of a trainer that is watched from afar: stopped as idle, deleted and there, made and absent."""

from datetime import timedelta

from ftsim.scenarios import scenario
from ftsim.scenarios.support import trainers
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import Stage, train

_TEN_MINUTES = 600
_THREE_HOURS = 3 * 3600


@scenario(
    "F21", "the documented way to keep a trainer alive is refused, and after ten minutes it stops", upstream=SDK_1_2_28
)
def keeping_a_trainer_alive_is_refused(stage: Stage) -> Report:
    """The flag is for the vendor's own account; with the default, an evaluation of ten minutes ends the trainer."""
    error = refusal(stage.manager.create, stage.job_config("job-1", disable_inactivity_cleanup=True))
    refused = isinstance(error, ValueError) and not stage.exchanges("create_job")
    still_upstream(SDK_1_2_28, refused, f"disable_inactivity_cleanup: {error!r}")
    stage.quirks.set("jobs.inactivity_s", float(_TEN_MINUTES))  # as on the service; a stage has it off
    stage.manager.create(stage.job_config("job-1"))
    client = stage.client()
    train(client, 0)
    stage.checkpoints(client).save("step-1", data_consumed=8)
    stage.clock.advance(_TEN_MINUTES + 1)
    lost = refusal(train, client, 1)
    idle = trainers.state(stage)
    claim(idle == "JOB_STATE_PAUSED", f"the job is {idle}")
    stage.manager.create(stage.job_config("job-2", inactivity_timeout=timedelta(seconds=_THREE_HOURS)))
    patient = stage.client("job-2")
    stage.clock.advance(_THREE_HOURS - 60)
    train(patient, 0)
    trainers.reconnect(stage)
    resumed = stage.checkpoints(stage.client()).resume()
    claim(resumed and resumed.step == 1, f"resumed {resumed}")
    return Report(
        sees=[
            f"before any request: {error}",
            f"after an evaluation of ten minutes: {trainers.first_line(lost)}; {idle}",
        ],
        exchanges=stage.exchanges("create_job")[:1],
        right=[f"asks for an inactivity_timeout within the limit, and expects to resume: {resumed.source}"],
    )


@scenario("F24", "deleted is not yet stopped, and what is absent may still appear")
def absent_is_not_yet_absent(stage: Stage) -> Report:
    """A DELETE is acknowledged while the trainer goes on; a create whose reply was lost shows up later."""
    stage.job("old")
    stage.quirks.set("jobs.delete_s", 120.0)
    stage.manager.delete("old")
    states = [_until(stage, "old", "JOB_STATE_STOPPED", 60), _until(stage, "old", "JOB_STATE_DELETED", 300)]
    claim(states == ["JOB_STATE_DELETING", "JOB_STATE_DELETED"], f"{states}")

    stage.quirks.set("jobs.create_visible_after_s", 30.0)
    stage.quirks.set("http.lose_reply", "after", endpoint="create_job", times=1)
    body = {"trainingConfig": {"baseModel": "accounts/fireworks/models/tiny", "maxContextLength": 64}}
    path = f"/v1/accounts/{stage.account}/rlorTrainerJobs"
    refusal(stage.http.post, path, params={"rlorTrainerJobId": "run-a"}, json=body)
    absent = stage.http.get(f"{path}/run-a").status_code
    stage.http.post(path, params={"rlorTrainerJobId": "run-b"}, json=body)  # so the naive program makes another
    stage.clock.advance(31)
    listed = [job["name"].rsplit("/", 1)[1] for job in stage.http.get(path).json()["rlorTrainerJobs"]]
    claim(absent == 404 and listed == ["run-a", "run-b"], f"{absent}, then {listed}")

    stage.quirks.set("http.lose_reply", "after", endpoint="create_job", times=1)
    refusal(stage.http.post, path, params={"rlorTrainerJobId": "run-c"}, json=body)
    looks = []
    for _ in range(10):
        looks.append(stage.http.get(f"{path}/run-c").status_code)
        if looks[-1] == 200:
            break
        stage.time.sleep(10)
    claim(looks[0] == 404 and looks[-1] == 200, f"{looks}")
    return Report(
        sees=[
            f"DELETE is acknowledged; a minute later the job is {states[0]}, and no state is called STOPPED",
            f"a create without a reply, a look-up that says {absent}, another create: {' and '.join(listed)} both run",
        ],
        exchanges=stage.exchanges("delete_job", "create_job")[:2],
        right=[
            f"reads until the state is terminal: {states[1]}",
            f"after a lost reply looks several times before it believes that nothing is there: {looks}",
        ],
    )


def _until(stage: Stage, job: str, state: str, within_s: float) -> str:
    """Poll for a state; the one that was seen last."""
    waited = 0.0
    while (seen := str(stage.manager.get(job)["state"])) != state and waited < within_s:
        stage.time.sleep(10)
        waited += 10
    return seen
