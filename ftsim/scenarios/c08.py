"""Loading weights only: the live optimizer starts anew, or keeps moments of other weights."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, count_steps, train

ID = "C8"
TITLE = "a weights-only load resets the live optimizer on one server and keeps it on another"


def reproduce(stage: Stage) -> Report:
    stage.client().save_state("step-0").result()
    counted, digests = {}, {}
    for rule in ("reset", "keep"):
        client = stage.client()
        train(client, 3, 4)
        with stage.quirks.set("load.weights_only", rule):
            client.load_state("step-0").result()
        counted[rule], digests[rule] = count_steps(client, 0), stage.weights(client)
    fresh = stage.client()
    with stage.quirks.set("load.weights_only", "keep"):
        fresh.load_state("step-0").result()
    count_steps(fresh, 0)
    claim(counted == {"reset": 1, "keep": 3}, f"the next step is number {counted}")
    claim(digests["keep"] != digests["reset"] == stage.weights(fresh), "stale moments should show in the weights")
    return Report(
        sees=[
            f"after the load the next step is number {counted['reset']} here, {counted['keep']} there, with old moments"
        ],
        exchanges=stage.exchanges("load_weights")[:2],
        right=["load into a model that was just created: there are no moments to keep, and both servers agree"],
    )
