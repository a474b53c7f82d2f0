"""Sampling without a deployment: a session's base model, what its runs saved, and the standalone form (WIRE 2.12).

accounts/<a>/trainingSessions/<ts>                        the base model that the session is bound to
accounts/<a>/trainingSessions/<ts>/checkpoints/<path>     a sampler save, by the path that the save answered
accounts/<a>/trainingSamplers/<base model>                either without a session, once create_sampling_route
accounts/<a>/trainingSamplers/checkpoints/<path>          has named the base model or the run
"""

import re

from emulator.core.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from emulator.core.kinds import CheckpointKind
from emulator.core.names import CheckpointScope, parse_reference, split_resource
from emulator.platform.checkpoints.checkpoints import Checkpoints
from emulator.platform.deployments.replicas import Lease, Load, Replicas
from emulator.platform.models.models import Models
from emulator.platform.trainers.external import EXTERNAL
from emulator.platform.trainers.training_sessions import TrainingSessions
from emulator.state.entities import Checkpoint, SamplingRoute
from emulator.state.world import World

_NAME = re.compile(r"accounts/([^/]+)/(?:trainingSessions/([^/]+)|trainingSamplers)(?:/checkpoints/(.+)|/(.+))?")
_HOW = {CheckpointKind.INFERENCE_LORA: "adapter", CheckpointKind.INFERENCE_BASE: "base"}


def is_sampler(model: str) -> bool:
    """Say whether a model name is one of the forms above, judged by its collection."""
    return model.split("/")[2:3] in (["trainingSessions"], ["trainingSamplers"])


class Samplers:
    """Finds the weights that a sampler name means, and a replica that holds them."""

    def __init__(
        self, world: World, sessions: TrainingSessions, checkpoints: Checkpoints, replicas: Replicas, models: Models
    ) -> None:
        self._world = world
        self._sessions = sessions
        self._checkpoints = checkpoints
        self._replicas = replicas
        self._models = models

    def route(self, account: str, target: str) -> SamplingRoute:
        """Open a run or a base model to sampling without a session; raises InvalidArgument, NotFound."""
        if target.split("/")[2:3] == ["trainingRuns"]:
            owner, run_id = split_resource(target, "trainingRuns")
            self._refuse_foreign(account, owner, target)
            self._sessions.run(account, run_id)
        else:
            self._models.base(self._models.visible(account, target).name)
        with self._world.change():
            return self._world.routes.put(SamplingRoute(account, target, self._world.clock.now()))

    def replica(self, account: str, name: str) -> Lease:
        """The replica behind a sampler name.

        Raises InvalidArgument, PermissionDenied, FailedPrecondition, NotFound, BackendError.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise InvalidArgument(
                f"invalid sampler {name[:200]!r}: give accounts/<account>/trainingSessions/<id>, or that with "
                "/checkpoints/<the path that a sampler save answered>"
            )
        owner, session_id, path, base = match.groups()
        self._refuse_foreign(account, owner, name)
        if session_id is not None:
            if base is not None:
                raise InvalidArgument(f"invalid sampler {name[:200]!r}: a session serves its checkpoints, and its base")
            bound = self._sessions.running(account, session_id)
            if path is None and not bound.base_model:
                raise FailedPrecondition(f"{bound.name} has no base model yet: create a training client on it first")
            return self._replicas.of_model(bound.base_model) if path is None else self._saved(account, path)
        if path is None:
            self._refuse_closed(account, base or "")
            return self._replicas.of_model(base or "")
        run = parse_reference(path).run
        self._refuse_closed(account, f"accounts/{run[0]}/trainingRuns/{run[1]}" if run else path)
        return self._saved(account, path)

    def _saved(self, account: str, path: str) -> Lease:
        row = self._row(account, path)
        if row.saved_as == EXTERNAL:
            raise FailedPrecondition(
                f"checkpoint {path[:200]!r} is there to be taken away: sample what save_weights_for_sampler saved"
            )
        how = _HOW.get(row.kind)
        if how is None:
            raise FailedPrecondition(
                f"checkpoint {path[:200]!r} holds a training state and cannot be sampled: "
                "use what save_weights_for_sampler saved"
            )
        return self._replicas.of_model(row.base_model, Load(how, row.blob, row.name))

    def _row(self, account: str, path: str) -> Checkpoint:
        """The row of a save of any run of the account; raises InvalidArgument, NotFound."""
        asking = CheckpointScope(f"accounts/{account}/trainingSessions/-")
        reference = parse_reference(path)
        return self._checkpoints.saved(self._sessions.source(asking, reference), reference.checkpoint)

    def _refuse_closed(self, account: str, target: str) -> None:
        if f"accounts/{account}/trainingSamplers/{target}" not in self._world.routes:
            raise FailedPrecondition(f"{target[:200]} cannot be sampled yet: call create_sampling_route for it first")

    def _refuse_foreign(self, account: str, owner: str, name: str) -> None:
        if owner != account:
            raise PermissionDenied(f"{name[:200]} belongs to another account")
