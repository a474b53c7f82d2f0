"""Tables of a world: entities of one kind, by name and by what they belong to."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from emulator.core.errors import StorageFailed
from emulator.core.kinds import CheckpointKind
from emulator.core.lifecycle import Pending
from emulator.state.entities import Checkpoint, Deployment, Pod
from emulator.state.store import Store, latest
from emulator.state.sums import parent_of

if TYPE_CHECKING:
    from emulator.state.world import World

E = TypeVar("E", bound=Any)


class Table(Generic[E]):
    """Entities of one kind by resource name, oldest first. Change them inside `World.change()` only.

    Every entity has one parent: its owner if it has one, else its account.
    """

    def __init__(self, world: "World", kind: str, cls: type[E], collection: str = "") -> None:
        self._world = world
        self._kind = kind
        self._cls = cls
        self._collection = collection
        self._rows: dict[str, E] = {}
        self._children: dict[str, dict[str, E]] = {}
        self.versions = Counter[str]()
        """Of each owner: how often one of its entities was put or removed."""

    def get(self, name: str) -> E | None:
        return self._rows.get(name)

    def find(self, account: str, identifier: str) -> E | None:
        """Look up by the parts of a resource name."""
        return self._rows.get(f"accounts/{account}/{self._collection}/{identifier}")

    def __iter__(self) -> Iterator[E]:
        return iter(list(self._rows.values()))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def of(self, parent: str) -> list[E]:
        """The entities of one owner (or account), oldest first."""
        return list(self._children.get(parent, {}).values())

    def count(self, parent: str) -> int:
        """Count what `of` would give."""
        return len(self._children.get(parent, {}))

    def put(self, entity: E) -> E:
        """Add or change an entity; it reaches the store when the change ends."""
        self._world._dirty.setdefault((self._kind, entity.name), entity.name in self._rows)
        self._keep(entity)
        return entity

    def remove(self, name: str) -> None:
        self._world._dirty.setdefault((self._kind, name), name in self._rows)
        self._drop(name)

    def clear(self) -> None:
        self.versions.update(self._children.keys())
        self._rows.clear()
        self._children.clear()

    def _keep(self, entity: E) -> None:
        self._rows[entity.name] = entity
        self._children.setdefault(_parent(entity), {})[entity.name] = entity
        self.versions[_parent(entity)] += 1

    def _drop(self, name: str) -> None:
        if (entity := self._rows.pop(name, None)) is not None:
            self._children[_parent(entity)].pop(name, None)
            self.versions[_parent(entity)] += 1

    def read_all(self) -> None:
        """Read what is not read yet; raises StorageFailed when it is not what was stored."""

    def blobs(self) -> Iterator[str]:
        """The keys of the blobs that its entities point at; those that are not read yet are not looked at closely."""
        return (entity.blob for entity in self if entity.blob)

    def _load(self, store: Store) -> int:
        """Read what is stored; returns its latest moment, in microseconds."""
        self.clear()
        with contextlib.closing(store.all(self._kind)) as rows:  # a row that is refused would keep its connection
            found = sorted((self._stored(name, body) for name, body in rows), key=birth)
        for entity in found:
            self._keep(entity)
        return max((latest(vars(entity)) for entity in self), default=0)

    def _adopt(self, store: Store, account: str) -> int:
        """Read what an account has beside what is here; returns its latest moment, in microseconds."""
        found = [self._stored(name, body) for name, body in store.of_account(self._kind, account)]
        for entity in sorted(found, key=birth):
            self._keep(entity)
        return max((latest(vars(entity)) for entity in found), default=0)

    def _stored(self, name: str, body: dict[str, Any]) -> E:
        """An entity from the disk; raises StorageFailed that names it."""
        try:
            return self._decode(body)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise StorageFailed(
                f"the state folder's {self._kind} {name[:200]} cannot be read ({error}): use the version that "
                "wrote it, or move metadata.sqlite away and run `ftsim state recover`"
            ) from None

    def _reload(self, store: Store, name: str) -> None:
        """Take back what a failed change did to an entity, and give it its place among its siblings again."""
        body = store.read(self._kind, name)
        if body is None:
            self._drop(name)
            return
        entity = self._decode(body)
        siblings = self._children.get(_parent(entity), {}) | {name: entity}
        self._children[_parent(entity)] = {row.name: row for row in sorted(siblings.values(), key=birth)}
        self._keep(entity)

    def _encode(self, name: str) -> dict[str, Any] | None:
        entity = self._rows.get(name)
        return None if entity is None else dataclasses.asdict(entity)

    def _decode(self, body: dict[str, Any]) -> E:
        if body.get("pending") is not None:
            body["pending"] = Pending(**body["pending"])
        if self._cls is Checkpoint:
            body["kind"] = CheckpointKind(body["kind"])
        if self._cls is Deployment:
            body["pods"] = [Pod(**pod) for pod in body["pods"]]
        entity: E = self._cls(**body)
        return entity


class LazyTable(Table[E]):
    """A table whose entities are read when somebody first asks for those of their owner: a start reads none.

    An entity's name is its owner's, a collection, and its id, in which there is no slash.
    """

    def __init__(self, world: "World", kind: str, cls: type[E], collection: str = "") -> None:
        super().__init__(world, kind, cls, collection)
        self._asleep: dict[str, int] = {}
        """Of each owner whose entities nobody has asked for, how many these are."""
        self._mixed = False
        """True after owners were woken one by one: `_rows` has not the order of births."""

    def get(self, name: str) -> E | None:
        if self._asleep:
            self._wake(parent_of(name))
        return super().get(name)

    def __iter__(self) -> Iterator[E]:
        self._wake_all()
        return super().__iter__()

    def __len__(self) -> int:
        with self._world.lock:
            return len(self._rows) + sum(self._asleep.values())

    def __contains__(self, name: str) -> bool:
        self._wake(parent_of(name))
        return super().__contains__(name)

    def of(self, parent: str) -> list[E]:
        self._wake(parent)
        return super().of(parent)

    def count(self, parent: str) -> int:
        with self._world.lock:
            return self._asleep.get(parent, 0) or super().count(parent)

    def put(self, entity: E) -> E:
        self._wake(_parent(entity))
        return super().put(entity)

    def remove(self, name: str) -> None:
        self._wake(parent_of(name))
        super().remove(name)

    def clear(self) -> None:
        self.versions.update(self._asleep.keys())
        self._asleep.clear()
        super().clear()

    def blobs(self) -> Iterator[str]:
        with self._world.lock:
            awake = {entity.blob for entity in self._rows.values() if entity.blob}
            # As it is stored, which is true of those that are awake, too: a row that is changed is stored before the
            # lock is let go.
            return iter(awake.union(self._world.store.blobs(self._kind)) if self._asleep else awake)

    def read_all(self) -> None:
        self._wake_all()

    def _load(self, store: Store) -> int:
        self.clear()
        families = store.families(self._kind)
        self._asleep = {owner: siblings.rows for owner, siblings in families.items()}
        return max((siblings.latest for siblings in families.values()), default=0)

    def _adopt(self, store: Store, account: str) -> int:
        families = store.families_of_account(self._kind, account)
        self._asleep |= {owner: siblings.rows for owner, siblings in families.items()}
        return max((siblings.latest for siblings in families.values()), default=0)

    def _wake(self, owner: str) -> None:
        """Make the entities of an owner; whoever asks meanwhile waits for all of them. Raises StorageFailed."""
        if owner not in self._asleep:
            return
        with self._world.lock:
            if owner not in self._asleep:
                return
            stored = self._world.store.of(self._kind, owner)
            for entity in sorted((self._stored(name, body) for name, body in stored), key=birth):
                self._keep(entity)
            self._mixed = True
            self._asleep.pop(owner)

    def _wake_all(self) -> None:
        """Make what is left, and bring all into the order of their births."""
        if not self._asleep and not self._mixed:
            return
        with self._world.lock:
            for owner in list(self._asleep):
                self._wake(owner)
            self._rows = {entity.name: entity for entity in sorted(self._rows.values(), key=birth)}
            self._mixed = False


def _parent(entity: Any) -> str:
    return str(getattr(entity, "owner", None) or entity.account)


def birth(entity: Any) -> int:
    """The moment by which siblings are ordered."""
    return int(entity.created)
