"""What a load without the `optimizer` flag means is decided by the server."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, count_steps, train

ID = "C7"
TITLE = "a load without the optimizer flag brings the moments along on one server and not on another"


def reproduce(stage: Stage) -> Report:
    source = stage.client()
    train(source, 0, 1)
    source.save_state("step-2").result()
    counted = {}
    for default in (False, True):
        client = stage.client()
        with stage.quirks.set("load.default_optimizer", default):
            stage.ask(client, "load_weights", path="step-2")
        counted[default] = count_steps(client, 2)
    claim(counted == {False: 1, True: 3}, f"the next step is number {counted}")
    client = stage.client()
    with stage.quirks.set("load.default_optimizer", True):
        client.load_state("step-2").result()
    sent = stage.exchanges("load_weights")[-1]
    claim(sent.json["optimizer"] is False and count_steps(client, 2) == 1, f"the SDK sends {sent.json}")
    return Report(
        sees=[f"the same request: the next step is number {counted[False]} here and {counted[True]} there"],
        exchanges=[stage.exchanges("load_weights")[0], sent],
        right=["always send the flag, as the SDK does: the server's default does not matter"],
    )
