"""The list cannot be read when a run resumes."""

from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage, train

ID = "A15"
TITLE = "the list fails at resume, and the run silently starts from step 0"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    stage.checkpoints(client).save("step-1", data_consumed=8)
    later = stage.client()
    stage.quirks.set("http.fail", 503, endpoint="list_checkpoints")
    before = len(stage.exchanges("list_checkpoints"))
    with stage.hurry() as clock:
        start = _naive_start(stage)
        asked, waited = len(stage.exchanges("list_checkpoints")) - before, clock.slept
        swallowed = later.list_checkpoints()
        ours = refusal(stage.checkpoints(later).resume)
    claim(start == 0 and waited >= 290, f"naive code starts at step {start} after {waited:g} s")
    still_upstream(UPSTREAM, swallowed == [], "FiretitanTrainingClient.list_checkpoints() turns an error into []")
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
