"""Time to live: shown in old documents, refused here, with a minimum elsewhere, after which the row is gone."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage

ID = "B5"
TITLE = "ttl_seconds on a save: refused, or the checkpoint is gone when the run wants to resume"
_WEEK = 7 * 24 * 3600


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    told = refusal(client.save_state, "step-1", ttl_seconds=_WEEK)
    claim(isinstance(told, NotImplementedError), f"the SDK says {told!r}")
    default = stage.ask(client, "save_weights", path="step-1", ttl_seconds=_WEEK)
    stage.quirks.set("save.ttl", "min_3600")
    short = stage.ask(client, "save_weights", path="step-1", ttl_seconds=60)
    claim("error" in default and "3600" in short.get("error", ""), f"the server answers {default}, {short}")
    stage.ask(client, "save_weights", path="step-1", ttl_seconds=_WEEK)
    before = len(stage.truth("job-1"))
    stage.clock.advance(_WEEK + 1)
    gone = refusal(lambda: client.load_state("step-1").result())
    claim((before, len(stage.truth("job-1"))) == (1, 0) and "not found" in str(gone), f"a week later: {gone}")
    ours = stage.checkpoints(client)
    ours.save("step-0", data_consumed=0)
    stage.clock.advance(_WEEK + 1)
    claim(stage.checkpoints(client).resume(), "our checkpoint is gone too")
    return Report(
        sees=[
            f"the SDK: {str(told).splitlines()[0]}",
            f"this server: {default['error']}; another one: {short['error']}",
            f"where it is taken, a week later: {str(gone)[:120]}",
        ],
        exchanges=stage.exchanges("save_weights")[:3],
        right=["TrainingCheckpoints never sends ttl_seconds: its row is there a week later"],
    )
