"""The id of a deleted job cannot be used again."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage

ID = "F3"
TITLE = "creating a job under the id of a deleted one: archived and cannot be recreated"


def reproduce(stage: Stage) -> Report:
    stage.manager.create(stage.job_config("job-1"))
    stage.manager.delete("job-1")
    error = refusal(stage.manager.create, stage.job_config("job-1"))
    answers = [exchange.status for exchange in stage.exchanges("create_job")]
    claim(answers == [200, 409] and "archived and cannot be recreated" in str(error), f"{answers}: {error}")
    exchanges = stage.exchanges("create_job", "get_job")[-2:]
    ours = refusal(running.bring_up, stage)
    claim("was deleted" in str(ours), str(ours))
    made = stage.manager.create(stage.job_config("job-2"))
    claim(running.state(stage, made.job_id) == "JOB_STATE_RUNNING", f"{made}")
    return Report(
        sees=[running.first_line(error)],
        exchanges=exchanges,
        right=[f"our recipes: {ours}", f"a new id: {made.job_id} runs"],
    )
