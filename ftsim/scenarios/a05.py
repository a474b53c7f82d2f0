"""Nine digits after the point: what the usual parsers do not read."""

from datetime import UTC, datetime
from typing import Any

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, short, train

ID = "A5"
TITLE = "createTime in nanoseconds is refused by parsers that stop at microseconds"


def reproduce(stage: Stage) -> Report:
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
