"""A job created with `warmStartFrom` a LoRA add-on does not start from it."""

from typing import Any

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, train

ID = "C12"
TITLE = "a warm start from a LoRA add-on at job creation has no effect, or is refused"


def reproduce(stage: Stage) -> Report:
    source = stage.client("source", rank=2)
    train(source, 0, 1)
    checkpoints = stage.checkpoints(source, "source")
    checkpoints.save("step-2", resumable=False, promotable=True)
    adapter = checkpoints.promote_latest("adapter", BASE)["name"]
    refused = _create(stage, "refused", adapter)
    stage.quirks.set("jobs.warm_start_lora", "ignored")
    taken = _create(stage, "ignored", adapter)
    claim((refused.status_code, taken.status_code) == (400, 200), f"{refused.status_code}, {taken.status_code}")
    warm, cold = stage.client("ignored", rank=2), stage.client("cold", rank=2)
    claim(stage.weights(warm) == stage.weights(cold) != stage.weights(source), "the adapter should not be there")
    stage.checkpoints(warm, "ignored").resume(warm_start_from_adapter=adapter)
    claim(stage.weights(warm) == stage.weights(source), "load_adapter should bring the adapter")
    return Report(
        sees=[
            f"refused: {refused.json()['message'][:160]}",
            "or accepted, and the new client's adapter is that of a job without a warm start, bit for bit",
        ],
        exchanges=stage.exchanges("create_job"),
        right=["create the job on the base model, then load_adapter: the adapter is there, bit for bit"],
    )


def _create(stage: Stage, job: str, adapter: str) -> Any:
    config = {"baseModel": BASE, "loraRank": 2, "maxContextLength": 64, "warmStartFrom": adapter}
    return stage.http.post(
        f"/v1/accounts/{stage.account}/rlorTrainerJobs",
        params={"rlorTrainerJobId": job},
        json={"trainingConfig": config},
    )
