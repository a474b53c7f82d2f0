"""Failures of reading the list of checkpoints: late and incomplete rows, pages, lists that fail."""

import contextlib
import threading
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import promotions
from ftsim.scenarios.support.report import SDK_1_2_28, Report, ScenarioFailed, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, short, train


@scenario("A6", "the list lags behind the save, so there seems to be nothing to promote")
def the_list_lags_behind_the_save(stage: Stage) -> Report:
    """A row shows some time after the save that made it has returned."""
    stage.quirks.set("rows.visible_after_s", 8.0)
    checkpoints = stage.checkpoints(stage.client())
    checkpoints.save("step-0", resumable=False, promotable=True)
    rows = stage.manager.list_checkpoints("job-1")
    claim(not rows, f"the list already shows {rows}")
    model = checkpoints.promote_latest("model", BASE)
    claim(model["state"] == "READY", f"the model is {model}")
    return Report(
        sees=["the save has returned, the list is empty: 'no promotable checkpoint'"],
        exchanges=[stage.exchanges("save_weights_for_sampler")[0], *stage.exchanges("list_checkpoints")[1:2]],
        right=[f"TrainingCheckpoints looks again, with a deadline: promoted after {stage.time.slept:.1f} s"],
    )


_PATIENCE = 20


@scenario(
    "A7",
    "oldest first and paged: rows[0] is the oldest, a second page is forgotten, a page token never ends",
    upstream=SDK_1_2_28,
)
def pages_are_forgotten_or_never_end(stage: Stage) -> Report:
    """Lists are oldest first, in pages, under keys that have changed, and may name a next page for ever."""
    client = stage.client()
    for name in ("a", "b", "c"):
        client.save_state(name).result()
    stage.quirks.set("rows.page_size_cap", 2)
    stage.quirks.set("rows.key_style", "rlorTrainerJobCheckpoints")
    page = _page(stage)
    first = [short(row["name"]) for row in page["rlorTrainerJobCheckpoints"]]
    claim(first == ["a", "b"] and page["nextPageToken"], f"the first page holds {first}")
    endless = stage.quirks.set("rows.endless_token", True)
    asked = len(stage.exchanges("list_checkpoints"))
    worker = threading.Thread(target=_list, args=(stage,), daemon=True)
    worker.start()
    looped = _wait(stage, worker, asked + _PATIENCE)
    right = [short(row["name"]) for row in _all_rows(stage)]
    endless.off()
    worker.join(30)
    still_upstream(SDK_1_2_28, looped, "list_checkpoints follows a repeated page token without end")
    claim(right == ["a", "b"], f"stopping at a repeated token gives {right}")
    whole = [short(row["name"]) for row in _all_rows(stage)]
    claim(whole == ["a", "b", "c"] and not worker.is_alive(), f"all pages hold {whole}")
    return Report(
        sees=[
            f"rows[0] is {first[0]!r}, the oldest; the first page ends before the newest, 'c'",
            f"a server that repeats its token keeps list_checkpoints asking: {_PATIENCE} pages for 3 rows, and on",
        ],
        exchanges=stage.exchanges("list_checkpoints")[:1],
        right=[f"page to the end, stop at a token seen before, sort by time: {whole}, newest {whole[-1]!r}"],
    )


def _page(stage: Stage, token: str = "") -> dict[str, Any]:
    answer = stage.http.get(f"/v1/{stage.job_name('job-1')}/checkpoints", params={"pageSize": 2, "pageToken": token})
    return dict(answer.json())


def _list(stage: Stage) -> None:
    with contextlib.suppress(RuntimeError):  # the token is refused once the list ends again
        stage.manager.list_checkpoints("job-1")


def _all_rows(stage: Stage) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    token, seen = "", {""}
    while True:
        page = _page(stage, token)
        token = str(page.get("nextPageToken") or "")
        if token in seen - {""}:
            return rows
        rows += page.get("rlorTrainerJobCheckpoints") or page.get("checkpoints") or []
        if not token:
            return rows
        seen.add(token)


def _wait(stage: Stage, worker: threading.Thread, count: int) -> bool:
    """Wait until the client has asked for `count` lists; False when it stops before."""
    for _ in range(600):
        if len(stage.exchanges("list_checkpoints")) >= count:
            return True
        worker.join(0.05)
        if not worker.is_alive():
            return False
    raise ScenarioFailed("the client neither stops nor asks")


@scenario("A14", "rows lack createTime or promotable, or are of an unknown type")
def rows_lack_fields(stage: Stage) -> Report:
    """Fields that are absent, a type nobody has heard of."""
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    checkpoints.save("step-0", data_consumed=0)
    train(client, 0)
    checkpoints.save("step-1", data_consumed=8, promotable=True)
    stage.quirks.set("rows.omit", ["createTime"])
    stage.quirks.set("rows.drop_false", True)
    stage.quirks.set("rows.extra_type", "CHECKPOINT_TYPE_X")
    rows = stage.manager.list_checkpoints("job-1")
    errors = [
        refusal(lambda: max(rows, key=lambda row: row["createTime"])),
        refusal(lambda: [row for row in rows if row["promotable"]]),
        refusal(
            lambda: [
                {"CHECKPOINT_TYPE_TRAINING": 1, "CHECKPOINT_TYPE_INFERENCE_BASE": 2}[row["checkpointType"]]
                for row in rows
            ]
        ),
    ]
    claim(all(isinstance(error, KeyError) for error in errors), f"naive code ends with {errors}")
    again = stage.checkpoints(stage.client())
    resumed = again.resume()
    claim(resumed and resumed.source == "step-1", f"resumed from {resumed}")
    model = checkpoints.promote_latest("model", BASE)
    claim(model["state"] == "READY", f"promoted {model}")
    return Report(
        sees=[f"KeyError: {error}" for error in errors],
        exchanges=stage.exchanges("list_checkpoints")[-1:],
        right=["TrainingCheckpoints takes absent for empty or false, and other types for opaque: resumes and promotes"],
    )


@scenario("A15", "the list fails at resume, and the run silently starts from step 0", upstream=SDK_1_2_28)
def the_list_fails_at_resume(stage: Stage) -> Report:
    """The list cannot be read when a run resumes."""
    client = stage.client()
    train(client, 0)
    stage.checkpoints(client).save("step-1", data_consumed=8)
    later = stage.client()
    stage.quirks.set("http.fail", 503, endpoint="list_checkpoints")
    before = len(stage.exchanges("list_checkpoints"))
    with stage.fake_time() as clock:
        start = _naive_start(stage)
        asked, waited = len(stage.exchanges("list_checkpoints")) - before, clock.slept
        swallowed = later.list_checkpoints()
        ours = refusal(stage.checkpoints(later).resume)
    claim(start == 0 and waited >= 290, f"naive code starts at step {start} after {waited:g} s")
    still_upstream(SDK_1_2_28, swallowed == [], "FiretitanTrainingClient.list_checkpoints() turns an error into []")
    claim("cannot be listed" in str(ours), f"our client says {ours}")
    return Report(
        sees=[
            f"{asked} requests over {waited:.0f} s, all 503, one warning in the log, then step 0 again",
            f"the trainer's own list_checkpoints() answers {swallowed} although step-1 is saved",
        ],
        exchanges=stage.exchanges("list_checkpoints")[-1:],
        right=[f"TrainingCheckpoints stops the run: {str(ours)[:200]}"],
    )


def _naive_start(stage: Stage) -> int:
    try:
        rows = stage.manager.list_checkpoints("job-1")
    except RuntimeError:
        return 0  # "could not list checkpoints, starting fresh"
    return len(rows)


@scenario("A16", "a job's full name where its short id is wanted gives 404 for a job that exists", upstream=SDK_1_2_28)
def a_full_name_where_an_id_is_wanted(stage: Stage) -> Report:
    """A path is built from what it is given: a full name becomes a path within a path."""
    from fireworks.training.sdk import fireworks_client

    job = stage.job().name
    with stage.fake_time(fireworks_client):
        error = refusal(stage.manager.list_checkpoints, job)
    asked = stage.exchanges()[-1]
    doubled = f"/rlorTrainerJobs/{job}/checkpoints"
    claim(asked.status == 404 and asked.path.endswith(doubled), f"asked {asked.path}, answered {asked.status}")
    checkpoints = stage.checkpoints(stage.client(), job)
    checkpoints.save("step-0", data_consumed=0)
    claim(len(stage.rows("job-1")) == 1, "our client did not save")
    return Report(
        sees=[f"list_checkpoints({job!r}): {str(error).splitlines()[0][:120]}", "the job exists and runs"],
        exchanges=[asked],
        right=["TrainingCheckpoints takes either form and asks with the last part of the name"],
    )


@scenario("A17", "the documented snippet takes the first row of the list, which is the oldest")
def the_first_row_is_the_oldest(stage: Stage) -> Report:
    """Lists come oldest first; code that takes the first promotable row promotes the beginning of the run."""
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    for step in (1, 2, 3):
        train(client, step)
        checkpoints.save(f"step-{step}", resumable=False, promotable=True)
    rows = stage.manager.list_checkpoints("job-1")
    first = next(row for row in rows if row["promotable"])
    stage.manager.promote_checkpoint(name=first["name"], output_model_id="snippet", base_model=BASE)
    taken = promotions.step_of(stage, "snippet")
    claim(taken == 1 and first is rows[0], f"the snippet promoted step {taken}")
    checkpoints.promote_latest("right", BASE)
    right = promotions.step_of(stage, "right")
    claim(right == 3, f"promote_latest promoted step {right}")
    return Report(
        sees=[
            f"three saves, oldest first: {', '.join(short(row['name']) for row in rows)}",
            f"the first promotable row is of step {taken}, and it becomes the model without a word",
        ],
        exchanges=stage.exchanges("list_checkpoints", "promote")[-2:],
        right=[f"TrainingCheckpoints.promote_latest() compares times and the names it saved: step {right}"],
    )
