"""An older control plane does not know async_promotion and says so."""

import json

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "D8"
TITLE = "the server does not know the field async_promotion"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    name = promoting.sampler(client, "step-1")
    stage.quirks.set("promote.async", "unsupported")
    body = {
        "output_model": f"accounts/{stage.account}/models/naive", "trainer_job_id": stage.job_name("job-1"),
        "base_model": BASE, "async_promotion": True,
    }  # fmt: skip
    naive = stage.http.post(f"/v1/accounts/{stage.account}/checkpoints/{name}:promote", json=body)
    claim(naive.status_code == 400 and "async_promotion" in naive.text, naive.text)
    model = promoting.promote(stage, name, "mine")
    sent = ["async_promotion" in json.loads(exchange.request) for exchange in stage.exchanges("promote")]
    claim(sent == [True, True, False] and model["state"] == "READY", f"asked {sent}, got {model}")
    claim(promoting.models(stage) == ["mine"], f"the models are {promoting.models(stage)}")
    stage.quirks.set("promote.async", "inline")
    other = refusal(promoting.promote, stage, "nowhere", "other")
    claim("async_promotion" not in str(other), str(other))
    return Report(
        sees=[f"with the SDK nothing; a client that always sends the field: {naive.json()['message']}"],
        exchanges=stage.exchanges("promote")[1:3],
        right=[f"asks again without the field, once, when the refusal names it: {model['name']}"],
    )
