"""Rows from before a job's bucket was stored are found through the deployment only."""

import warnings

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "D12"
TITLE = "a row of an old job promotes only with the deprecated hot_load_deployment_id"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    name = promoting.sampler(client, "step-1")
    stage.quirks.set("jobs.legacy_bucket", True, job="job-1")
    error = refusal(promoting.promote, stage, name, "mine")
    claim("not found in GCS" in str(error), str(error))
    full = f"{stage.job_name('job-1')}/checkpoints/{name}"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = stage.manager.promote_checkpoint(
            name=full, output_model_id="mine", base_model=BASE, hot_load_deployment_id="dep-1"
        )
    kinds = [warning.category for warning in told]
    claim(DeprecationWarning in kinds and model["state"] == "READY", f"{kinds}, {model}")
    return Report(
        sees=[promoting.cause(error), f"with the deployment: DeprecationWarning, and {model['name']}"],
        exchanges=stage.exchanges("promote"),
        right=["names the deployment for rows of such a job only, and not where the plain promotion works"],
    )
