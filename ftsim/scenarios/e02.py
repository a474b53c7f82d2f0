"""Bodies are strict, headers are not: new things travel in headers."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, train

ID = "E2"
TITLE = "an unknown body field is refused, an unknown header is ignored"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    serving.deploy(stage)
    train(client, 0)
    snapshot = serving.save(client, "one")
    uri = "gs://bucket/prefix/"
    body = {"identity": snapshot, "path": uri}
    refused = stage.http.post(serving.PATH, headers=serving.headers(stage), json=body)
    claim(refused.status_code == 400 and "path: Extra inputs" in refused.text, refused.text)
    claim(serving.held(stage) == [None], "a refused load changed something")
    claim(serving.load(stage, snapshot, path=uri), f"not loaded: {serving.told(stage)}")
    claim("path" not in serving.asked(stage)[-1], f"the SDK sent {serving.asked(stage)[-1]}")
    odd = {**serving.headers(stage), "x-fireworks-not-heard-of": "1"}
    tolerant = stage.http.post(serving.PATH, headers=odd, json={"identity": snapshot})
    claim(tolerant.status_code == 200, tolerant.text)
    return Report(
        sees=[f"a path in the body: {refused.json()['message']}"],
        exchanges=stage.exchanges("hot_load"),
        right=["the SDK puts the source URI into x-fireworks-hot-load-source-url, which servers may ignore"],
    )
