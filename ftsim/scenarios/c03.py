"""References across jobs are looked up in durable storage, where a fresh state is not yet."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "C3"
TITLE = "cross_job:// to the same job says not found, though the checkpoint was just saved"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("dcp.durable_after_s", 60.0)
    client = stage.client()
    train(client, 0)
    client.save_state("step-1").result()
    path = client.resolve_checkpoint_path("step-1", source_job_id="job-1")
    error = refusal(lambda: client.load_state(path).result())
    claim("not found" in str(error), f"refused with {error}")
    before = stage.weights(client)
    train(client, 1)
    resumed = stage.checkpoints(client).resume(init_from_checkpoint="job-1:step-1")
    claim(resumed and resumed.step == 0 and stage.weights(client) == before, f"resumed {resumed}")
    stage.clock.advance(60)
    client.load_state(path).result()
    return Report(
        sees=[f"load_state({path!r}): {str(error)[:160]}", "a minute later the same call succeeds"],
        exchanges=stage.exchanges("load_weights")[:2],
        right=["TrainingCheckpoints.resume(init_from_checkpoint='job-1:step-1') on job-1 sends the bare name"],
    )
