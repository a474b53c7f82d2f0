"""Fields that are absent, a type nobody has heard of."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "A14"
TITLE = "rows lack createTime or promotable, or are of an unknown type"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    checkpoints.save("step-0", data_consumed=0)
    train(client, 0)
    checkpoints.save("step-1", data_consumed=8, promotable=True)
    stage.quirks.set("rows.omit", ["createTime"])
    stage.quirks.set("rows.drop_false", True)
    stage.quirks.set("rows.extra_type", "CHECKPOINT_TYPE_X")
    rows = stage.manager.list_checkpoints("job-1")
    errors = [
        refusal(lambda: max(rows, key=lambda row: row["createTime"])),
        refusal(lambda: [row for row in rows if row["promotable"]]),
        refusal(
            lambda: [
                {"CHECKPOINT_TYPE_TRAINING": 1, "CHECKPOINT_TYPE_INFERENCE_BASE": 2}[row["checkpointType"]]
                for row in rows
            ]
        ),
    ]
    claim(all(isinstance(error, KeyError) for error in errors), f"naive code ends with {errors}")
    again = stage.checkpoints(stage.client())
    resumed = again.resume()
    claim(resumed and resumed.source == "step-1", f"resumed from {resumed}")
    model = checkpoints.promote_latest("model", BASE)
    claim(model["state"] == "READY", f"promoted {model}")
    return Report(
        sees=[f"KeyError: {error}" for error in errors],
        exchanges=stage.exchanges("list_checkpoints")[-1:],
        right=["TrainingCheckpoints takes absent for empty or false, and other types for opaque: resumes and promotes"],
    )
