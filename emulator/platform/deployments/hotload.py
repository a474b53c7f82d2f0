"""Hot-loading snapshots onto the replicas of a deployment (WIRE 3.3; FAILURES E)."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from emulator.backend import BackendError
from emulator.core.clock import SECOND
from emulator.core.errors import Damaged, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from emulator.platform.deployments import buckets
from emulator.platform.deployments.deployments import FAILED, Deployments
from emulator.platform.deployments.plans import Incremental, Refused, plan as plan_of
from emulator.platform.deployments.prompt_caches import PromptCaches
from emulator.platform.deployments.replicas import Load, Replicas
from emulator.platform.deployments.snapshot_checks import SnapshotChecks
from emulator.platform.models.models import Models
from emulator.quirks import deployments
from emulator.state import references
from emulator.state.entities import Checkpoint, Deployment, Pod, SnapshotLoad
from emulator.state.world import World


class HotLoad:
    """Loads and their status. A load is done when `start` returns, unless a switch makes it slow."""

    def __init__(self, world: World, deployments: Deployments, replicas: Replicas, models: Models) -> None:
        self._world = world
        self._deployments = deployments
        self._replicas = replicas
        self._models = models
        self.prompts = PromptCaches(world)
        self._checks = SnapshotChecks(world, replicas)
        self._on_unload: list[Callable[[Sequence[str]], None]] = []
        self._busy: dict[str, int] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._lock = threading.Lock()

    def on_unload(self, listener: Callable[[Sequence[str]], None]) -> None:
        """Call `listener` with the blobs that a replica is no longer made of."""
        self._on_unload.append(listener)

    def start(
        self,
        account: str,
        deployment_id: str,
        base_model: str,
        identity: str,
        incremental: Incremental | None,
        reset: str = "all",
        *,
        ignore: Sequence[str] = (),
    ) -> Deployment:
        """Ask every replica to load a snapshot; what is wrong with the snapshot itself shows in the status.

        `reset` says which computed prompts it makes void, `ignore` which fields the configuration may have, or lack,
        beside the base model's. Raises NotFound, InvalidArgument, FailedPrecondition for what is wrong with the
        request, Unavailable while replicas restart.
        """
        found = self._enabled(account, deployment_id, base_model)
        if self._world.quirks.value(deployments.HOTLOAD_UNKNOWN_IDENTITY, found.subject) == "404":
            self._row(found, identity)
        with self._lock_of(found):
            self._settle(found)
            if not found.pods:
                raise FailedPrecondition(f"{found.name} has no replicas to load onto: scale it up first")
            self._refuse_restarting(found)
            restart_s = self._world.quirks.spend(deployments.HOTLOAD_REPLICA_RESTARTS_S, found.subject)
            if restart_s > 0:
                self._restart(found, restart_s)
                return found
            self.prompts.reset(found, reset)
            if not self.manager_ready(found):  # too early kills the replica (FAILURES E8)
                self._crash_early(found, identity)
                return found
            quirks, subject = self._world.quirks, found.subject._replace(checkpoint=identity)
            self._checks.at_the_signal(found, identity, incremental.previous if incremental else None, ignore)
            wait_s = quirks.spend(deployments.HOTLOAD_DURATION_S, subject)
            reads = quirks.spend(deployments.HOTLOAD_DURATION_READS, subject)
            lag_s = quirks.value(deployments.HOTLOAD_LAG_S, subject)
            with self._world.change():
                self._world.deployments.put(found)
                for index, pod in enumerate(found.pods):
                    due = self._world.clock.ticks() + int((wait_s + (lag_s if index else 0.0)) * SECOND)
                    plan = (
                        None if incremental is None else [incremental.previous, incremental.form, incremental.checksum]
                    )
                    pod.coming = {"identity": identity, "incremental": plan, "due": due, "reads": reads}
                    pod.coming |= {"ignore": list(ignore)}
                    pod.stage, pod.target, pod.message = "loading", identity, ""
            self._settle(found)
        return found

    def status(self, account: str, deployment_id: str, base_model: str) -> Deployment:
        """The deployment with its replicas as they are now, counting one look; raises as `start`."""
        found = self._enabled(account, deployment_id, base_model)
        self._refuse_restarting(found)
        if not any(pod.coming for pod in found.pods):
            return found
        self._settle_unless_busy(found, look=True)
        return found

    def settle(self, deployment: Deployment) -> None:
        """Carry out the loads whose time has come."""
        if any(pod.coming and pod.coming["reads"] <= 0 for pod in deployment.pods):
            self._settle_unless_busy(deployment)

    def loading(self, deployment: Deployment) -> bool:
        """Say whether a replica is on its way to another snapshot."""
        return self._busy.get(deployment.name, 0) > 0 or any(pod.coming for pod in deployment.pods)

    def manager_ready(self, deployment: Deployment) -> bool:
        """Say whether the replicas answer hot-load calls yet (FAILURES E8)."""
        return self._world.clock.reached(self._manager_ready(deployment))

    def stands(self, deployment: Deployment, pod: Pod) -> bool:
        """Say whether a replica still is one of a deployment that is there."""
        return self._world.deployments.get(deployment.name) is deployment and any(one is pod for one in deployment.pods)

    def forget(self, deployment: Deployment) -> None:
        """Let every replica serve the base model again, and empty the ledger (FAILURES E30)."""
        freed: list[str] = []
        with self._lock_of(deployment), self._world.change():
            for load in self._world.loads.of(deployment.name):
                freed += [load.blob] if load.blob else []
                self._world.loads.remove(load.name)
            for pod in deployment.pods:
                self._replicas.close(pod.identity)
                pod.current, pod.adapter, pod.coming = None, False, None
                pod.stage, pod.target, pod.message = "done", None, ""
            self._world.deployments.put(deployment)
        for listener in self._on_unload:
            listener(freed)

    def _enabled(self, account: str, deployment_id: str, base_model: str) -> Deployment:
        found = self._deployments.get(account, deployment_id, look=False)
        if not found.enable_hot_load:
            raise FailedPrecondition(f"{found.name} was created without enableHotLoad")
        if base_model != found.base_model:
            raise InvalidArgument(
                f"fireworks-model is {base_model[:200]!r}, {found.name} serves {found.base_model}: "
                "send the deployment's baseModel"
            )
        return found

    def _settle_unless_busy(self, deployment: Deployment, *, look: bool = False) -> None:
        """Carry out what is due, but do not wait for a load that somebody else carries out: whoever only looks sees it.

        A SYNC load takes as long as what is in flight (FAILURES E24).
        """
        lock = self._lock_of(deployment)
        if lock.acquire(blocking=False):
            try:
                self._settle(deployment, look=look)
            finally:
                lock.release()

    def _settle(self, deployment: Deployment, *, look: bool = False) -> None:
        for pod in deployment.pods:
            coming = pod.coming
            if coming is None or not self.stands(deployment, pod):
                continue
            if look and coming["reads"] > 0:
                coming["reads"] -= 1
                continue
            if coming["reads"] > 0 or not self._world.clock.reached(coming["due"]):
                continue
            self._busy[deployment.name] = self._busy.get(deployment.name, 0) + 1
            try:
                self._carry_out(deployment, pod, coming)
            finally:
                self._busy[deployment.name] -= 1

    def _carry_out(self, deployment: Deployment, pod: Pod, coming: Mapping[str, Any]) -> None:
        identity = str(coming["identity"])
        plan = coming["incremental"]
        incremental = None if plan is None else Incremental(*plan)
        error = ""
        load: Load | None = None
        row: Checkpoint | None = None
        try:
            row = self._row(deployment, identity)
            load = plan_of(self._world, self._models, deployment, pod, row, incremental)
            before = incremental.previous if incremental else None
            if fault := self._checks.fault(deployment, row, before, coming.get("ignore", ())):
                raise Refused(fault)
            if self._stale(deployment, pod, identity):
                load = None
            else:
                self._apply(deployment, pod, load)
        except (Refused, BackendError, NotFound, Damaged) as refusal:
            error = str(refusal) or "the load failed"
            crash = isinstance(refusal, Refused) and refusal.crash
            if crash:
                self._replicas.close(pod.identity)
        freed: list[str] = []
        with self._as_stored(pod), self._world.change(synced=False):
            if not self.stands(deployment, pod):  # deleted or scaled down meanwhile, and nothing may bring it back
                self._replicas.close(pod.identity)
                return
            self._world.deployments.put(deployment)
            pod.coming = None
            pod.stage, pod.target, pod.message = ("error" if error else "done"), identity, error
            if error and crash:
                freed = self._release(deployment, pod, "")
                fresh = self._deployments.new_pod(deployment)
                pod.identity, pod.started, pod.current, pod.adapter = fresh.identity, fresh.started, None, False
            elif load is not None and not error:
                freed = self._release(deployment, pod, load.how)
                pod.current, pod.adapter = identity, load.how == "adapter"
            self._note(deployment, pod, identity, row, incremental, load, error)
        for listener in self._on_unload:
            listener(freed)

    @contextmanager
    def _as_stored(self, pod: Pod) -> Iterator[None]:
        """A replica whose load could not be noted is made anew of what is noted, when somebody next asks for it."""
        try:
            yield
        except BaseException:
            self._replicas.close(pod.identity)
            raise

    def _apply(self, deployment: Deployment, pod: Pod, load: Load) -> None:
        """Let a replica take a snapshot in; raises NotFound, Damaged, BackendError."""
        replica = self._replicas.of_pod(deployment, pod)
        quirks = self._world.quirks
        self._replicas.apply(
            replica,
            load,
            "SYNC" if deployment.hot_load_transition_type == "SYNC" else "ASYNC",
            in_place=quirks.value(deployments.HOTLOAD_DELTA_APPLY, deployment.subject) == "inplace",
            drop=quirks.value(deployments.HOTLOAD_ADAPTER_KEYS, deployment.subject) == "drop",
        )

    def _stale(self, deployment: Deployment, pod: Pod, identity: str) -> bool:
        """Say whether a replica takes a snapshot for the one that it serves, by its name alone (FAILURES E37)."""
        cached = self._world.quirks.value(deployments.HOTLOAD_STALE_CACHE, deployment.subject)
        return cached and pod.current == identity

    def _restart(self, deployment: Deployment, seconds: float) -> None:
        """Start all replicas anew, which takes time; nothing that they had loaded is left (FAILURES E35)."""
        up = self._world.clock.ticks() + int(seconds * SECOND)
        freed: list[str] = []
        for pod in deployment.pods:
            self._replicas.close(pod.identity)
        with self._world.change():
            self._world.deployments.put(deployment)
            for pod in deployment.pods:
                freed += self._release(deployment, pod, "")
            deployment.pods = [self._deployments.new_pod(deployment) for _ in deployment.pods]
            for pod in deployment.pods:
                pod.started = up
        for listener in self._on_unload:
            listener(freed)

    def _refuse_restarting(self, deployment: Deployment) -> None:
        """Raises Unavailable while no replica answers, since all of them start anew."""
        if deployment.pods and not any([self._world.clock.reached(pod.started) for pod in deployment.pods]):
            raise Unavailable(f"{deployment.name}: its replicas restart, No space left on device")

    def _release(self, deployment: Deployment, pod: Pod, how: str) -> list[str]:
        """Let go of what a replica is made of: an adapter or delta takes an adapter's place, the rest everything's."""
        kept = () if how in ("", "base") else ("base", "delta")
        return references.release(
            self._world, [load for load in references.loads_of(self._world, deployment, pod) if load.how not in kept]
        )

    def _note(
        self,
        deployment: Deployment,
        pod: Pod,
        identity: str,
        row: Checkpoint | None,
        incremental: Incremental | None,
        load: Load | None,
        error: str,
    ) -> None:
        taken = load if not error else None
        self._world.loads.put(
            SnapshotLoad(
                account=deployment.account,
                deployment=deployment.id,
                number=self._world.loads.count(deployment.name),
                created=self._world.clock.now(),
                replica=pod.identity,
                identity=identity,
                checkpoint=row.name if row else "",
                kind=row.kind.value if row else "",
                previous=incremental.previous if incremental else None,
                error=error,
                how=taken.how if taken else "",
                blob=taken.blob if taken else "",
                form=taken.form if taken else "",
            )
        )

    def _row(self, deployment: Deployment, identity: str) -> Checkpoint:
        row = buckets.find(self._world, deployment, identity)
        if row is None:
            raise NotFound(buckets.missing(self._world, deployment, identity))
        return row

    def _manager_ready(self, deployment: Deployment) -> int:
        wait = self._world.quirks.value(deployments.HOTLOAD_MANAGER_READY_AFTER_S, deployment.subject)
        started = max((pod.started for pod in deployment.pods), default=0)
        return started + int(wait * SECOND)

    def _crash_early(self, deployment: Deployment, identity: str) -> None:
        with self._world.change():
            self._world.deployments.put(deployment)
            deployment.state = FAILED
            for pod in deployment.pods:
                pod.healthy, pod.stage, pod.target = False, "error", identity
                pod.message = "the replica crashed: a snapshot was sent before its hot-load manager was up"

    def _lock_of(self, deployment: Deployment) -> threading.RLock:
        with self._lock:
            return self._locks.setdefault(deployment.name, threading.RLock())
