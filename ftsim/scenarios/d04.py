"""The client's own check of a model id is looser than a DNS label."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage, train

ID = "D4"
TITLE = "a model id with a hyphen at either end passes the SDK's check and is refused by the server"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    from fireworks.training.sdk.fireworks_client import validate_output_model_id

    from ftsim.training.config import check_output_model_id

    client = stage.client()
    train(client, 0)
    row = promoting.sampler(client, "step-1")
    odd = ["-lead", "trail-"]
    still_upstream(UPSTREAM, not any(map(validate_output_model_id, odd)), "the SDK's check lets -lead and trail- pass")
    stage.quirks.set("models.id_rule", "dns_label")
    refused = [refusal(promoting.promote, stage, row, model) for model in odd]
    claim(all("(HTTP 400)" in str(error) for error in refused), f"{refused}")
    long = refusal(promoting.promote, stage, row, "m" * 64)
    claim(isinstance(long, ValueError), f"64 characters should be refused before any request: {long!r}")
    asked = stage.exchanges("promote")
    early = [refusal(check_output_model_id, model) for model in (*odd, "m" * 64, "Upper")]
    claim(len(stage.exchanges("promote")) == len(asked) == 2, "our check should ask nobody")
    return Report(
        sees=[promoting.cause(error) for error in refused],
        exchanges=asked,
        right=[f"keeps to the stricter rule, before training starts: {error}" for error in early[:2]],
    )
