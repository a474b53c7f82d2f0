"""Lists are oldest first, in pages, under keys that have changed, and may name a next page for ever."""

import contextlib
import threading
from typing import Any

from ftsim.scenarios.report import Report, ScenarioFailed, claim, still_upstream
from ftsim.scenarios.stage import Stage, short

ID = "A7"
TITLE = "oldest first and paged: rows[0] is the oldest, a second page is forgotten, a page token never ends"
UPSTREAM = "fireworks-ai 1.2.28"
_PATIENCE = 20


def reproduce(stage: Stage) -> Report:
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
    still_upstream(UPSTREAM, looped, "list_checkpoints follows a repeated page token without end")
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
    """Whether the client asks on until `count` lists were answered."""
    for _ in range(600):
        if len(stage.exchanges("list_checkpoints")) >= count:
            return True
        worker.join(0.05)
        if not worker.is_alive():
            return False
    raise ScenarioFailed("the client neither stops nor asks")
