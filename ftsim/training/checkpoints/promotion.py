"""Turning a checkpoint row into a model, and recognising a model that is already there (FAILURES D)."""

import itertools
import re
import time
from collections.abc import Callable
from typing import Any, cast

from ftsim.training.checkpoints.rows import Row, parse_time, read_rows
from ftsim.training.checks import check_output_model_id
from ftsim.training.clients import Account, ControlPlane
from ftsim.training.errors import CheckpointError, ConfigError

MODEL_WAIT_S = 600.0
MODEL_ID_LIMIT = 63
_SECOND = 1_000_000_000
_STATUS = re.compile(r"\(HTTP (\d{3})\)")


def http_status(error: BaseException) -> int | None:
    """Returns the HTTP status that an SDK error carries, in an attribute or only in its text."""
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return status
    match = _STATUS.search(str(error))
    return int(match.group(1)) if match else None


def poll(look: Callable[[], Any], *, wait_s: float, sleep: Callable[[float], None] = time.sleep) -> Any:
    """Call `look` until it returns something true or `wait_s` have been slept; returns its last answer."""
    slept, pause = 0.0, 0.1
    while not (found := look()) and slept < wait_s:
        sleep(pause)
        slept, pause = slept + pause, min(pause * 2, 3.0)
    return found


def find_model(fw_client: ControlPlane, model_id: str) -> dict[str, Any] | None:
    """Returns the account's model of this id, None when there is none; other failures raise the SDK's own errors."""
    if not getattr(fw_client, "api_key", None):
        return None
    account = cast(Account, fw_client)
    return read_model(account, f"accounts/{account.account_id}/models/{model_id}")


def read_model(fw_client: Account, name: str) -> dict[str, Any] | None:
    """Returns the model of this resource name, None when there is none; other failures raise the SDK's own errors."""
    from fireworks import Fireworks, NotFoundError

    account = fw_client.account_id
    with Fireworks(api_key=fw_client.api_key, account_id=account, base_url=fw_client.base_url) as client:
        try:
            found = client.get(f"/v1/{name}", cast_to=object)
        except NotFoundError:
            return None
    return found if isinstance(found, dict) else None


def check_model_is_free(fw_client: ControlPlane, model_id: str) -> None:
    """Refuse an id that would be refused only after hours of training."""
    if find_model(fw_client, model_id) is not None:
        raise ConfigError(
            f"output_model_id {model_id!r} is taken: the account has a model of that name, which what this run "
            "ends with cannot replace; choose another id, or delete that model"
        )


def next_model_id(fw_client: ControlPlane, row: Row, model_id: str) -> str:
    """Returns `model_id`, or the first of `model_id-2`, `model_id-3` ... that is free or was made from `row` before."""
    for count in itertools.count(1):
        candidate = model_id if count == 1 else f"{model_id[: MODEL_ID_LIMIT - len(str(count)) - 1]}-{count}"
        model = find_model(fw_client, candidate)
        if model is None or _made_from(model, row):
            return candidate
    raise AssertionError("counting ends nowhere")


def promote(
    fw_client: ControlPlane,
    row: Row,
    output_model_id: str,
    base_model: str,
    *,
    wait_s: float = MODEL_WAIT_S,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Promote `row` and return the model; a model this very row became is success, however the call ended."""
    check_output_model_id(output_model_id)
    existing = find_model(fw_client, output_model_id)
    if existing is not None:
        return _recognise(existing, row, output_model_id)
    try:
        return fw_client.promote_checkpoint(name=row.name, output_model_id=output_model_id, base_model=base_model)
    except Exception as error:
        model = _look_after_failure(fw_client, output_model_id, http_status(error), wait_s, sleep)
        if model is not None:
            return _recognise(model, row, output_model_id)
        raise CheckpointError(
            f"checkpoint {row.id} was not promoted to {output_model_id!r}{_listing(fw_client, row)}: {error}"
        ) from error


def _look_after_failure(
    fw_client: ControlPlane, model_id: str, status: int | None, wait_s: float, sleep: Callable[[float], None]
) -> dict[str, Any] | None:
    """Returns the ready model that a failed promote left; waits only where the copy may still be going on."""
    refused = status is not None and status < 500 and status not in (408, 409, 429)

    def ready() -> dict[str, Any] | None:
        model = find_model(fw_client, model_id)
        return model if model is not None and model.get("state", "READY") == "READY" else None

    try:
        found: dict[str, Any] | None = poll(ready, wait_s=0.0 if refused else wait_s, sleep=sleep)
    except Exception:
        # The failure to report is the promotion's, not that of looking after it.
        return None
    return found


def _recognise(model: dict[str, Any], row: Row, model_id: str) -> dict[str, Any]:
    """Accept a model that says it comes from this row, or one made after it; any other is somebody else's."""
    if not _made_from(model, row):
        raise CheckpointError(
            f"model {model_id!r} exists and was not made from checkpoint {row.id}: choose another output_model_id, "
            "or delete that model"
        )
    return model


def _made_from(model: dict[str, Any], row: Row) -> bool:
    source, created = str(model.get("importedFrom") or ""), str(model.get("createTime") or "")
    if "/checkpoints/" in source:
        return source == row.name
    # One second of slack: the service may print either time in whole seconds.
    return not created or parse_time(created) + _SECOND >= row.created


def _listing(fw_client: ControlPlane, row: Row) -> str:
    """Returns what the list says about the row now, when that explains a refusal."""
    try:
        rows = read_rows(fw_client.list_checkpoints(row.name.split("/")[-3]))
    except Exception:
        return ""
    now = next((listed for listed in rows if listed.id == row.id), None)
    if now is None:
        return " (it is no longer listed)"
    return "" if now.promotable else " (it is listed as not promotable now)"
