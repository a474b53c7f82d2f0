"""Failures of createTime: precisions that do not sort as text, a clock that is behind."""

import time
from datetime import UTC, datetime
from typing import Any

from emulator.core.clock import rfc3339
from ftsim.scenarios import scenario
from ftsim.scenarios.support import promotions
from ftsim.scenarios.support.report import Report, claim
from ftsim.scenarios.support.stage import BASE, Stage, newest_as_text, short, train


@scenario("A1", "createTime of mixed precision makes an older checkpoint look newer")
def mixed_precision_sorts_wrong(stage: Stage) -> Report:
    """One list mixes two precisions of createTime, and text does not sort as time does."""
    stage.quirks.set("rows.time_precision", "mixed")
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    stage.stop_the_clock()
    checkpoints.save("step-0", data_consumed=0)
    train(client, 0)
    checkpoints.save("step-1", data_consumed=8)
    rows = stage.manager.list_checkpoints("job-1")
    newest = newest_as_text(rows)
    claim(newest == "step-0", f"sorted as text the newest row is {newest}")
    resumed = stage.checkpoints(stage.client()).resume()
    claim(resumed and resumed.source == "step-1" and resumed.data_consumed == 8, f"resumed from {resumed}")
    return Report(
        sees=[
            f"the list shows {' and '.join(row['createTime'] for row in rows)}, oldest first",
            f"max() over the text takes {newest}: 'Z' sorts after '.', so the older row looks newer",
        ],
        exchanges=stage.exchanges("list_checkpoints")[-1:],
        right=[f"TrainingCheckpoints.resume() parses the times and loads step {resumed.step}, 8 rows consumed"],
    )


@scenario("A2", "max(rows, key=createTime) promotes the older row")
def the_newest_by_text_is_promoted(stage: Stage) -> Report:
    """The usual snippet, max() by createTime over the promotable rows, promotes the older one."""
    stage.quirks.set("rows.time_precision", "mixed")
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    stage.stop_the_clock()
    checkpoints.save("step-0", resumable=False, promotable=True)
    train(client, 0)
    checkpoints.save("step-1", resumable=False, promotable=True)
    rows = [row for row in stage.manager.list_checkpoints("job-1") if row["promotable"]]
    chosen = max(rows, key=lambda row: row["createTime"])
    stage.manager.promote_checkpoint(name=chosen["name"], output_model_id="snippet", base_model=BASE)
    claim(
        promotions.step_of(stage, "snippet") == 0, f"the snippet promoted step {promotions.step_of(stage, 'snippet')}"
    )
    checkpoints.promote_latest("right", BASE)
    claim(promotions.step_of(stage, "right") == 1, f"promote_latest promoted step {promotions.step_of(stage, 'right')}")
    return Report(
        sees=[f"the model 'snippet' is of step 0, although step 1 is listed: {[row['createTime'] for row in rows]}"],
        exchanges=stage.exchanges("promote")[:1],
        right=["TrainingCheckpoints.promote_latest() compares times, and promotes step 1"],
    )


@scenario("A3", "a freshness test that compares text keys the cursor on the previous checkpoint")
def a_freshness_test_on_text_ends_too_early(stage: Stage) -> Report:
    """Waiting for a row "not older than the save" ends at the row before, when text is compared and the list lags."""
    stage.quirks.set("rows.time_precision", "mixed")
    client = stage.client()
    stage.stop_the_clock()
    client.save_state("step-10").result()
    stage.clock.advance(0.5)
    train(client, 0)
    stage.quirks.set("rows.visible_after_lists", 1, times=1)
    started = rfc3339(stage.clock.now())
    client.save_state("step-20").result()
    cursors = {_fresh_as_text(stage, started): 777}
    claim(cursors == {"step-10": 777}, f"the naive cursor file is {cursors}")

    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    checkpoints.save("step-10", data_consumed=400)
    stage.clock.advance(0.5)
    train(ours, 0)
    stage.quirks.set("rows.visible_after_lists", 1, times=1)
    checkpoints.save("step-20", data_consumed=777)
    kept = checkpoints.cursors.recorded()
    claim(kept == {"step-10": 400, "step-20": 777}, f"our cursor file is {kept}")
    return Report(
        sees=[
            f"the save of step-20 began at {started}; the list still ends with step-10, stamped in whole seconds",
            f"as text that stamp is not older, so dataloader.json becomes {cursors}",
        ],
        exchanges=stage.exchanges("list_checkpoints")[:1],
        right=[f"TrainingCheckpoints looks for the row that was not there before: {kept}"],
    )


def _fresh_as_text(stage: Stage, started: str) -> str:
    """The row that naive code takes for that of the save that began at `started`."""
    while not (fresh := [r for r in stage.manager.list_checkpoints("job-1") if r["createTime"] >= started]):
        stage.time.sleep(1)
    return newest_as_text(fresh)


_DEADLINE_S = 90.0


@scenario("A4", "a server clock behind the client's makes every save wait for 90 s and lose its cursor")
def the_servers_clock_is_behind(stage: Stage) -> Report:
    """The server's clock is behind: nothing it stamps is newer than a save that the client's clock timed."""
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
    before = stage.time.slept_here
    checkpoints.save("step-42", data_consumed=336)
    claim(stage.time.slept_here == before, f"our save waited {stage.time.slept_here - before:g} s")
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


@scenario("A5", "createTime in nanoseconds is refused by parsers that stop at microseconds")
def nanoseconds_are_not_parsed(stage: Stage) -> Report:
    """Nine digits after the point: what the usual parsers do not read."""
    stage.quirks.set("rows.time_precision", "nanos")
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    checkpoints.save("step-0", data_consumed=0)
    train(client, 0)
    checkpoints.save("step-1", data_consumed=8)
    rows = stage.manager.list_checkpoints("job-1")
    newest = short(max(rows, key=_parsed)["name"])
    claim(all(_parsed(row) == _NEVER for row in rows), "strptime should refuse nine digits")
    claim(newest == "step-0", f"the naive newest row is {newest}")
    resumed = stage.checkpoints(stage.client()).resume()
    claim(resumed and resumed.source == "step-1", f"resumed from {resumed}")
    return Report(
        sees=[
            f"strptime('%Y-%m-%dT%H:%M:%S.%fZ') refuses {rows[0]['createTime']}, as fromisoformat of Python 3.10 does",
            f"rows that cannot be read sort last, all alike, and {newest} is taken for the newest",
        ],
        exchanges=stage.exchanges("list_checkpoints")[-1:],
        right=["TrainingCheckpoints reads 0 to 9 digits itself and resumes step-1"],
    )


_NEVER = datetime.min.replace(tzinfo=UTC)


def _parsed(row: dict[str, Any]) -> datetime:
    try:
        return datetime.strptime(row["createTime"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return _NEVER
