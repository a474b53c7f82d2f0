"""A row is listed, its blob is gone: collected, in another bucket, or lost by an earlier bad promotion."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "D3"
TITLE = "promoting a listed row says: checkpoint not found in GCS"


def reproduce(stage: Stage) -> Report:
    from ftsim.training.config import check_output_model_id

    client = stage.client()
    checkpoints = stage.checkpoints(client)
    train(client, 0)
    first = promoting.sampler(client, "step-1")
    with stage.quirks.set("promote.blob", "missing", times=1):
        gone = refusal(promoting.promote, stage, first, "mine")
    claim("not found in GCS" in str(gone), str(gone))
    stage.quirks.set("models.id_rule", "dns_label")
    with stage.quirks.set("promote.blob", "orphaned_after_bad_id", times=1):
        bad = refusal(promoting.promote, stage, first, "-mine")
    lost = refusal(promoting.promote, stage, first, "mine")
    claim("(HTTP 400)" in str(bad) and "not found in GCS" in str(lost), f"{bad}, then {lost}")
    claim(first in [row.id for row in promoting.rows(stage)], "the row should still be listed")
    early = refusal(check_output_model_id, "-mine")
    checkpoints.save("step-1-again", resumable=False, promotable=True)
    model = checkpoints.promote_latest("mine", BASE)
    return Report(
        sees=[promoting.cause(gone), f"after a promotion to '-mine': {promoting.cause(lost)}"],
        exchanges=stage.exchanges("promote")[:3],
        right=[
            f"looks at the id before the first request: {early}",
            f"saves again, lists again, promotes that row: {model['name']}",
        ],
    )
