"""A promotion as a long-running operation, and the ends such an operation can come to."""

import logging

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "D9"
TITLE = "an operation ends without a response, with an error, or stops answering"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    name = promoting.sampler(client, "step-1")
    quirks = stage.quirks
    quirks.set("promote.async", "operation")
    seen = []
    for ends, says in (("nothing", "without a model response"), ("error", "failed")):
        quirks.set("operations.ends_with", ends, times=1)
        error = refusal(promoting.promote, stage, name, f"ends-with-{ends}")
        claim(isinstance(error, RuntimeError) and says in str(error), f"{ends}: {error}")
        seen.append(f"done with {ends}: {promoting.cause(error)}")
    quirks.set("operations.pending_reads", 1, times=1)
    with quirks.set("http.fail", 404, times=1, endpoint="get_operation"):
        fatal = refusal(promoting.promote, stage, name, "poll-404")
    claim("Failed to poll operation" in str(fatal), str(fatal))
    for style in ("statusMessage", "status_message", "value"):
        quirks.set("operations.metadata_style", style)
        quirks.set("operations.pending_reads", 2, times=1)
        claim(_logged(stage, name, f"told-by-{style.lower().replace('_', '-')}"), f"{style}: no status was logged")
    quirks.set("operations.pending_reads", 1, times=1)
    quirks.set("http.fail", 503, times=2, endpoint="get_operation")
    patient = promoting.promote(stage, name, "poll-503")
    claim(patient["state"] == "READY", f"a poll that answers 503 should be repeated: {patient}")
    quirks.set("operations.ends_with", "nothing", times=1)
    right = promoting.promote_rightly(stage, promoting.row(stage, name), "mine")
    claim(right["state"] == "READY", f"our client got {right}")
    return Report(
        sees=[*seen, f"poll answers 404: {promoting.first_line(fatal)}", "poll answers 503: it goes on"],
        exchanges=stage.exchanges("promote", "get_operation")[:2],
        right=[f"looks at the model, whatever the operation said: {right['name']} is {right['state']}"],
    )


def _logged(stage: Stage, name: str, model: str) -> bool:
    """Whether the client told what the operation is doing."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("fireworks.training.sdk.fireworks_client")
    level, propagates = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        promoting.promote(stage, name, model)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagates
    return any("copying" in line for line in lines)
