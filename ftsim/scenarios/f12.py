"""Unloading a full-parameter model takes more away than the model."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "F12"
TITLE = "after a full-parameter unload other jobs cannot load that trainer's checkpoints"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("unload.clears_request_state", True)
    source, adapter = stage.client("job-1"), stage.client("job-2", rank=4)
    for client in (source, adapter):
        train(client, 0)
        client.save_state("step-1").result()
    other, lora = stage.client("job-3"), stage.client("job-4", rank=4)
    reference = other.resolve_checkpoint_path("step-1", source_job_id="job-1")
    other.load_state(reference).result()
    source.unload_model().result()
    error = refusal(lambda: other.load_state(reference).result())
    claim("Trainer job not found or not running" in str(error), str(error))
    adapter.unload_model().result()
    lora.load_state(lora.resolve_checkpoint_path("step-1", source_job_id="job-2")).result()
    stage.job("job-5")
    kept, reader = stage.client("job-5"), stage.client("job-6")
    train(kept, 1)
    kept.save_state("step-1").result()
    reader.load_state(reader.resolve_checkpoint_path("step-1", source_job_id="job-5")).result()
    return Report(
        sees=[f"load_state({reference!r}) worked; after the unload: {running.first_line(error)}"],
        exchanges=[*stage.exchanges("unload_model")[:1], *stage.exchanges("load_weights")[1:2]],
        right=["unloads LoRA models only: their checkpoints, and those of a model left loaded, are found"],
    )
