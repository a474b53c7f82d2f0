"""The list is per job: with a new trainer and the old log path there is a cursor and no checkpoint."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "C13"
TITLE = "the same log_path with a new trainer: a silent fresh start beside the old job's cursor file"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    stage.checkpoints(client).save("step-1", data_consumed=8)
    new = stage.client("job-2")
    rows = stage.manager.list_checkpoints("job-2")
    naive = rows[-1]["name"] if rows else None
    claim(naive is None, f"naive resume finds {naive}")
    ours = refusal(stage.checkpoints(new, "job-2").resume)
    claim("belong to another job" in str(ours), f"our client says {ours}")
    resumed = stage.checkpoints(stage.client()).resume()
    claim(resumed and resumed.data_consumed == 8, f"on the old job we resume {resumed}")
    return Report(
        sees=["job-2 lists nothing: 'no checkpoint, starting at step 0', while dataloader.json knows step-1"],
        exchanges=stage.exchanges("list_checkpoints")[2:3],
        right=[f"TrainingCheckpoints refuses: {str(ours)[:220]}", f"with the old job it resumes step {resumed.step}"],
    )
