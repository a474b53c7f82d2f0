"""Sampler weights hold no optimizer, and are no state that training can go on from."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "C1"
TITLE = "the path of a sampler save handed to load_state: refused, and once it took the trainer with it"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    path = client.save_weights_for_sampler_ext("step-1", checkpoint_type="base").path
    client.save_state("step-1").result()
    error = refusal(lambda: client.load_state_with_optimizer(path).result())
    claim("holds sampler weights" in str(error), f"refused with {error}")
    client.load_state_with_optimizer("step-1").result()
    doomed = stage.client("job-2")
    train(doomed, 0)
    lost = doomed.save_weights_for_sampler_ext("step-1", checkpoint_type="base").path
    stage.quirks.set("load.sampler_path_kills_trainer", True)
    refusal(lambda: doomed.load_state_with_optimizer(lost).result())
    state = stage.manager.get("job-2")["state"]
    claim(state == "JOB_STATE_FAILED", f"the job is {state}")
    return Report(
        sees=[f"load_state({path!r}): {str(error)[:200]}", f"on older trainers the job is {state} afterwards"],
        exchanges=stage.exchanges("load_weights")[:1],
        right=["load what save_state wrote ('step-1'); an adapter's weights go through load_adapter"],
    )
