"""Homes of a state: one folder, with the rows and blobs in it, or a database server with a place for blobs.

A process on a database has a folder of its own beside it, for what need not outlive it: copies of blobs, tokenizers,
journals. All that was acknowledged is in the other two.
"""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from emulator.core.errors import FailedPrecondition, InvalidArgument
from emulator.state.accounts import LENGTH_S, Accounts
from emulator.state.blobs import Blobs
from emulator.state.folder import BLOBS, METADATA, StateFolder, opened
from emulator.state.places import place_of
from emulator.state.store import Store
from emulator.state.world import World


@dataclass(frozen=True)
class Servers:
    """A database server and a place for blobs, and how long a lease on what is in them lasts (seconds).

    A `shared` database is several processes', each of which has some accounts; others reach this one at `address`.
    """

    database: str
    blobs: str
    lease_s: float = LENGTH_S
    shared: bool = False
    address: str = ""


class Home:
    """A state in memory: gone at the end, with the files of its blobs."""

    durable = False

    def __init__(self, root: Path) -> None:
        self.root = root

    def key(self) -> str:
        """The state's own API key, "" where it has none."""
        return ""

    def store(self, address: str) -> Store:
        """The metadata, for a process that answers at `address`; raises StorageFailed, FailedPrecondition."""
        return Store()

    def accounts(self, world: World, left: Callable[[], None]) -> Accounts | None:
        """The accounts that are here, None where all are for good; `left` is called once this process has none."""
        return None

    def blobs(self, store: Store) -> Blobs:
        """The blobs behind the rows of a store; raises StorageFailed, FailedPrecondition."""
        return Blobs(self.root / BLOBS, durable=self.durable, read_only=store.read_only)


class FolderHome(Home):
    """A state folder, ours alone."""

    durable = True

    def __init__(self, folder: StateFolder) -> None:
        super().__init__(folder.root)
        self._folder = folder

    def key(self) -> str:
        return self._folder.key()

    def store(self, address: str) -> Store:
        return self._folder.store()


class ServerHome(Home):
    """A state on servers, and the folder `root` for what is this process's own."""

    def __init__(self, root: Path, servers: Servers) -> None:
        super().__init__(root)
        self._servers = servers
        self._place = place_of(servers.blobs)

    def store(self, address: str) -> Store:
        from emulator.state.leases import Holder
        from emulator.state.server_database import ServerDatabase

        servers = self._servers
        own = Holder(f"{socket.gethostname()}/{os.getpid()}", servers.address or address)
        store = ServerDatabase(servers.database, own, lease_s=servers.lease_s, shared=servers.shared)
        try:
            store.begin()
            self._place.belongs_to(store.identity)
            return store
        except BaseException:
            store.close()
            raise

    def accounts(self, world: World, left: Callable[[], None]) -> Accounts | None:
        from emulator.state.server_database import ServerDatabase

        assert isinstance(world.store, ServerDatabase)
        return Accounts(world, world.store.leases, left)

    def blobs(self, store: Store) -> Blobs:
        return self._place.blobs(self.root, store.read_only, shared=store.shared)


def servers_of(
    database: str | None,
    blobs: str | None,
    api_key: str | None,
    lease_s: float = LENGTH_S,
    share: bool = False,
    address: str = "",
) -> Servers | None:
    """The servers that a start names, None for none; raises InvalidArgument for half of what they take."""
    if database is None and blobs is None:
        if share or address:
            raise InvalidArgument("--share and --address go with --database: a state folder belongs to one emulator")
        return None
    if not database or not blobs:
        given, other = ("--blobs", "--database") if not database else ("--database", "--blobs")
        raise InvalidArgument(f"{given} goes with {other}: rows and files are in one state folder, or both elsewhere")
    for module in ("psycopg", "alembic", "fsspec"):
        if find_spec(module) is None:
            raise InvalidArgument("--database needs the extra [stores]: pip install 'ftsim-emulator[stores]'")
    if not api_key:
        raise InvalidArgument(
            "--database needs --api-key (or FTSIM_API_KEY): whoever serves this database next has to know the same key"
        )
    return Servers(database, blobs, lease_s, share, address)


@contextlib.contextmanager
def open_home(state_dir: Path | None, servers: Servers | None, patience_s: float) -> Iterator[Home]:
    """The home of a state, ours until the end; without a folder and servers one in memory.

    Raises FailedPrecondition, StorageFailed, as `opened` does, and for a state folder that has rows of its own beside
    servers.
    """
    with contextlib.ExitStack() as undo:
        if state_dir is None:
            root = Path(tempfile.mkdtemp(prefix="ftsim-"))
            undo.callback(shutil.rmtree, root, ignore_errors=True)
            yield Home(root) if servers is None else ServerHome(root, servers)
            return
        if servers is not None and (state_dir / METADATA).exists():
            raise FailedPrecondition(
                f"{state_dir} has a state of its own, and --database names another: give another --state-dir; a "
                "snapshot (`ftsim state save`, `ftsim state restore`) brings a state from one to the other"
            )
        folder = undo.enter_context(opened(state_dir, patience_s))
        yield FolderHome(folder) if servers is None else ServerHome(folder.root, servers)
