"""save_state takes a name that load_state then refuses."""

from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage

ID = "B3"
TITLE = "a name that is accepted by save_state is refused by load_state"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    client.save_state("step_10").result()
    claim([row.id for row in stage.truth("job-1")] == ["step_10"], "step_10 was not saved")
    error = refusal(lambda: client.load_state("step_10").result())
    still_upstream(UPSTREAM, isinstance(error, ValueError), f"the SDK itself refuses to load step_10: {error!r}")
    claim(not stage.exchanges("load_weights"), "the refusal should come from the SDK, before any request")
    ours = refusal(stage.checkpoints(client).save, "step_11", data_consumed=0)
    stage.quirks.set("names.enforce_on_save", True)
    told = refusal(lambda: client.save_state("step_12").result())
    return Report(
        sees=["save_state('step_10') succeeds", f"load_state('step_10'): {str(error)[:160]}"],
        exchanges=stage.exchanges("save_weights")[:1],
        right=[
            f"TrainingCheckpoints refuses before saving: {ours}",
            f"a server with names.enforce_on_save refuses at save: {str(told)[:160]}",
        ],
    )
