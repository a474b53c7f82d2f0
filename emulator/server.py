"""`Emulator`: the app on a loopback port in a thread, over a state folder or in memory."""

import atexit
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from emulator.backend import Backend
from emulator.core import own_warnings
from emulator.core.catalogue import platform_of
from emulator.core.clock import Clock
from emulator.core.errors import InvalidArgument, Unavailable
from emulator.core.keys import Keys
from emulator.http.entrance import Entrance
from emulator.http.listener import Listener, listen
from emulator.journal import file as journal_file
from emulator.journal.journal import Journal
from emulator.journal.redact import Redactor
from emulator.light import LightBackend
from emulator.platform.models.catalogue import Catalogue
from emulator.platform.platform import Platform
from emulator.quirks.engine import Quirks
from emulator.quirks.platforms import ALIASES
from emulator.state.accounts import Accounts
from emulator.state.blobs import LOST
from emulator.state.folder import private
from emulator.state.homes import Home, Servers, open_home
from emulator.state.server_record import ServerRecord, announcement
from emulator.state.world import World

if TYPE_CHECKING:
    from emulator.http.console.access import Access
    from emulator.platform.archive import BlobChoice

BackendName = Literal["torch", "light"]
ACCOUNT = "local"
API_KEY = "fw-ftsim-local"
KEPT_JOURNALS = 8
START_S = 20.0
_log = logging.getLogger(__name__)


def read_platform(date: str) -> str:
    """The platform of a date or of a name for one, `april-2026`; raises InvalidArgument."""
    try:
        return platform_of(ALIASES.get(date, date))
    except ValueError as error:
        raise InvalidArgument(str(error)) from None


class Emulator:
    """The pretend platform as a context manager.

    `backend` computes, "light" (the default here) without any model; `state_dir` keeps everything across restarts, None
    keeps it until the end; `api_key` is the state folder's own when none is given, and well known without a folder;
    `allow_hosts` are names under which it may be reached besides addresses and localhost; `port` 0 takes a free one;
    `models` puts Hugging Face folders behind names; `catalogue` are files that declare more models and shapes;
    `platform` is a date, `2026-04` or later: the service as it was then (None: as the state has it, else the newest);
    `keys` adds API keys of further accounts, which may not ask for what concerns all; `clock` is for replays; `prepare`
    is called when the platform is there and nobody has been served; `patience_s` is how long to wait for another
    emulator that is just leaving the state folder; trainers compute in `trainer_workers` processes of `trainer_nproc`
    ranks, and `sampler` draws tokens (torch or vllm). What was asked is left in the folder's `journals` at the end.
    With `servers` the state is on a database and in a place for blobs, and `api_key` should be given. Raises
    InvalidArgument for a date that is none, FailedPrecondition when another emulator uses the state folder.
    """

    DEFAULT_BACKEND: ClassVar[BackendName] = "light"

    def __init__(
        self,
        backend: Backend | BackendName | None = None,
        *,
        state_dir: str | Path | None = None,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        account: str = ACCOUNT,
        api_key: str | None = None,
        keys: Mapping[str, str] | None = None,
        models: Mapping[str, str | Path] | None = None,
        catalogue: tuple[str | Path, ...] = (),
        platform: str | None = None,
        body_limit: int | None = None,
        allow_hosts: tuple[str, ...] = (),
        clock: Clock | None = None,
        prepare: "Callable[[Emulator], None] | None" = None,
        patience_s: float = 0.0,
        trainer_workers: int | None = None,
        trainer_nproc: int | None = None,
        sampler: str | None = None,
        servers: Servers | None = None,
    ) -> None:
        self._servers = servers
        self.on_lost: Callable[[], None] = lambda: None
        """Called when another process has taken over what this one had on a database."""
        self.account = account
        self._further_keys = keys or {}
        self._give_key(api_key or API_KEY)
        self._has_key = api_key is not None or state_dir is None
        self._allow_hosts = allow_hosts
        self._state_dir = Path(state_dir).expanduser().resolve() if state_dir is not None else None
        how = {"workers": trainer_workers, "nproc": trainer_nproc, "sampler": sampler}
        self._owns_backend = backend is None or isinstance(backend, str)
        if backend is None or isinstance(backend, str):
            backend = self.named_backend(backend or self.DEFAULT_BACKEND, self._state_dir, **how)
        elif any(value is not None for value in how.values()):
            raise ValueError("processes for trainers, and a sampler, go with a backend by name: give yours its own")
        self._backend = backend
        self._seed = seed
        self._host = host
        self._port = port
        self._models = models or {}
        self._catalogue = catalogue
        self._date = None if platform is None else read_platform(platform)
        self._body_limit = body_limit
        self._clock = clock
        self._prepare = prepare
        self._patience_s = patience_s
        self._cleanup = contextlib.ExitStack()
        self._listener: Listener | None = None
        self._access: Access | None = None
        self._renewed = 0
        self.url = ""

    @classmethod
    def named_backend(cls, name: BackendName, state_dir: Path | None, **how: Any) -> Backend:
        """The backend behind a name, computing as `how` says; `state_dir` may keep files of it. Raises ValueError."""
        if name != "light":
            raise ValueError(f"the backend here is 'light' or an object, not {name!r}; ftsim.Emulator has 'torch' too")
        if how.get("workers") or (how.get("nproc") or 1) > 1:
            raise ValueError("the light backend has no processes for trainers: it computes next to nothing")
        if how.get("sampler") not in (None, "torch"):
            raise ValueError(f"the light backend has no model for {how['sampler']} to sample from")
        return LightBackend(None if state_dir is None else state_dir / "light-models")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Open the state, listen, and return when the first request would be answered.

        Health is answered a little earlier: once nothing but the import of the application is left to be done.
        """
        with own_warnings.own(), contextlib.ExitStack() as undo:
            home = undo.enter_context(open_home(self._state_dir, self._servers, self._patience_s))
            root = home.root
            if not self._has_key:
                self._give_key(home.key())
            sock, self.url = listen(self._host, self._port)
            undo.callback(sock.close)
            self.port = sock.getsockname()[1]
            store = home.store(self.url)
            undo.callback(store.close)
            world = World(clock=self._clock, store=store, seed=self._seed)
            if self._date is not None:
                world.move_to(self._date)
            catalogue = self._build_catalogue(world)
            self.platform = Platform(world, home.blobs(store), self._backend, catalogue, self.account)
            self._say_what_is_wrong(home)
            undo.callback(self.platform.close)
            self.journal = Journal(world.clock)
            self.journal.light = isinstance(self._backend, LightBackend)
            self.journal.follow(world, tuple(self.keys))
            if self._prepare is not None:
                self._prepare(self)
            writable = self._state_dir is not None and not store.read_only
            if writable:
                undo.callback(self._leave_journal, root / "journals")
            accounts = home.accounts(world, lambda: self.on_lost())
            store.begun()
            self._serve(sock, undo, accounts)
            if writable:
                undo.enter_context(announcement(root, self._record()))
            self._cleanup = undo.pop_all()
            atexit.register(self.stop)  # whoever never stops it must not end in the middle of an operation
        return self

    def stop(self) -> None:
        """Stop listening, let running operations finish, release the state folder. Safe to call twice."""
        self._listener = self._access = None
        atexit.unregister(self.stop)
        self._cleanup.close()

    @property
    def running(self) -> bool:
        """True from `start` to `stop`."""
        return self._listener is not None

    def move_to(self, platform: str) -> None:
        """Be the service as it was then, after a restart too; raises InvalidArgument for a date that is none."""
        self.platform.move_to(read_platform(platform))

    def reset(self) -> None:
        """Forget everything but the seed; port, key and account stay."""
        self.platform.reset()
        self.journal.clear()

    def hand_over(self) -> None:
        """Reset for somebody else, under a new key; start again where it was stopped.

        Connections are broken. Whoever still comes with a key from before is answered 401, and the journal does not
        speak of it.
        """
        self._renewed += 1
        key = f"{API_KEY}-{self._renewed}"
        self._has_key = True
        if self._listener is None:
            self._give_key(key)
            self.start()
            return
        self.api_key = key
        self.keys.renew({key: self.account, **self._further_keys})
        busy = self._listener.hang_up()
        self.platform.reset()
        if busy:  # it may have been let in before
            self._listener.settle()
            self.platform.reset()
        self.journal.redactor = Redactor((*self.keys, *self.keys.retired))
        self.journal.clear()

    def snapshot(self, file: str | Path | None = None) -> Path:
        """Save the whole platform, without what lives on trainers only; None puts it beside its own files."""
        from emulator.platform import archive

        if file is None:
            folder = self.platform.blobs.home / "snapshots"
            folder.mkdir(exist_ok=True)
            file = folder / f"{self.clock.now()}.zip"
        return archive.save(self.platform, Path(file))

    def bundle(self, file: str | Path, notes: Mapping[str, str] | None = None, blobs: "BlobChoice" = "all") -> Path:
        """A snapshot with the journal in it, and `notes` as text files; no key is in any of them but the blobs.

        A replay asks everything again and needs none of the blobs: with "none" a bundle is small, and its rows have no
        files where it is restored; "last" keeps those of the newest row of each job and session.
        """
        from emulator.platform import archive

        journal = journal_file.write(self.journal, seed=self.world.ids.seed, account=self.account)
        texts = {name: [self.journal.redactor.bytes(text.encode())] for name, text in (notes or {}).items()}
        return archive.save(self.platform, Path(file), {"journal.jsonl": journal, **texts}, blobs)

    def restore(self, file: str | Path) -> None:
        """Replace everything by a snapshot; trainers start anew, quirks are off. Raises InvalidArgument."""
        from emulator.platform import archive

        archive.restore(self.platform, Path(file))
        self.journal.clear()

    @property
    def world(self) -> World:
        return self.platform.world

    @property
    def clock(self) -> Clock:
        return self.platform.world.clock

    @property
    def quirks(self) -> Quirks:
        return self.platform.world.quirks

    def console_url(self) -> str:
        """A link that opens the console in a browser, good once; raises Unavailable when the emulator does not run."""
        if self._access is None:
            raise Unavailable("the emulator does not run: start it first")
        return f"{self.url}{self._access.link()}"

    def env(self) -> dict[str, str]:
        """Environment variables under which every client of WIRE 1.1 talks to this emulator."""
        return self._record().variables()

    def _record(self) -> ServerRecord:
        return ServerRecord(self.url, os.getpid(), self.api_key, self.account)

    def _give_key(self, key: str) -> None:
        """Make this the emulator's own key, which is the first of all."""
        self.api_key = key
        self.keys = Keys({key: self.account, **self._further_keys})

    def _say_what_is_wrong(self, home: Home) -> None:
        """Whoever started this learns of a folder that cannot be written, and of blobs that no row points at."""
        if self.platform.world.store.read_only:
            _log.warning("ftsim: %s", self.platform.world.store.read_only)
        if self.platform.world.store.unread:
            _log.warning("ftsim: %s", self.platform.world.store.unread)
        if lost := self.platform.lost:
            _log.warning(
                "ftsim: %d things without a row were moved to %s, the first is %s; `ftsim state gc` deletes them",
                len(lost),
                home.root / LOST,
                lost[0],
            )

    def _build_catalogue(self, world: World) -> Catalogue:
        catalogue = Catalogue.load(*(Path(path) for path in self._catalogue), platform=world.platform)
        for name, folder in self._models.items():
            catalogue.add_model(name, Path(folder))
        return catalogue

    def _serve(self, sock: socket.socket, undo: contextlib.ExitStack, accounts: Accounts | None) -> None:
        """Answer health; then import the application, which answers everything, those who came meanwhile first."""
        entrance = Entrance(self.journal)
        server = Listener(entrance, LightBackend.headers if isinstance(self._backend, LightBackend) else ())
        thread = threading.Thread(target=own_warnings.apart(server.run), args=([sock],), name="emulator", daemon=True)
        thread.start()
        undo.callback(thread.join, 15)
        undo.callback(self.platform.futures.interrupt)
        undo.callback(server.stop)
        if not server.up.wait(START_S):
            raise Unavailable(f"the emulator did not start within {START_S:g} s")
        undo.callback(entrance.give_up)
        from emulator.http.app import create_app

        app = create_app(
            self.platform,
            keys=self.keys,
            journal=self.journal,
            body_limit=self._body_limit,
            hosts=self._allow_hosts,
            accounts=accounts,
        )
        self._access = app.state.access
        app.state.light = isinstance(self._backend, LightBackend)
        app.state.connections = server.server_state.connections
        self._listener = server
        entrance.open(app)

    def _leave_journal(self, folder: Path) -> None:
        """Write the journal beside those of earlier runs, the newest KEPT_JOURNALS of which stay."""
        if not self.journal.entries:
            return
        with contextlib.suppress(OSError):  # a full disk must not keep the emulator from ending
            folder.mkdir(exist_ok=True)
            aside = folder / ".unfinished"
            with private(aside) as file:
                file.writelines(journal_file.write(self.journal, seed=self.world.ids.seed, account=self.account))
            aside.replace(folder / f"{self.world.ids.boot:06d}.jsonl")
            for old in sorted(folder.glob("*.jsonl"))[:-KEPT_JOURNALS]:
                old.unlink()
