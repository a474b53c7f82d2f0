"""A reply is lost, the call is sent again: is it one step or two?"""

import json

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, batch

ID = "F13"
TITLE = "a training call whose reply was lost is applied twice"


def reproduce(stage: Stage) -> Report:
    doubled = _step(stage, "job-1", dedupe=False)
    right = _step(stage, "job-2", dedupe=True)
    claim((doubled, right) == (2, 1), f"{doubled} steps without and {right} with de-duplication")
    asked = [exchange.json["seq_id"] for exchange in stage.exchanges("optim_step")]
    claim(len(asked) == 4 and asked[0] == asked[1], f"optim_step was sent with {asked}")
    wire = running.Wire(stage, "job-2")
    wire.fetch(wire.submit("optim_step", 1, adam_params={"learning_rate": 0.1}))
    other = wire.fetch(wire.submit("optim_step", 1, adam_params={"learning_rate": 0.2}))
    claim("sequence number was reused" in json.dumps(other), f"{other}")
    return Report(
        sees=[f"nothing: one optim_step was called, {doubled} optimizer steps were taken"],
        exchanges=stage.exchanges("optim_step")[:2],
        right=[f"a server that knows (model_id, seq_id) takes {right} step and gives the first answer again",
               f"the same number with another payload: {other['error']}"],
    )  # fmt: skip


def _step(stage: Stage, job: str, *, dedupe: bool) -> int:
    """The optimizer steps that one call comes to when its reply is lost."""
    client = stage.client(job)
    client.forward_backward(batch(), "cross_entropy").result()
    stage.quirks.set("rpc.dedupe", dedupe, job=job)
    stage.quirks.set("http.lose_reply", "after", times=1, endpoint="optim_step", job=job)
    with running.patient(stage):
        client.optim_step(running.adam()).result()
    return running.steps(stage, client)
