"""An adapter that nobody has trained cannot be merged; precision goes with merging only."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "B10"
TITLE = "merged_base of an untouched adapter is refused, export_precision without merged_base too"


def reproduce(stage: Stage) -> Report:
    client = stage.client(rank=2)
    early = refusal(client.save_weights_for_sampler_ext, "merged", checkpoint_type="merged_base")
    claim("untouched" in str(early) and not stage.truth("job-1"), f"refused with {early}")
    odd = refusal(client.save_weights_for_sampler_ext, "base", checkpoint_type="base", export_precision="bf16")
    claim(isinstance(odd, ValueError), f"the SDK says {odd!r}")
    foreign = refusal(
        client.save_weights_for_sampler_ext, "merged", checkpoint_type="merged_base", export_precision="nvfp4"
    )
    train(client, 0)
    client.save_weights_for_sampler_ext("merged", checkpoint_type="merged_base")
    row = stage.manager.list_checkpoints("job-1")[-1]
    claim(row["checkpointType"] == "CHECKPOINT_TYPE_INFERENCE_BASE" and row["promotable"], f"the row is {row}")
    return Report(
        sees=[f"before the first step: {str(early)[:140]}", f"precision on a base: {odd}", f"{str(foreign)[:140]}"],
        exchanges=stage.exchanges("save_weights_for_sampler")[:1],
        right=["train, or load_adapter, then save merged_base: INFERENCE_BASE, promotable"],
    )
