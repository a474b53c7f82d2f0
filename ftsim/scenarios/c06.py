"""A load that leaves the optimizer out says nothing; the next step differs."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, count_steps, train

ID = "C6"
TITLE = "the optimizer is silently not restored: the next step is that of a weights-only load"


def reproduce(stage: Stage) -> Report:
    whole = stage.client()
    train(whole, 0, 1)
    whole.save_state("step-2").result()
    resumed, weights_only, dropped = stage.client(), stage.client(), stage.client()
    resumed.load_state_with_optimizer("step-2").result()
    weights_only.load_state("step-2").result()
    with stage.quirks.set("load.drop_optimizer", True):
        dropped.load_state_with_optimizer("step-2").result()
    counted = {name: count_steps(c, 2) for name, c in (("whole", whole), ("resumed", resumed), ("dropped", dropped))}
    count_steps(weights_only, 2)
    digests = [stage.weights(client) for client in (whole, resumed, dropped, weights_only)]
    claim(digests[0] == digests[1], "an honest load continues as the run that was not interrupted")
    claim(digests[2] == digests[3] != digests[0], "a dropped optimizer should be a weights-only load, bit for bit")
    claim(counted == {"whole": 3, "resumed": 3, "dropped": 1}, f"the optimizers count {counted}")
    return Report(
        sees=[
            "load_state_with_optimizer succeeds; after one step the weights are those of a weights-only load",
            f"they differ from the run that was never interrupted ({digests[2][:12]} and {digests[0][:12]})",
        ],
        exchanges=stage.exchanges("load_weights")[-1:],
        right=[f"compare the step that the first optim_step reports with the checkpoint's: {counted}"],
    )
