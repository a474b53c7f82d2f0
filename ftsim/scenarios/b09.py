"""A sampler save without a name leaves nothing to list; a server that answers path null breaks the client."""

from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage

ID = "B9"
TITLE = "an ephemeral sampler save leaves no row, and the SDK stumbles over path null"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    unnamed = refusal(lambda: client.save_weights_and_get_sampling_client())
    lacking = isinstance(unnamed, NotImplementedError | AttributeError)
    still_upstream(UPSTREAM, lacking, f"there is no unnamed save: {unnamed!r}")
    stage.quirks.set("sampler.return_null_path", True, times=1)
    null = refusal(client.save_weights_for_sampler_ext, "step-1", checkpoint_type="base")
    still_upstream(UPSTREAM, isinstance(null, AssertionError), f"path null ends with {null!r}")
    claim(len(stage.truth("job-1")) == 1, "the weights should be saved all the same")
    stage.quirks.set("sampler.return_null_path", True, times=1)
    checkpoints = stage.checkpoints(client)
    checkpoints.save("step-2", resumable=False, promotable=True)
    rows = [row.id for row in stage.truth("job-1")]
    claim(rows[-1].startswith("step-2-"), f"the rows are {rows}")
    return Report(
        sees=[
            f"save_weights_and_get_sampling_client(): {type(unnamed).__name__}: {str(unnamed)[:120]}",
            f"a named save answered with path null: {type(null).__name__}, although the row {rows[0]} is there",
        ],
        exchanges=stage.exchanges("save_weights_for_sampler", "retrieve_future")[-3:],
        right=["TrainingCheckpoints saves under a name and, whatever the answer was, looks for the row"],
    )
