"""An adapter is whole by itself and carries no sums for single tensors."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "E12"
TITLE = "an adapter sent with incremental metadata kills the serving container"


def reproduce(stage: Stage) -> Report:
    client = stage.client(rank=4)
    serving.deploy(stage)
    careless = serving.syncer(stage, client)  # lora_rank is left at 0
    train(client, 0)
    serving.sync(stage, careless, "one")
    (before,) = serving.replicas(stage)
    train(client, 1)
    error = refusal(serving.sync, stage, careless, "two")
    (after,) = serving.replicas(stage)
    claim("incremental_snapshot_metadata" in serving.asked(stage)[-1], "metadata should have been sent")
    claim("KeyError" in serving.told(stage) and after["identity"] != before["identity"], f"{before}, then {after}")
    claim(after["current_snapshot_identity"] is None, "a fresh container holds no adapter")
    crashed = serving.told(stage)
    careful = serving.syncer(stage, client, lora_rank=4)
    for step in (2, 3):
        train(client, step)
        snapshot = serving.sync(stage, careful, f"right-{step}")
        claim(serving.held(stage) == [snapshot], serving.told(stage))
    plain = ["incremental_snapshot_metadata" not in body for body in serving.asked(stage)[-2:]]
    claim(all(plain), "a LoRA client should send no metadata")
    return Report(
        sees=[str(error).splitlines()[0], f"{before['identity']}: {crashed}", "a new container without the adapter"],
        exchanges=stage.exchanges("hot_load")[1:2],
        right=["WeightSyncer(lora_rank=4) saves whole adapters and never sends metadata"],
    )
