"""409 on create is answered with the job of that id, whatever it is for."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage

ID = "F5"
TITLE = "create hands back a job of another rank, and the error comes from the trainer, later"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    stage.manager.create(stage.job_config("job-1", rank=4))
    handed = stage.manager.create(stage.job_config("job-1", rank=8))
    rank = stage.manager.get(handed.job_id)["trainingConfig"]["loraRank"]
    still_upstream(UPSTREAM, rank == 4, f"asked for rank 8, got {handed} of rank {rank}")
    exchanges = stage.exchanges("create_job")
    late = refusal(stage.client, handed.job_id, 8)
    claim("LoRA rank" in str(late), str(late))
    ours = refusal(running.bring_up, stage, "job-1", 8)
    claim("loraRank" in str(ours), str(ours))
    return Report(
        sees=[f"create with rank 8 succeeds: {handed.job_id}", f"create_training_client: {running.first_line(late)}"],
        exchanges=exchanges,
        right=[f"compares trainingConfig with what it wants before it goes on: {ours}"],
    )
