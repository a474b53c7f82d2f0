"""A checkpoint knows the base model it belongs to."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, OTHER_BASE, Stage

ID = "C11"
TITLE = "resuming from a checkpoint of another base model is refused"


def reproduce(stage: Stage) -> Report:
    stage.job("other", base_model=OTHER_BASE)
    stage.service("other").create_training_client(base_model=OTHER_BASE, lora_rank=0).save_state("step-0").result()
    client = stage.client()
    path = "cross_job://other/step-0"
    error = refusal(lambda: client.load_state(path).result())
    claim(OTHER_BASE in str(error), f"refused with {error}")
    made_for = stage.manager.get("other")["trainingConfig"]["baseModel"]
    claim(made_for == OTHER_BASE != BASE, f"the source job says {made_for}")
    return Report(
        sees=[str(error)[:200]],
        exchanges=stage.exchanges("load_weights", "get_job"),
        right=[f"ask before loading: the job that holds the checkpoint trains {made_for}"],
    )
