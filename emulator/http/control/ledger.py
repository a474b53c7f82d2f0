"""/v1/accounts/{account}/deployments/{deployment}/ledger: what was hot-loaded, signal by signal (FAILURES E29, E30)."""

from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import rfc3339
from emulator.http import schemas
from emulator.http.declare import Endpoints
from emulator.http.web import Reply, platform_of
from emulator.quirks import deployments
from emulator.state.entities import SnapshotLoad

router = Endpoints()


@router.serve("get_ledger", answer=schemas.LEDGER)
async def read(request: Request) -> Response:
    """Show what was signalled and what each replica did with it, newest first."""
    platform, (account, deployment) = platform_of(request), _target(request)
    signals = platform.ledger.signals(account, deployment)
    subject = platform.deployments.get(account, deployment).subject
    style = platform.world.quirks.value(deployments.HOTLOAD_LEDGER_VALUE, subject)
    tell = _identity if style == "identity" else _told
    return Reply({"ledger": [{"timestamp": rfc3339(loads[0].created), "value": tell(loads)} for loads in signals]})


@router.serve("reset_ledger")
async def reset(request: Request) -> Response:
    """Forget what was loaded: the base model is served, and the next signal must be full."""
    platform, (account, deployment) = platform_of(request), _target(request)
    await run_in_threadpool(platform.ledger.reset, account, deployment)
    return Reply({})


def _identity(loads: list[SnapshotLoad]) -> str:
    return loads[0].identity


def _told(loads: list[SnapshotLoad]) -> str:
    """One signal as text: its identity, full or delta, when each replica was ready, why one was not."""
    first = loads[0]
    body: dict[str, Any] = {
        "identity": first.identity,
        "type": "delta" if first.previous else "full",
        "replicas": {one.replica: rfc3339(one.created) for one in loads if not one.error},
    }
    if errors := {one.replica: one.error for one in loads if one.error}:
        body["errors"] = errors
    if first.previous:
        body["previous_snapshot_identity"] = first.previous
    return orjson.dumps(body).decode()


def _target(request: Request) -> tuple[str, str]:
    return request.path_params["account"], request.path_params["deployment"]
