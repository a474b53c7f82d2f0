"""Failures of the pool's rows, which are listed and promoted only while their session is there."""

from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import promotions
from ftsim.scenarios.support.report import Report, claim, refusal
from ftsim.scenarios.support.stage import BASE, Stage, short, train

_IDLE = 1801
"""Seconds without a sign of life after which a session has expired."""


@scenario("G2", "rows go with the session: list and promote answer NOT_FOUND the day after a good run")
def the_rows_go_with_the_session(stage: Stage) -> Report:
    """A session that was deleted, or that expired, lists nothing any more; what it saved still loads by its path."""
    service = stage.serverless()
    client = service.create_lora_training_client(BASE, rank=4)
    train(client, 0, 1)
    state = client.save_state("step-2").result().path
    client.save_weights_for_sampler_ext("final")
    (row,) = _promotable(stage, service)
    service.delete_training_session()
    listed = refusal(_promotable, stage, service)
    promoted = refusal(stage.manager.promote_session_checkpoint, row["name"], "late", BASE)
    lost = stage.exchanges("list_checkpoints", "promote")[-2:]
    claim([one.status for one in lost] == [404, 404] and not promotions.models(stage), f"{listed}; {promoted}")
    careful = stage.serverless()
    again = careful.create_training_client_from_state_with_optimizer(state)
    claim(stage.live(again).step == 2, f"the new run is at step {stage.live(again).step}")
    again.save_weights_for_sampler_ext("final")
    (own,) = _promotable(stage, careful)
    model = stage.manager.promote_session_checkpoint(own["name"], "in-time", BASE)
    claim(model["state"] == "READY" and promotions.step_of(stage, "in-time") == 2, f"{model}")
    stage.clock.advance(_IDLE)
    expired = refusal(_promotable, stage, careful)
    claim("HTTP 404" in str(expired), f"{expired}")
    with stage.quirks.set("sessions.rows_outlive", True):
        kept = [len(_promotable(stage, one)) for one in (service, careful)]
        claim(kept == [1, 1], f"where rows outlive their session there are {kept}")
    return Report(
        sees=[promotions.first_line(listed), promotions.first_line(promoted), promotions.cause(promoted)],
        exchanges=lost,
        right=[
            f"promotes before the session ends: {short(own['name'])} is {model['name']}",
            f"what was lost is loaded by its path, {state}, saved again and promoted",
        ],
    )


_LATE = 60.0
_DEADLINE = 300.0


@scenario("G3", "saved, closed, never promotable in time: promote is skipped, and the session goes with its rows")
def never_promotable_in_time(stage: Stage) -> Report:
    """A row that shows late is not there when a client looks once, and with the session the chance is gone."""
    stage.quirks.set("rows.visible_after_s", _LATE)
    hasty = stage.serverless()
    client = hasty.create_lora_training_client(BASE, rank=4)
    train(client, 0)
    client.save_weights_for_sampler_ext("final")
    look = _promotable(stage, hasty)
    claim(look == [], f"the list already shows {look}")
    hasty.delete_training_session()
    stage.clock.advance(_LATE)
    late = refusal(_promotable, stage, hasty)
    claim("HTTP 404" in str(late) and not promotions.models(stage), f"{late}")
    right, name = _run_to_the_end(stage, "in-time")
    claim(stage.time.slept >= _LATE and promotions.models(stage) == ["in-time"], f"after {stage.time.slept:.0f} s")
    waited = stage.time.slept
    stage.quirks.set("rows.visible_after_s", 10 * _DEADLINE)
    failed = refusal(_run_to_the_end, stage, "never")
    claim(isinstance(failed, TimeoutError), f"{failed!r}")
    return Report(
        sees=[
            f"{len(look)} rows, and a program says: promote skipped: the final checkpoint is not listed as promotable",
            f"a minute later: {promotions.first_line(late)}",
        ],
        exchanges=stage.exchanges("list_checkpoints")[:2],
        right=[
            f"waits with a deadline before it closes: {name} is listed after {waited:.0f} s, {right['name']}",
            f"fails the run where it does not come, and leaves the session open: {failed}",
        ],
    )


def _promotable(stage: Stage, service: Any) -> list[dict[str, Any]]:
    """The rows of a service's session that can be promoted."""
    rows = stage.manager.list_training_session_checkpoints(service.training_session_name)
    return [row for row in rows if row.get("promotable")]


def _run_to_the_end(stage: Stage, model: str) -> tuple[dict[str, Any], str]:
    """Train, save, wait for the row, promote it, and close only then; raises TimeoutError with the session open."""
    from ftsim.training.checkpoints.promotion import poll

    service = stage.serverless()
    client = service.create_lora_training_client(BASE, rank=4)
    train(client, 0)
    client.save_weights_for_sampler_ext("final")
    rows = poll(lambda: _promotable(stage, service), wait_s=_DEADLINE, sleep=stage.time.sleep)
    if not rows:
        raise TimeoutError(f"the final checkpoint is not promotable after {_DEADLINE:g} s")
    made = stage.manager.promote_session_checkpoint(rows[-1]["name"], model, BASE)
    service.delete_training_session()
    return dict(made), short(rows[-1]["name"])
