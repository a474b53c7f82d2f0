"""A sampler row ends with the hex digits of the session that saved it."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, short

ID = "A10"
TITLE = "sampler rows carry a session suffix, so a comparison with the name saved never holds"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    checkpoints.save("step-5", resumable=False, promotable=True)
    names = [short(row["name"]) for row in stage.manager.list_checkpoints("job-1")]
    claim(names == [f"step-5-{client.session_id}"] and "step-5" not in names, f"the rows are {names}")
    checkpoints.save("step-5", resumable=False, promotable=True)
    saves = stage.exchanges("save_weights_for_sampler")
    claim(len(saves) == 1, f"our client saved {len(saves)} times")
    stage.quirks.set("sampler.suffix", "none")
    plain = stage.checkpoints(stage.client("job-2"), "job-2")
    plain.save("step-5", resumable=False, promotable=True)
    plain.promote_latest("model", BASE)
    bare = stage.truth("job-2")[-1].id
    claim(bare == "step-5", f"without suffixes the row is {bare}")
    return Report(
        sees=[f"saved 'step-5', listed {names[0]!r}: `if 'step-5' in names` is dead code"],
        exchanges=saves[:1],
        right=[
            "TrainingCheckpoints knows its session: the same save again sends nothing",
            f"where a server drops the suffix, it still finds its row, {bare}",
        ],
    )
