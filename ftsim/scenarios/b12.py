"""What a row is, is found in its files; on LoRA they are an adapter, whatever was asked for."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, train

ID = "B12"
TITLE = "on LoRA checkpoint_type is ignored: asked for a delta, got a whole adapter that is promotable"


def reproduce(stage: Stage) -> Report:
    client = stage.client(rank=2)
    train(client, 0)
    client.save_weights_for_sampler_ext("step-1", checkpoint_type="base")
    train(client, 1)
    client.save_weights_for_sampler_ext("step-2", checkpoint_type="delta")
    row = stage.manager.list_checkpoints("job-1")[-1]
    claim(row["checkpointType"] == "CHECKPOINT_TYPE_INFERENCE_LORA" and row["promotable"], f"the row is {row}")
    model = stage.manager.promote_checkpoint(name=row["name"], output_model_id="adapter", base_model=BASE)
    claim(model["kind"] == "HF_PEFT_ADDON", f"the model is {model}")
    return Report(
        sees=[f"asked for a delta, listed as {row['checkpointType']}, promotable: {row['promotable']}"],
        exchanges=[stage.exchanges("save_weights_for_sampler")[-1], stage.exchanges("list_checkpoints")[-1]],
        right=[f"do not predict the type, read the row: it promotes to {model['kind']}"],
    )
