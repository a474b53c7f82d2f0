"""Deployments and their states (WIRE 1.12, 4.2; FAILURES E14 to E22)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from emulator.core.clock import SECOND
from emulator.core.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    error_info,
)
from emulator.core.lifecycle import Lifecycle, Pending, Progression
from emulator.core.names import Subject, check_dns_label, resource
from emulator.core.settings import settings, values
from emulator.platform.deployments import buckets, spec as deployment_spec
from emulator.platform.deployments.spec import DeploymentSpec
from emulator.platform.models.catalogue import Catalogue
from emulator.platform.models.models import Models
from emulator.platform.queries.paging import Page, Query
from emulator.quirks import deployments
from emulator.state import references
from emulator.state.entities import Deployment, Pod
from emulator.state.settings import DeploymentSettings
from emulator.state.world import World

HOSTED = "FW_HOSTED"
CREATING, READY, FAILED, DELETED = "CREATING", "READY", "FAILED", "DELETED"
TRAFFIC_S = 3600
"""For so long after a request a deployment counts as in use."""
MUTABLE = {name: one for name, one in settings(DeploymentSettings).items() if one.changeable}
"""Fields that PATCH may change; each knows what it is when it was never given."""

Listener = Callable[[Pod, Sequence[str]], None]
"""Told of a replica that has ended, and of the blobs that it no longer needs."""


class Deployments:
    """The deployments of all accounts. Nothing runs in the background: a deployment moves on when somebody looks."""

    def __init__(self, world: World, catalogue: Catalogue, models: Models) -> None:
        self._world = world
        self._catalogue = catalogue
        self._models = models
        self._lifecycle = Lifecycle(world, self._enter, lambda: self._change(synced=False))
        self._on_pod_gone: list[Listener] = []
        self._gone: list[tuple[Pod, list[str]]] = []
        self._on_end: list[Callable[[Deployment], None]] = []
        self._used: dict[str, int] = {}
        self._began = world.clock.now()
        self.loading: Callable[[Deployment], bool] = lambda deployment: False

    def on_pod_gone(self, listener: Listener) -> None:
        """Call `listener` for every replica that stops."""
        self._on_pod_gone.append(listener)

    def on_end(self, listener: Callable[[Deployment], None]) -> None:
        """Call `listener` for every deployment that is deleted, inside the change."""
        self._on_end.append(listener)

    def create(self, account: str, spec: DeploymentSpec, deployment_id: str = "") -> Deployment:
        """Check the request and start it; raises InvalidArgument, NotFound, AlreadyExists."""
        world = self._world
        deployment_id = deployment_id or f"deployment-{world.ids.base36(8)}"
        check_dns_label(deployment_id, "deploymentId")
        shape = deployment_spec.check(spec, self._models, self._catalogue, world.quirks, account)
        with self._change():
            if (known := world.deployments.get(resource(account, "deployments", deployment_id))) is not None:
                raise AlreadyExists(f"{known.name} already exists ({known.state}): get it, or choose another id")
            self._check_quota(account, spec.max_replica_count)
            now = world.clock.now()
            made = Deployment(
                account=account,
                id=deployment_id,
                created=now,
                updated=now,
                request=dict(spec.request),
                replicas=_wanted(spec.min_replica_count, spec.max_replica_count),
                **values(DeploymentSettings, spec)
                | {
                    "deployment_shape": shape,
                    "hot_load_bucket_type": spec.hot_load_bucket_type or (HOSTED if spec.enable_hot_load else ""),
                    "hot_load_bucket_url": "",
                    "hot_load_transition_type": deployment_spec.transition(spec.hot_load_transition_type),
                },
            )
            if spec.enable_hot_load:
                made.hot_load_bucket_url = buckets.attach(world, made, spec.hot_load_bucket_url)
            self._start(made)
            return world.deployments.put(made)

    def get(self, account: str, deployment_id: str, *, look: bool = False) -> Deployment:
        """The deployment, also a deleted one; `look` counts as a client's read. Raises NotFound."""
        found = self._world.deployments.get(resource(account, "deployments", deployment_id))
        if found is None:
            raise NotFound(f"deployment {deployment_id[:128]!r} not found in account {account}")
        self._lifecycle.settle(found, look=look)
        self._rest(found)
        return found

    def list(self, account: str, query: Query[Deployment] = Query(), *, deleted: bool = False) -> Page[Deployment]:
        """Deployments oldest first; deleted ones only when asked for."""
        rows = self._world.deployments.of(account)
        for row in rows:
            self._lifecycle.settle(row)
            self._rest(row)
        return query.page([row for row in rows if deleted or row.state != DELETED], lambda row: row.created)

    def patch(
        self, account: str, deployment_id: str, sent: Mapping[str, Any], mask: Sequence[str] | None
    ) -> Deployment:
        """Change the fields of `mask` (snake_case) to what `sent` says, to their defaults where it says nothing.

        Without a mask the fields that were sent change, or all of them (FAILURES E19). Raises InvalidArgument,
        NotFound, FailedPrecondition.
        """
        found = self._alive(account, deployment_id)
        if mask is None:
            everything = self._world.quirks.value(deployments.PATCH_WITHOUT_MASK, found.subject)
            mask = list(MUTABLE) if everything == "replace_all" else [name for name in MUTABLE if name in sent]
        if unknown := [name for name in mask if name not in MUTABLE]:
            raise InvalidArgument(f"updateMask: {unknown[0][:80]!r} cannot be changed; {', '.join(MUTABLE)} can")
        rejecting = self._world.quirks.value(deployments.PATCH_DURING_LOAD, found.subject) == "reject"
        if rejecting and self.loading(found):  # a patch would roll what is loading (FAILURES E18)
            raise FailedPrecondition(f"{found.name} is loading a snapshot: patch it when that is done")
        with self._change():
            self._world.deployments.put(found)  # first, so that a refusal undoes everything
            self._apply(found, {name: sent[name] if name in sent else MUTABLE[name].default for name in mask})
        return found

    def scale(self, account: str, deployment_id: str, replicas: int) -> Deployment:
        """Run so many replicas now; raises InvalidArgument, NotFound."""
        found = self._alive(account, deployment_id)
        if not 0 <= replicas <= max(found.max_replica_count, 1):
            raise InvalidArgument(f"replicaCount is {replicas}: use 0 to maxReplicaCount, {found.max_replica_count}")
        with self._change():
            self._resize(found, replicas)
            return self._world.deployments.put(found)

    def delete(self, account: str, deployment_id: str, *, hard: bool = False, checked: bool = True) -> None:
        """Stop the replicas; `hard` forgets the deployment, otherwise it can be undeleted.

        Raises NotFound, FailedPrecondition for one that is in use, unless it is not `checked` (FAILURES E38).
        """
        found = self.get(account, deployment_id)
        if checked and self._world.quirks.value(deployments.DELETE_CHECK, found.subject) == "recent_traffic":
            self._refuse_busy(found)
        with self._change():
            self._resize(found, 0)
            for listener in self._on_end:
                listener(found)
            if hard:
                self._world.deployments.remove(found.name)
                for load in self._world.loads.of(found.name):
                    self._world.loads.remove(load.name)
                return
            now = self._world.clock.now()
            found.state, found.pending, found.updated, found.deleted = DELETED, None, now, found.deleted or now
            self._world.deployments.put(found)

    def undelete(self, account: str, deployment_id: str) -> Deployment:
        """Bring a deleted deployment back, without what it had loaded; raises FailedPrecondition, NotFound."""
        found = self.get(account, deployment_id)
        if found.state != DELETED:
            raise FailedPrecondition(f"{found.name} is {found.state}, only a deleted deployment can be undeleted")
        with self._change():
            found.deleted, found.replicas = None, _wanted(found.min_replica_count, found.max_replica_count)
            self._start(found)
            return self._world.deployments.put(found)

    def used(self, deployment: Deployment) -> None:
        """Note that a deployment was asked for something."""
        self._used[deployment.name] = self._world.clock.now()

    def wake(self, deployment: Deployment) -> None:
        """Start a replica of a deployment that went to zero replicas by itself."""
        asleep = deployment.state == READY and not deployment.replicas and deployment.max_replica_count > 0
        if asleep and deployment_spec.idle_window_s(deployment.autoscaling_policy):
            self.used(deployment)
            with self._change(synced=False):
                self._resize(deployment, 1)
                self._world.deployments.put(deployment)

    def _rest(self, deployment: Deployment) -> None:
        """Stop the replicas of one that nobody asks, where its autoscalingPolicy says so."""
        if not deployment.autoscaling_policy or deployment.min_replica_count or not deployment.replicas:
            return
        window = deployment_spec.idle_window_s(deployment.autoscaling_policy)
        since = max(self._used.get(deployment.name, 0), deployment.updated, self._began)
        if window and deployment.state == READY and self._world.clock.since(since) > window * SECOND:
            with self._change(synced=False):
                self._resize(deployment, 0)
                self._world.deployments.put(deployment)

    def _refuse_busy(self, deployment: Deployment) -> None:
        used = self._used.get(deployment.name)
        if used is not None and self._world.clock.since(used) < TRAFFIC_S * SECOND:
            raise FailedPrecondition(
                f"{deployment.name} received traffic within the last hour: delete it with ignoreChecks=true "
                "(in the command-line client, pass --ignore-checks to skip)"
            )

    def replicas_taken(self, account: str) -> int:
        """Count the replicas that the account's deployments may grow to."""
        return sum(one.max_replica_count for one in self._world.deployments.of(account) if one.deleted is None)

    def _check_quota(self, account: str, replicas: int) -> None:
        """Refuse replicas beyond the quota, which counts maxima, also of deployments without any (FAILURES E38)."""
        most = self._world.quirks.value(deployments.QUOTA, Subject(account=account))
        taken = self.replicas_taken(account)
        if most and taken + replicas > most:
            raise PermissionDenied(
                f"account {account} may have {most} replicas, its deployments may grow to {taken}: delete one, "
                "or lower its maxReplicaCount",
                details=[
                    error_info(
                        "QUOTA_EXCEEDED", quota_required=str(replicas), quota_available=str(max(0, most - taken))
                    )
                ],
            )

    def _alive(self, account: str, deployment_id: str) -> Deployment:
        found = self.get(account, deployment_id)
        if found.state in (DELETED, FAILED):
            raise FailedPrecondition(f"{found.name} is {found.state}")
        return found

    def _start(self, deployment: Deployment) -> None:
        """CREATING and then READY with replicas; at once by default."""
        quirks, subject = self._world.quirks, deployment.subject
        wait = Progression(quirks.value(deployments.CREATE_READS, subject), quirks.value(deployments.CREATE_S, subject))
        deployment.state, deployment.pending = CREATING, None
        if quirks.value(deployments.STUCK_CREATING, subject):  # FAILURES E21: it serves and never says so
            self._resize(deployment, deployment.replicas)
            return
        into = quirks.spend(deployments.SETTLES_IN, subject)
        deployment.pending = Pending.start(into, wait, self._world.clock)
        if wait.immediate:
            self._enter(deployment, into)

    def _enter(self, deployment: Deployment, state: str) -> None:
        rolled = deployment.state != CREATING
        deployment.state, deployment.pending, deployment.updated = state, None, self._world.clock.now()
        if state == READY:
            self._roll(deployment) if rolled else self._resize(deployment, deployment.replicas)
        self._world.deployments.put(deployment)

    def _apply(self, deployment: Deployment, changes: Mapping[str, Any]) -> None:
        counts = (deployment.min_replica_count, deployment.max_replica_count)
        attached = (deployment.hot_load_trainer_job, deployment.hot_load_transition_type or "ASYNC")
        bucket = deployment.hot_load_bucket_url
        deployment_spec.check_tags(changes.get("annotations", {}), self._world.quirks, deployment.account)
        for name, value in changes.items():
            setattr(deployment, name, value)
        asked = changes.get("hot_load_bucket_url", "")
        deployment.hot_load_bucket_url = bucket
        low, high = deployment.min_replica_count, deployment.max_replica_count
        deployment_spec.check_counts(low, high)
        deployment_spec.check_addons(self._world, deployment)
        deployment_spec.idle_window_s(deployment.autoscaling_policy)
        deployment_spec.check_bucket(deployment.enable_hot_load, changes.get("hot_load_trainer_job", ""), asked)
        deployment.hot_load_transition_type = deployment_spec.transition(deployment.hot_load_transition_type)
        if deployment.enable_hot_load:
            deployment.hot_load_bucket_type = deployment.hot_load_bucket_type or HOSTED
            moved = deployment.hot_load_trainer_job != attached[0]
            if moved or asked or not bucket:
                deployment.hot_load_bucket_url = "" if moved else bucket
                deployment.hot_load_bucket_url = buckets.attach(self._world, deployment, asked)
        deployment.updated = self._world.clock.now()
        if (low, high) != counts:
            self._resize(deployment, min(max(deployment.replicas, _wanted(low, high)), high))
        if (deployment.hot_load_trainer_job, deployment.hot_load_transition_type or "ASYNC") != attached:
            self._begin_roll(deployment)  # equal values do not roll (FAILURES E16)

    def _begin_roll(self, deployment: Deployment) -> None:
        """Replace the replicas by fresh ones; until then the old ones answer (FAILURES E17)."""
        wait = Progression(after_s=self._world.quirks.value(deployments.ROLL_S, deployment.subject))
        pending = wait.to(READY, self._world.clock)
        if pending is None:
            self._roll(deployment)
        else:
            shown = self._world.quirks.value(deployments.STATE_DURING_ROLL, deployment.subject)
            deployment.state, deployment.pending = shown, pending

    def _roll(self, deployment: Deployment) -> None:
        old, count = deployment.pods, deployment.replicas
        self._resize(deployment, 0)
        deployment.generation += 1
        self._resize(deployment, count)
        reads = self._world.quirks.value(deployments.HOTLOAD_STALE_ERROR_READS, deployment.subject)
        for new, gone in zip(deployment.pods, old, strict=False):
            if reads:  # a fresh replica first shows an error about what its predecessor held (FAILURES E3)
                new.stale_target, new.stale_reads = gone.current or gone.target or "unknown", reads

    def _resize(self, deployment: Deployment, replicas: int) -> None:
        for pod in deployment.pods[replicas:]:
            self._gone.append((pod, references.release(self._world, references.loads_of(self._world, deployment, pod))))
        deployment.replicas = replicas
        deployment.pods = deployment.pods[:replicas]
        while len(deployment.pods) < replicas:
            deployment.pods.append(self.new_pod(deployment))

    @contextmanager
    def _change(self, *, synced: bool = True) -> Iterator[None]:
        """A change of the world; replicas that it ended are closed after it, without its lock."""
        gone: list[tuple[Pod, list[str]]] = []
        try:
            with self._world.change(synced=synced):
                yield
                gone = self._gone
        finally:
            self._gone = []
        for pod, keys in gone:
            for listener in self._on_pod_gone:
                listener(pod, keys)

    def new_pod(self, deployment: Deployment) -> Pod:
        """A replica that serves the base model."""
        suffix = self._world.ids.base36(5)
        return Pod(f"{deployment.id}-{deployment.generation}-{suffix}", self._world.clock.ticks())


def _wanted(low: int, high: int) -> int:
    return max(1, low) if high > 0 else 0
