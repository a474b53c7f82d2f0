"""A cursor file keeps the entries with the highest steps, not those written last."""

import re

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage

ID = "C19"
TITLE = "cursor history is trimmed by step: a new run's first cursors are dropped at once"
_KEEP = 20


def reproduce(stage: Stage) -> Report:
    from ftsim.training.checkpoints.cursors import KEEP, Cursors

    old = {f"step-{step}": 8 * step for step in range(100, 120)}
    naive = _trimmed_by_step({**old, "step-1": 8})
    claim("step-1" not in naive and len(naive) == _KEEP, f"naive trimming keeps {list(naive)}")
    cursors = Cursors(stage.folder / "trimmed")
    for name, value in {**old, "step-1": 8}.items():
        cursors.record({name: value})
    kept = cursors.recorded()
    claim(kept.get("step-1") == 8 and "step-100" not in kept and len(kept) == KEEP, f"ours keeps {list(kept)}")
    checkpoints = stage.checkpoints(stage.client(), run="trimmed")
    checkpoints.save("step-2", data_consumed=16)
    resumed = stage.checkpoints(stage.client(), run="trimmed").resume()
    claim(resumed and resumed.data_consumed == 16, f"resumed {resumed}")
    return Report(
        sees=["20 cursors of steps 100 to 119, then step-1 of a new phase: it is dropped, and resume begins at row 0"],
        right=[f"keep the {KEEP} written last, whatever their step: step-1 stays, step-100 goes"],
    )


def _trimmed_by_step(cursors: dict[str, int]) -> dict[str, int]:
    ranked = sorted(cursors, key=lambda name: int(re.sub(r"\D", "", name)), reverse=True)
    return {name: cursors[name] for name in ranked[:_KEEP]}
