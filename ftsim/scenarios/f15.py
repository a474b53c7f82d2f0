"""What may come instead of a result, and how long the client goes on to ask."""

from typing import Any

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, batch

ID = "F15"
TITLE = "the grammar of polling for a result: what is borne, how often, and what is fatal"
BORNE = (
    ("try_again", 3), ("paused_capacity", 2), ("paused_rate_limit", 2), ("408", 3), ("500", 12), ("503", 12),
    ("429", 2), ("400", 3), ("empty_400", 6), ("402", 3), ("complete_metadata", 1),
)  # fmt: skip
FATAL = (("400", 4), ("404", 1), ("409", 1), ("complete_metadata", 2), ("refuse_metadata", 4))


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    borne, fatal = [], []
    for answer, times in BORNE:
        error, slept = _ask(stage, client, answer, times)
        claim(error is None, f"{times} x {answer} should be borne: {error!r}")
        borne.append(f"{times} x {answer} ({slept:.0f} s)")
    for answer, times in FATAL[:3]:
        error, _ = _ask(stage, client, answer, times)
        claim(isinstance(error, ValueError), f"{times} x {answer} should be fatal: {error!r}")
        fatal.append(f"{times} x {answer}: {running.first_line(error)[:90]}")
    stage.quirks.set("futures.answer", "refuse_metadata", endpoint="forward")
    old, _ = _ask(stage, client, "", 0)
    claim(isinstance(old, ValueError) and "allow_metadata_only" in str(old), f"an old trainer: {old!r}")
    stage.quirks.clear()
    error, _ = _ask(stage, client, "", 0)
    claim(error is None, f"afterwards the client should work: {error!r}")
    return Report(
        sees=[*fatal, f"an old trainer that does not know the field: {running.first_line(old)[:90]}"],
        exchanges=[exchange for exchange in stage.exchanges("retrieve_future") if exchange.status == 408][:1],
        right=[f"asks on: {', '.join(borne)}"],
    )


def _ask(stage: Stage, client: Any, answer: str, times: int) -> tuple[Exception | None, float]:
    """What a forward ends with when its result is withheld so many times, and how long the client slept."""
    if times:
        stage.quirks.set("futures.answer", answer, times=times, endpoint="forward")
    slept = stage.time.slept
    try:
        with running.patient(stage):
            client.forward(batch(), "cross_entropy").result()
    except Exception as error:
        return error, stage.time.slept - slept
    return None, stage.time.slept - slept
