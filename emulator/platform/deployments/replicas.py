"""The replicas that really hold weights: opened when first needed, brought to where their pod is, closed with it."""

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.backend import Backend, BackendError, BaseModel, Replica, Transition
from emulator.core.errors import Damaged, NotFound
from emulator.platform.checkpoints import exports
from emulator.platform.models.models import ADDON, Models
from emulator.quirks import deployments
from emulator.state import references
from emulator.state.blobs import Blobs
from emulator.state.entities import Deployment, Pod
from emulator.state.world import World

SHARED_KEPT = 4
"""Replicas of models that are served without a deployment, kept open."""


@dataclass(frozen=True)
class Load:
    """A blob to apply: `how` is base, delta or adapter; `form` is the compression of a delta."""

    how: str
    blob: str
    identity: str
    form: str = "arc_v2"


@dataclass(frozen=True)
class Served:
    """Says what a model name stands for: full weights, an adapter on top of them or not, the context in tokens."""

    base: BaseModel
    adapter: Path | None
    context: int


@dataclass(frozen=True)
class Lease:
    """A replica that stays open until `release` is called, once."""

    replica: Replica
    release: Callable[[], None]


class Replicas:
    """Open replicas by pod identity or model name. Opening takes a lock per key, so that nobody else waits."""

    def __init__(self, world: World, blobs: Blobs, models: Models, backend: Backend) -> None:
        self._world = world
        self._blobs = blobs
        self._models = models
        self._backend = backend
        self._open: dict[str, Replica] = {}
        self._shared: OrderedDict[str, int] = OrderedDict()
        """Leases of replicas that are served without a deployment; the one asked for last comes last."""
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def of_pod(self, deployment: Deployment, pod: Pod) -> Replica:
        """The replica of a pod, with everything the pod has loaded; raises NotFound, BackendError."""
        with self._locked(pod.identity):
            if (opened := self._open.get(pod.identity)) is not None:
                return opened
            loads = [
                Load(one.how, one.blob, one.identity, one.form)
                for one in references.loads_of(self._world, deployment, pod)
            ]
            drop = self._world.quirks.value(deployments.HOTLOAD_ADAPTER_KEYS, deployment.subject) == "drop"
            replica = self._open[pod.identity] = self._loaded(deployment.base_model, loads, drop=drop)
            return replica

    def of_model(self, name: str, *loads: Load) -> Lease:
        """A replica that is served without a deployment: of a model, with snapshots applied on top.

        Raises NotFound, BackendError.
        """
        # The files are part of the key: another model may be promoted under a name that was given free.
        beneath = self._models.get(self._models.beneath(name))
        key = "/".join((name, self._models.get(name).blob, beneath.blob, *(load.blob for load in loads)))
        with self._locked(key):
            if key not in self._open:
                self._open[key] = self._loaded(name, loads)
            with self._lock:
                self._shared[key] = self._shared.get(key, 0) + 1
                self._shared.move_to_end(key)
            lease = Lease(self._open[key], lambda: self._release(key))
        self._close_idle()
        return lease

    def _release(self, key: str) -> None:
        with self._lock:
            if key in self._shared:
                self._shared[key] -= 1
        self._close_idle()

    def _close_idle(self) -> None:
        """Close what was asked for longest ago and serves nobody, down to SHARED_KEPT."""
        with self._lock:
            surplus = len(self._shared) - SHARED_KEPT
            idle = [key for key, leases in self._shared.items() if not leases][: max(0, surplus)]
        for key in idle:
            with self._locked(key):
                with self._lock:
                    if self._shared.get(key, 1):  # leased again, or closed by somebody else
                        continue
                    del self._shared[key]
                self._open.pop(key).close()

    def apply(
        self, replica: Replica, load: Load, transition: Transition, *, in_place: bool = False, drop: bool = False
    ) -> None:
        """Apply a blob to an open replica; raises NotFound, Damaged, BackendError when it does not apply.

        With `drop` tensors of an adapter that have no place are left out, in silence (FAILURES D20).
        """
        folder = self.checked(load.blob, load.identity)
        match load.how:
            case "base":
                replica.load_base(folder, load.identity, transition)
            case "adapter" if drop:
                with tempfile.TemporaryDirectory(prefix="adapter-") as kept:
                    if exports.without_strangers(folder, Path(kept)):
                        replica.load_adapter(Path(kept), load.identity, transition)
            case "adapter":
                replica.load_adapter(folder, load.identity, transition)
            case _:
                replica.apply_delta(folder, load.identity, transition, compression_format=load.form, in_place=in_place)

    def there(self, blob: str) -> bool:
        """Say whether the files of a snapshot are still there."""
        return self._blobs.exists(blob)

    def checked(self, blob: str, identity: str) -> Path:
        """The files of a snapshot, which are those that were saved; raises NotFound, Damaged."""
        gone = f'checkpoint "{identity}" not found in GCS'
        return references.checked(self._world, self._blobs, blob, f"checkpoint {identity!r}", gone)

    def folder(self, blob: str) -> Path:
        """The files of a snapshot."""
        return self._blobs.fetch(blob)

    def base_folder(self, name: str) -> Path:
        """The files of the base model that a deployment serves; raises NotFound, BackendError."""
        return self._backend.folder(self._models.base(self._models.beneath(name)))

    def close(self, key: str) -> None:
        """Close a replica; closing one that is not open is a no-op."""
        with self._locked(key):
            replica = self._open.pop(key, None)
            if replica is not None:
                replica.close()
            with self._lock:
                self._shared.pop(key, None)

    def close_all(self) -> None:
        for key in list(self._open):
            self.close(key)

    def served(self, name: str) -> Served:
        """Find what stands behind a model name; raises NotFound, FailedPrecondition."""
        model = self._models.get(name)
        if model.kind != ADDON:
            return Served(self._models.base(name), None, model.context_length)
        base = self._models.get(model.base_model)
        return Served(self._models.base(model.base_model), self._models.folder(model), base.context_length)

    def _loaded(self, name: str, loads: Sequence[Load], *, drop: bool = False) -> Replica:
        replica = self._start(name)
        try:
            for load in loads:
                self.apply(replica, load, "ASYNC", drop=drop)
        except (BackendError, NotFound, Damaged):
            replica.close()
            raise
        return replica

    def _start(self, name: str) -> Replica:
        served = self.served(name)
        replica = self._backend.open_replica(served.base, max_context_length=served.context)
        if served.adapter is not None:
            replica.load_adapter(served.adapter, name)
        return replica

    def _locked(self, key: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(key, threading.Lock())
