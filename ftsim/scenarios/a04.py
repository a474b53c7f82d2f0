"""The server's clock is behind: nothing it stamps is newer than a save that the client's clock timed."""

import time
from datetime import UTC, datetime

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, short

ID = "A4"
TITLE = "a server clock behind the client's makes every save wait for 90 s and lose its cursor"
_DEADLINE_S = 90.0


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("clock.skew_s", -300.0)
    stage.quirks.set("dcp.rename", "internal_step")
    client = stage.client()
    began = datetime.fromtimestamp(time.time(), UTC)
    client.save_state("step-42").result()
    found = _wait_for_newer(stage, began)
    waited = stage.time.slept
    cursors = {found or "step-42": 336}
    listed = short(stage.manager.list_checkpoints("job-1")[-1]["name"])
    claim(found is None and waited >= _DEADLINE_S, f"the naive wait found {found} after {waited:g} s")
    claim(cursors.get(listed, 0) == 0, f"the naive cursor of {listed} is {cursors.get(listed)}")

    checkpoints = stage.checkpoints(stage.client("job-2"), "job-2")
    before = stage.time.slept
    checkpoints.save("step-42", data_consumed=336)
    claim(stage.time.slept == before, f"our save waited {stage.time.slept - before:g} s")
    resumed = stage.checkpoints(stage.client("job-2"), "job-2").resume()
    claim(resumed and (resumed.step, resumed.data_consumed) == (42, 336), f"we resumed {resumed}")
    return Report(
        sees=[
            f"the save waits {waited:g} s and gives up: every createTime is five minutes before the save began",
            f"the cursor is kept under step-42, the row is {listed} (A8): on resume 0 rows seem consumed",
        ],
        exchanges=stage.exchanges("list_checkpoints")[:1],
        right=["TrainingCheckpoints compares the server's times with each other: no wait, 336 rows on resume"],
    )


def _wait_for_newer(stage: Stage, began: datetime) -> str | None:
    slept = stage.time.slept
    while stage.time.slept - slept < _DEADLINE_S:
        for row in stage.manager.list_checkpoints("job-1"):
            if datetime.fromisoformat(row["createTime"]) >= began:
                return short(row["name"])
        stage.time.sleep(3)
    return None
