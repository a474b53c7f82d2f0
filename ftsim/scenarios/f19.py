"""Creates that fail leave sessions behind, until the quota is full of them and says so instead of what is wrong."""

from typing import Any

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "F19"
TITLE = "leaked serverless sessions eat the quota"
_PLACES = 2


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("sessions.quota", _PLACES)
    stage.quirks.set("sessions.leak_on_failed_create", True)
    reasons = [refusal(_full_parameter, stage.serverless()) for _ in range(_PLACES)]
    claim(all("train LoRA of rank" in str(reason) for reason in reasons), f"{reasons}")
    hidden = refusal(_full_parameter, stage.serverless())
    claim("at a time: delete one" in str(hidden) and "LoRA" not in str(hidden), str(hidden))
    blocked = refusal(stage.serverless().create_lora_training_client, BASE, rank=4)
    claim("at a time: delete one" in str(blocked), str(blocked))
    leaked = [session for session in _sessions(stage) if session["state"] == "TRAINING_SESSION_STATE_UNSPECIFIED"]
    claim(len(leaked) == _PLACES, f"{leaked}")
    for session in leaked:
        stage.manager.delete_training_session(session["name"])
    service = stage.serverless()
    careful = refusal(_or_delete, service)
    claim("train LoRA of rank" in str(careful), str(careful))
    states = [session["state"] for session in _sessions(stage)]
    claim("TRAINING_SESSION_STATE_UNSPECIFIED" not in states, f"{states}")
    client = stage.serverless().create_lora_training_client(BASE, rank=4)
    train(client, 0)
    claim(running.steps(stage, client) == 1, "the pool should train again")
    return Report(
        sees=[
            f"what is wrong: {running.first_line(reasons[0])}",
            f"the same mistake once the quota is full of what failed: {running.first_line(hidden)}",
            f"the rows that fill it: {', '.join(session['state'] for session in leaked)}",
        ],
        exchanges=stage.exchanges("create_model")[:1] + stage.exchanges("list_sessions")[:1],
        right=["deletes the session of a create that failed, and those that are left: the pool trains again"],
    )


def _full_parameter(service: Any) -> None:
    service.create_training_client(base_model=BASE, lora_rank=0)


def _or_delete(service: Any) -> None:
    try:
        _full_parameter(service)
    except Exception:
        service.delete_training_session()
        raise


def _sessions(stage: Stage) -> list[dict[str, Any]]:
    path = f"/v1/accounts/{stage.account}/trainingSessions"
    return list(stage.http.get(path).json()["trainingSessions"])
