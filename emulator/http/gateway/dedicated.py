"""The dedicated flavour (WIRE 2.4): `/training/v1/rlorTrainerJobs/{account}/{job}/api/v1/<verb>`, one job's trainer."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.endpoints import DEDICATED
from emulator.core.names import CheckpointScope
from emulator.http.declare import Endpoints
from emulator.http.gateway.routes import VERBS, answer
from emulator.platform.platform import Platform
from emulator.platform.trainers.futures import Promise
from emulator.platform.trainers.trainer import Trainer
from emulator.state.entities import Checkpoint

_UNSERVED = frozenset({"create_sampling_session", "asample", "sample", "create_sampling_route"})

router = Endpoints()
router.declared += VERBS.declared(DEDICATED)


class JobTarget:
    """The gateway of one job."""

    def __init__(self, platform: Platform, account: str, job: str) -> None:
        self.platform = platform
        self._account = account
        self._job = job

    def within(self) -> str:
        return f"{self.platform.jobs.get(self._account, self._job).name}/"

    def health(self) -> int:
        return self.platform.jobs.health(self._account, self._job)

    def capabilities(self) -> Sequence[Mapping[str, Any]]:
        job = self._trainer().owner
        return [{"model_name": job.base_model, "max_context_length": job.max_context_length}]

    def names(self) -> list[str]:
        return self.platform.training.names(self._trainer())

    def create_session(self) -> str:
        return self.platform.trainers.create_session(self._trainer())

    def heartbeat(self, session_id: str) -> None:
        """Note that a client session is still in use, and with it the job."""
        job = self.platform.jobs.get(self._account, self._job)
        self.platform.trainers.of(job).sessions.check(session_id)
        self.platform.jobs.in_use(job)

    def trainer(self, body: Mapping[str, Any]) -> Trainer:
        return self._trainer()

    def create_model(self, body: Mapping[str, Any], fingerprint: bytes) -> Promise:
        return self.platform.trainers.create_model(self._trainer(), body, fingerprint)

    def weights(self, path: str) -> Checkpoint:
        return self.platform.checkpoints.resolve(CheckpointScope(self._trainer().owner.name), path)

    def refusal(self, verb: str) -> str | None:
        return f"{verb} is not served by a dedicated trainer: sample from a deployment" if verb in _UNSERVED else None

    def _trainer(self) -> Trainer:
        return self.platform.trainers.of(self.platform.jobs.running(self._account, self._job))


async def gateway(request: Request) -> Response:
    """Answer every verb of a job's trainer."""
    parameters, platform = request.path_params, request.app.state.platform
    return await answer(JobTarget(platform, parameters["account"], parameters["job"]), request)


router.add_route(DEDICATED + "{verb:path}", gateway, methods=["GET", "POST"])
