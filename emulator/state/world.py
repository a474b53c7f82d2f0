"""All state of the pretend platform, as tables of entities written through to the store; knows no HTTP."""

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from emulator.core.catalogue import NEWEST, platform_of
from emulator.core.clock import Clock
from emulator.core.errors import FailedPrecondition, StorageFailed
from emulator.core.ids import Ids
from emulator.quirks.engine import Quirks
from emulator.quirks.platforms import VALUES
from emulator.quirks.table import QUIRKS
from emulator.state.curves import Curve
from emulator.state.deployed import DeployedModel
from emulator.state.entities import (
    Checkpoint,
    Deployment,
    Job,
    Model,
    Operation,
    Run,
    SamplingRoute,
    Session,
    SnapshotLoad,
)
from emulator.state.managed import Managed
from emulator.state.migrations import FORMAT, check_format
from emulator.state.store import Key, Store
from emulator.state.table import LazyTable, Table, birth
from emulator.state.usage import Usage


class Change(NamedTuple):
    """The kinds of change to an entity: `created`, `changed` or `deleted` (gone, or a tombstone)."""

    how: str
    kind: str
    name: str


Watcher = Callable[[list[Change], list[dict[str, Any] | None]], None]
"""Told of every stored change, and of each entity's fields after it, None when it is gone."""

_BOOT: Key = ("meta", "boot")
_PLATFORM: Key = ("meta", "platform")


def _how(existed: bool, body: dict[str, Any] | None) -> str:
    if body is None or body.get("deleted") is not None:
        return "deleted"
    return "changed" if existed else "created"


class World:
    """Tables, clock, ids, quirks. Reads need the lock only when they combine several entities."""

    def __init__(self, *, clock: Clock | None = None, store: Store | None = None, seed: int = 0) -> None:
        """Load what `store` holds.

        A store that cannot be written to is read, and says so in `read_only`. Raises StorageFailed for one that cannot
        be read, FailedPrecondition for one of another format.
        """
        self.clock = clock or Clock()
        self.store = store or Store()
        self.lock = threading.RLock()
        self._dirty: dict[Key, bool] = {}
        self._unsure = set[Key]()
        """Entities of a change that failed, which could not be read again either."""
        self.watchers: list[Watcher] = []
        self._depth = 0
        self._synced = False
        self.jobs: Table[Job] = Table(self, "job", Job, "rlorTrainerJobs")
        self.checkpoints: Table[Checkpoint] = LazyTable(self, "checkpoint", Checkpoint)
        self.models: Table[Model] = Table(self, "model", Model)
        self.operations: Table[Operation] = Table(self, "operation", Operation)
        self.deployments: Table[Deployment] = Table(self, "deployment", Deployment, "deployments")
        self.loads: Table[SnapshotLoad] = Table(self, "snapshot_load", SnapshotLoad)
        self.sessions: Table[Session] = Table(self, "session", Session, "trainingSessions")
        self.runs: Table[Run] = Table(self, "run", Run)
        self.routes: Table[SamplingRoute] = Table(self, "sampling_route", SamplingRoute)
        self.curves: Table[Curve] = Table(self, "curve", Curve)
        self.deployed_models: Table[DeployedModel] = Table(self, "deployed_model", DeployedModel)
        self.usage: Table[Usage] = Table(self, "usage", Usage)
        self.managed: Table[Managed] = Table(self, "managed", Managed)
        self.quirks = Quirks(self.clock, QUIRKS, lambda: self.ids.uniform())
        self.platform = NEWEST
        """The date of the platform: what is on, and what is in the catalogue."""
        self._remember(str((self.store.read(*_PLATFORM) or {}).get("date", NEWEST)))
        boot = self._boot()
        self.ids = Ids(seed, boot)
        for table in self._tables.values() if not self.store.shared else ():
            self.clock.start_after(table._load(self.store))

    def adopt(self, account: str) -> None:
        """Read what is stored of an account, which this process has from now on; raises StorageFailed."""
        with self.lock:
            for table in self._tables.values():
                self.clock.start_after(table._adopt(self.store, account))

    @property
    def _tables(self) -> dict[str, Table[Any]]:
        return {table._kind: table for table in vars(self).values() if isinstance(table, Table)}

    def put(self, entity: Any) -> None:
        """Add or change an entity of whatever kind, inside `change()`."""
        next(table for table in self._tables.values() if table._cls is type(entity)).put(entity)

    def apply(self, kind: str, name: str, body: dict[str, Any] | None) -> None:
        """Put an entity given by its fields, or remove it (None); inside `change()`."""
        table = self._tables[kind]
        if body is None:
            table.remove(name)
        else:
            table.put(table._decode(dict(body)))

    def dump(self) -> dict[str, list[dict[str, Any]]]:
        """Every entity's fields by kind, oldest first."""
        with self.lock:
            return {kind: [dataclasses.asdict(entity) for entity in table] for kind, table in self._tables.items()}

    def load(self, entities: Mapping[str, Iterable[Any]], ids: Mapping[str, Any]) -> None:
        """Replace everything, in one transaction; clears quirks. Raises StorageFailed, and then nothing changed."""
        with self.lock:
            self._refuse_shared("restored")
            restored = Ids.at(ids)
            kept = {kind: list(entities.get(kind, ())) for kind in self._tables}
            rows = {(kind, e.name): dataclasses.asdict(e) for kind, found in kept.items() for e in found}
            self.store.replace({**rows, _BOOT: {"count": restored.boot, "format": FORMAT}, **self._dated()})
            self.quirks.clear()
            self._dirty.clear()
            self._unsure.clear()
            self.ids = restored
            for kind, table in self._tables.items():
                table.clear()
                for entity in sorted(kept[kind], key=birth):
                    table._keep(entity)

    def move_to(self, platform: str) -> None:
        """Be the platform of this date from now on, after a restart too; raises ValueError for a date that is none."""
        with self.lock:
            self._remember(platform_of(platform))
            if not self.store.read_only:
                self.store.write({_PLATFORM: {"date": self.platform}})

    def _remember(self, platform: str) -> None:
        self.platform = platform
        self.quirks.stand_on(VALUES[platform])

    @property
    def empty(self) -> bool:
        """True when there is no entity at all."""
        return not any(len(table) for table in self._tables.values())

    def _boot(self) -> int:
        kept = self.store.read(*_BOOT) or {"count": -1, "format": FORMAT}
        check_format(kept)
        boot = int(kept["count"]) + 1
        try:
            # Without waiting for the disk: what is acknowledged later takes this along.
            self.store.write({_BOOT: {"count": boot, "format": FORMAT}}, synced=False)
        except StorageFailed as error:
            if boot == 0:
                raise
            self.store.freeze(f"{error.message}; it is open for reading alone")
        return boot

    @contextmanager
    def change(self, *, synced: bool = True) -> Iterator[None]:
        """Hold the lock; on leaving, store every `put` and `remove` in one transaction, or undo all on an error.

        What a client is told of afterwards is `synced`; what a read would find out again need not wait for the disk.
        """
        with self.lock:
            if self._unsure:
                self.make_sure()
            self._depth += 1
            self._synced |= synced
            try:
                yield
                if self._depth == 1:
                    self._flush()
            except BaseException:
                if self._depth == 1:
                    self._undo()
                raise
            finally:
                self._depth -= 1
                if not self._depth:
                    self._synced = False

    def settling(self) -> AbstractContextManager[None]:
        """A change that time has brought and a read finds: the next read would find it again."""
        return self.change(synced=False)

    def reset(self) -> None:
        """Forget everything but the seed, from which ids begin anew; quirks are cleared too."""
        with self.lock:
            self._refuse_shared("reset")
            self.store.replace({_BOOT: {"count": 0, "format": FORMAT}, **self._dated()})
            self.quirks.clear()
            self._dirty.clear()
            self._unsure.clear()
            for table in self._tables.values():
                table.clear()
            self.ids = Ids(self.ids.seed)

    def _refuse_shared(self, what: str) -> None:
        if self.store.shared:
            raise FailedPrecondition(
                f"a state that several emulators share cannot be {what}: stop all but one, without --share"
            )

    def _dated(self) -> dict[Key, dict[str, Any]]:
        return {_PLATFORM: {"date": self.platform}} if self.platform != NEWEST else {}

    def _flush(self) -> None:
        if not self._dirty:
            return
        tables = self._tables
        encoded = {key: tables[key[0]]._encode(key[1]) for key in self._dirty}
        self.store.write(
            {key: body for key, body in encoded.items() if body is not None},
            [key for key, body in encoded.items() if body is None],
            synced=self._synced,
        )
        changes = [Change(_how(existed, encoded[key]), *key) for key, existed in self._dirty.items()]
        self._dirty.clear()
        for watcher in self.watchers:
            watcher(changes, list(encoded.values()))

    def _undo(self) -> None:
        self._unsure.update(self._dirty)
        self._dirty.clear()
        self.make_sure()

    @property
    def unsure(self) -> bool:
        """True while there is what a failed change has left, and could not be read again."""
        return bool(self._unsure)

    def make_sure(self) -> None:
        """Read again what a failed change has left; raises StorageFailed while that cannot be read."""
        with self.lock:
            for kind, name in list(self._unsure):
                self._tables[kind]._reload(self.store, name)
                self._unsure.discard((kind, name))
