"""The serverless flavour (WIRE 2.12): `/training/v1/serverless/api/v1/<verb>`, the sessions of the caller's account."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.endpoints import POOLED
from emulator.core.errors import FailedPrecondition, InvalidArgument
from emulator.core.names import CheckpointScope, resource
from emulator.http import schemas
from emulator.http.bodies import parse
from emulator.http.declare import Endpoints
from emulator.http.gateway.bodies import SamplingRoute
from emulator.http.gateway.routes import VERBS, answer
from emulator.http.web import Reply, caller, platform_of
from emulator.platform.platform import Platform
from emulator.platform.trainers.futures import Promise
from emulator.platform.trainers.trainer import Trainer
from emulator.state.entities import Checkpoint

_UNSERVED = {
    "create_sampling_session": "sample through inference/v1/completions",
    "asample": "sample through inference/v1/completions",
    "sample": "sample through inference/v1/completions",
    "weight_sync": "sample from a saved checkpoint",
}

router = Endpoints()
router.declared += VERBS.declared(POOLED)


class PoolTarget:
    """The gateway of the pool, as one account sees it."""

    def __init__(self, platform: Platform, account: str, program: str = "") -> None:
        """`program` marks what opens sessions, "" where nobody will say that it is gone."""
        self.platform = platform
        self._account = account
        self._program = program
        self._sessions = resource(account, "trainingSessions", "")

    def within(self) -> str:
        return self._sessions

    def health(self) -> int:
        return 200

    def capabilities(self) -> Sequence[Mapping[str, Any]]:
        raise FailedPrecondition("serverless trainers have no capabilities in common: see what create_model answers")

    def names(self) -> list[str]:
        raise FailedPrecondition(
            "of which session? list its checkpoints with GET /v1/accounts/<account>/trainingSessions/<id>/checkpoints"
        )

    def create_session(self) -> str:
        return self.platform.sessions.create(self._account, self._program).id

    def heartbeat(self, session_id: str) -> None:
        self.platform.sessions.running(self._account, session_id)

    def trainer(self, body: Mapping[str, Any]) -> Trainer:
        model_id = body.get("model_id")
        if not isinstance(model_id, str) or not model_id:
            raise InvalidArgument("model_id is required")
        return self.platform.pool.trainer(self._account, model_id)

    def create_model(self, body: Mapping[str, Any], fingerprint: bytes) -> Promise:
        return self.platform.pool.create_model(self._account, body, fingerprint)

    def weights(self, path: str) -> Checkpoint:
        return self.platform.checkpoints.resolve(CheckpointScope(f"{self._sessions}-"), path)

    def refusal(self, verb: str) -> str | None:
        return f"{verb} is not served by the serverless gateway: {_UNSERVED[verb]}" if verb in _UNSERVED else None


async def gateway(request: Request) -> Response:
    """Answer every verb of the caller's sessions."""
    return await answer(PoolTarget(platform_of(request), caller(request), request.scope.get("program", "")), request)


@router.serve("serverless_create_sampling_route", answer=schemas.ROUTE, body=SamplingRoute)
async def create_sampling_route(request: Request) -> Response:
    """Let a base model or a run be sampled without a session: `{base_model}` or `{training_run}`."""
    asked = parse(await request.body())
    target = asked.get("training_run") or asked.get("base_model")
    if not isinstance(target, str):
        raise InvalidArgument("create_sampling_route: give base_model or training_run, a full resource name")
    route = platform_of(request).samplers.route(caller(request), target)
    return Reply({"type": "create_sampling_route", "name": route.name})


router.add_route(POOLED + "{verb:path}", gateway, methods=["GET", "POST"])
