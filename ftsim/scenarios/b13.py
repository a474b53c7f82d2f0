"""A save takes longer than the client waits, and is made all the same."""

from concurrent.futures import TimeoutError as FutureTimeout

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, short

ID = "B13"
TITLE = "the client gives up on a slow save that is made all the same"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    stage.quirks.set("save.duration_s", 0.3)
    late = refusal(client.save_state, "step-4", timeout=0.05)
    claim(isinstance(late, (TimeoutError, FutureTimeout)), f"the SDK says {late!r}")
    early = stage.manager.list_checkpoints("job-1")
    repeated = client.save_state("step-4-retry")
    found = _look(stage, "step-4")
    repeated.result()
    rows = [short(row["name"]) for row in stage.manager.list_checkpoints("job-1")]
    claim(not early and found and rows == ["step-4", "step-4-retry"], f"the rows are {rows}")
    return Report(
        sees=[f"{type(late).__name__} after the client's own limit; a retry writes the same state again: {rows}"],
        exchanges=stage.exchanges("save_weights", "list_checkpoints")[:3],
        right=["keep looking for the row before saving again: step-4 shows while the retry would still run"],
    )


def _look(stage: Stage, name: str) -> bool:
    """Whether the row shows within ten seconds."""
    import time

    for _ in range(200):
        if any(short(row["name"]) == name for row in stage.manager.list_checkpoints("job-1")):
            return True
        time.sleep(0.05)
    return False
