"""A name is used twice: one service replaces, another refuses."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "B1"
TITLE = "a checkpoint name used twice: silently overwritten, or refused as already existing"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    client.save_state("latest").result()
    train(client, 0)
    refused = refusal(lambda: client.save_state("latest").result())
    claim("already exists" in str(refused), f"refused with {refused}")
    with stage.quirks.set("save.on_duplicate", "overwrite"):
        client.save_state("latest").result()
    steps = [row.step for row in stage.truth("job-1")]
    claim(steps == [1], f"the rows are of steps {steps}")

    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    checkpoints.save("step-0", data_consumed=0)
    checkpoints.save("step-0", data_consumed=0)
    train(ours, 0)
    foreign = refusal(stage.checkpoints(ours, "job-2", run="another").save, "step-0", data_consumed=8)
    claim([row.step for row in stage.truth("job-2")] == [0], "our client overwrote a row")
    return Report(
        sees=[
            f"where names are unique: {str(refused)[:140]}",
            "where they are not: the state of step 0 is gone, the SDK only logs 'overwriting'",
        ],
        exchanges=stage.exchanges("save_weights")[:3],
        right=[
            "TrainingCheckpoints does not send a save that it has made already",
            f"and refuses a name that another run has taken: {str(foreign)[:140]}",
        ],
    )
