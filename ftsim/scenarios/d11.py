"""The base model of a promotion: optional once, then required, and always the trainer's own."""

from typing import Any

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "D11"
TITLE = "a promotion without base_model, or with another trainer's, is refused"
OTHER = "accounts/fireworks/models/qwen3-8b"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    name = promoting.sampler(client, "step-1")
    missing = _post(stage, name, "naive")
    claim(missing.status_code == 400 and "base_model is required" in missing.text, missing.text)
    mismatch = refusal(promoting.promote, stage, name, "mine", base=OTHER)
    claim("(HTTP 400)" in str(mismatch), str(mismatch))
    with stage.quirks.set("promote.base_model", "inferred"):
        inferred = _post(stage, name, "inferred")
    claim(inferred.status_code == 200, inferred.text)
    job = stage.manager.get("job-1")
    base = job["trainingConfig"]["baseModel"]
    model = promoting.promote_rightly(stage, promoting.row(stage, name), "mine", base)
    claim(base == BASE and model["state"] == "READY", f"{base}: {model}")
    return Report(
        sees=[f"without: {missing.json()['message']}", f"with another: {promoting.cause(mismatch)}"],
        exchanges=stage.exchanges("promote")[:2],
        right=[f"sends the base model that the trainer job names, {base}: {model['name']}"],
    )


def _post(stage: Stage, name: str, model: str) -> Any:
    """A promotion as a client from before the field was required sends it."""
    body = {"output_model": f"accounts/{stage.account}/models/{model}", "trainer_job_id": stage.job_name("job-1")}
    return stage.http.post(f"/v1/accounts/{stage.account}/checkpoints/{name}:promote", json=body)
