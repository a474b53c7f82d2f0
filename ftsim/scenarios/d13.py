"""Jobs, sessions and managed jobs have names and routes of their own."""

import warnings
from typing import Any

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "D13"
TITLE = "a checkpoint promoted through the wrong resource family"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    name = promoting.sampler(client, "step-1")
    account, manager = f"accounts/{stage.account}", stage.manager
    of_job, of_session = (
        f"{account}/{kind}/job-1/checkpoints/{name}" for kind in ("rlorTrainerJobs", "trainingSessions")
    )
    target: dict[str, Any] = {"output_model_id": "mine", "base_model": BASE}
    wrong = [
        refusal(manager.promote_checkpoint, name=of_session, **target),
        refusal(manager.promote_session_checkpoint, name=of_job, **target),
        refusal(manager.promote_training_job_checkpoint, name=of_job, **target),
        refusal(manager.promote_checkpoint, "job-2", name=of_job, **target),
        refusal(manager.promote_checkpoint, None, name, name=of_job, **target),
    ]
    claim(all(isinstance(error, ValueError) for error in wrong), f"{wrong}")
    claim(not stage.exchanges("promote"), "the SDK should refuse these before any request")
    body = {"output_model": f"{account}/models/mine", "base_model": BASE, "trainer_job_id": f"{account}/dpoJobs/job-1"}
    family = stage.http.post(f"/v1/{account}/checkpoints/{name}:promote", json=body)
    session = stage.http.post(f"/v1/{of_session}:promote", json={**body, "trainer_job_id": ""})
    claim((family.status_code, session.status_code) == (400, 404), f"{family.text}, {session.text}")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        old = manager.promote_checkpoint("job-1", name, "mine-by-position", BASE)
    claim([warning.category for warning in told] == [DeprecationWarning], f"{told}")
    listed = promoting.row(stage, name).name
    model = promoting.promote_rightly(stage, promoting.row(stage, name), "mine")
    claim(listed == of_job and model["state"] == old["state"] == "READY", f"{listed}, {model}")
    return Report(
        sees=[*(promoting.first_line(error) for error in wrong[:3]), f"the positional form: {told[0].message}"[:160]],
        exchanges=stage.exchanges("promote")[:1],
        right=[f"passes on the name that the list gave, unchanged: {listed}"],
    )
