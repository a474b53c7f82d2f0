"""One list mixes two precisions of createTime, and text does not sort as time does."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, newest_as_text, train

ID = "A1"
TITLE = "createTime of mixed precision makes an older checkpoint look newer"


def reproduce(stage: Stage) -> Report:
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
