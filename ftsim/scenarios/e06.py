"""The status has had several forms."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "E6"
TITLE = "the hot-load status comes without replicas, empty, or by adapter"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    serving.deploy(stage)
    train(client, 0)
    snapshot = serving.save(client, "one")
    shape = "hotload.status_shape"
    with stage.quirks.set(shape, "legacy"):
        legacy = refusal(serving.load, stage, snapshot)
        old = serving.status(stage)
    claim(isinstance(legacy, RuntimeError) and "Unrecognized hotload status" in str(legacy), f"{legacy!r}")
    with stage.quirks.set(shape, "adapters"):
        adapters = serving.replicas(stage)[0]
        claim(serving.load(stage, snapshot), "a snapshot listed under loaded_adapters is loaded")
    claim(adapters["current_snapshot_identity"] is None, f"adapters show {adapters}")
    stage.quirks.set(shape, "empty", for_s=30)
    slept = stage.time.slept
    claim(serving.load(stage, snapshot), "an empty list means that replicas are coming")
    waited = stage.time.slept - slept
    claim(waited >= 25, f"waited only {waited:.0f} s")
    claim(old["current_snapshot_identity"] == snapshot, f"the old form shows {old}")
    return Report(
        sees=[f"without replicas: {str(legacy).splitlines()[0]}", f"an empty list: the SDK waited {waited:.0f} s"],
        exchanges=stage.exchanges("hot_load_status")[:1],
        right=["reads current_snapshot_identity where it stands, or loaded_adapters with status loaded, or waits"],
    )
