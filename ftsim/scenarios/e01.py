"""The field reset_prompt_cache is refused by some serving stacks."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, train

ID = "E1"
TITLE = "reset_prompt_cache is refused: 400, Extra inputs are not permitted"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    serving.deploy(stage)
    train(client, 0)
    first, second = serving.save(client, "one"), serving.save(client, "two")
    stage.quirks.set("hotload.reset_prompt_cache", "reject")
    naive = stage.http.post(
        serving.PATH, headers=serving.headers(stage), json={"identity": first, "reset_prompt_cache": True}
    )
    claim(naive.status_code == 400 and "Extra inputs are not permitted" in naive.text, naive.text)
    claim(serving.load(stage, first) and serving.load(stage, second), f"not loaded: {serving.told(stage)}")
    sent = ["reset_prompt_cache" in body for body in serving.asked(stage)]
    claim(sent == [True, True, False, False], f"the field was sent {sent}")
    return Report(
        sees=[f"a client without a second try: {naive.json()['message']}"],
        exchanges=stage.exchanges("hot_load")[1:4],
        right=["the SDK asks again without the field, and remembers: the next load does not send it"],
    )
