"""The newest state is listed and not whole."""

from typing import Any

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "C22"
TITLE = "the newest checkpoint is torn: the loader starts from scratch, or from half a model"


def reproduce(stage: Stage) -> Report:
    errors, resumes = {}, []
    for number, damage in enumerate(("missing_metadata", "missing_shard")):
        job = f"job-{number}"
        client = stage.client(job)
        checkpoints = stage.checkpoints(client, job, run=job)
        train(client, 0)
        checkpoints.save("step-1", data_consumed=8)
        train(client, 1)
        stage.quirks.set("dcp.torn", damage, times=1)
        checkpoints.save("step-2", data_consumed=16)
        rows = [row["name"].rsplit("/", 1)[1] for row in stage.manager.list_checkpoints(job)]
        claim(rows == ["step-1", "step-2"], f"the rows are {rows}")
        new = stage.client(job)
        untouched = stage.weights(new)
        errors[damage] = str(refusal(_load, new, "step-2"))
        claim(stage.weights(new) == untouched, "a torn state was loaded in part")
        resumed = stage.checkpoints(new, job, run=job).resume()
        claim(resumed and (resumed.source, resumed.data_consumed) == ("step-1", 8), f"resumed {resumed}")
        resumes.append(resumed.source)
    return Report(
        sees=[f"{damage}: step-2 is listed, load says {said[:140]}" for damage, said in errors.items()],
        exchanges=stage.exchanges("load_weights")[:2],
        right=[f"TrainingCheckpoints tries the row before, {resumes[0]}, with its cursor; with none left it stops"],
    )


def _load(client: Any, name: str) -> None:
    client.load_state_with_optimizer(name).result()
