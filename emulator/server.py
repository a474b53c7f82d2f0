"""`Emulator`: the app on a loopback port in a thread, over a state folder or in memory."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from filelock import FileLock, Timeout
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from emulator import journal_file
from emulator.backend import Backend
from emulator.blobs import Blobs
from emulator.catalogue import Catalogue
from emulator.clock import Clock
from emulator.entrance import Entrance
from emulator.errors import FailedPrecondition, StorageFailed, Unavailable
from emulator.journal import Journal
from emulator.platform.platform import Platform
from emulator.quirks import Quirks
from emulator.store import Store
from emulator.world import World

ACCOUNT = "local"
API_KEY = "fw-ftsim-local"
SERVER_FILE = "server.json"
KEPT_JOURNALS = 8
START_S = 20.0


class _Protocol(HttpToolsProtocol):
    """Never logs a request, whatever the program around does to uvicorn's loggers: queries may carry keys."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False


class _Server(uvicorn.Server):
    """uvicorn that says when it listens and stops at once instead of at the next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        while not self.should_exit:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leave.wait(), 0.5)
            await self.on_tick(10)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):  # a transport must not outlive its loop
            connection.transport.abort()
        await asyncio.sleep(0)

    def stop(self) -> None:
        """Ask the server to end; from any thread."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._leave.set)


class Emulator:
    """The pretend platform as a context manager.

    `backend` computes; `state_dir` keeps everything across restarts, None keeps it until the end; `port` 0 takes a free
    one; `models` puts Hugging Face folders behind names; `catalogue` are files that declare more models and shapes;
    `keys` adds API keys of further accounts; `clock` is for replays; `prepare` is called when the platform is there and
    nobody has been served. What was asked is left in the state folder's `journals` at the end. Raises
    FailedPrecondition when another emulator uses the state folder.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        state_dir: str | Path | None = None,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        account: str = ACCOUNT,
        api_key: str = API_KEY,
        keys: Mapping[str, str] | None = None,
        models: Mapping[str, str | Path] | None = None,
        catalogue: tuple[str | Path, ...] = (),
        body_limit: int | None = None,
        clock: Clock | None = None,
        prepare: "Callable[[Emulator], None] | None" = None,
    ) -> None:
        self.account = account
        self.api_key = api_key
        self.keys = {api_key: account, **(keys or {})}
        self._backend = backend
        self._state_dir = Path(state_dir) if state_dir is not None else None
        self._seed = seed
        self._host = host
        self._port = port
        self._models = models or {}
        self._catalogue = catalogue
        self._body_limit = body_limit
        self._clock = clock
        self._prepare = prepare
        self._cleanup = contextlib.ExitStack()
        self.url = ""

    def __enter__(self) -> "Emulator":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> "Emulator":
        """Open the state, listen, and return when the first request would be answered.

        Health is answered a little earlier: once nothing but the import of the application is left to be done.
        """
        with contextlib.ExitStack() as undo:
            root = self._open_folder(undo)
            sock = self._listen(undo)
            durable = self._state_dir is not None
            store = Store(root / "metadata.sqlite" if durable else None)
            world = World(clock=self._clock, store=store, seed=self._seed)
            undo.callback(world.store.close)
            self.platform = Platform(
                world, Blobs(root / "blobs", durable=durable), self._backend, self._build_catalogue(), self.account
            )
            undo.callback(self.platform.close)
            self.journal = Journal(world.clock)
            self.journal.follow(world, tuple(self.keys))
            if self._prepare is not None:
                self._prepare(self)
            if durable:
                undo.callback(self._leave_journal, root / "journals")
            self._serve(sock, undo)
            if durable:
                self._announce(root, undo)
            self._cleanup = undo.pop_all()
        return self

    def stop(self) -> None:
        """Stop listening, let running operations finish, release the state folder. Safe to call twice."""
        self._cleanup.close()

    def reset(self) -> None:
        """Forget everything but the seed; port, key and account stay."""
        self.platform.reset()
        self.journal.clear()

    def snapshot(self, file: str | Path | None = None) -> Path:
        """Save the whole platform, without what lives on trainers only; None puts it beside its own files."""
        from emulator import snapshots

        if file is None:
            folder = self.platform.blobs.root.parent / "snapshots"
            folder.mkdir(exist_ok=True)
            file = folder / f"{self.clock.now()}.zip"
        return snapshots.save(self.platform, Path(file))

    def bundle(self, file: str | Path, notes: Mapping[str, str] | None = None) -> Path:
        """A snapshot with the journal in it, and `notes` as text files; no key is in any of them but the blobs."""
        from emulator import snapshots

        journal = journal_file.write(self.journal, seed=self.world.ids.seed, account=self.account)
        texts = {name: [self.journal.redactor.bytes(text.encode())] for name, text in (notes or {}).items()}
        return snapshots.save(self.platform, Path(file), {"journal.jsonl": journal, **texts})

    def restore(self, file: str | Path) -> None:
        """Replace everything by a snapshot; trainers start anew, quirks are off. Raises InvalidArgument."""
        from emulator import snapshots

        snapshots.restore(self.platform, Path(file))
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

    def env(self) -> dict[str, str]:
        """Environment variables under which every client of WIRE 1.1 talks to this emulator."""
        return {
            "FIREWORKS_API_KEY": self.api_key,
            "FIREWORKS_ACCOUNT_ID": self.account,
            "FIREWORKS_BASE_URL": self.url,
            "FIREWORKS_TRAINER_GATEWAY_URL": self.url,
            "TINKER_BASE_URL": f"{self.url}/training/v1/serverless",
            "TINKER_API_KEY": self.api_key,
        }

    def _build_catalogue(self) -> Catalogue:
        catalogue = Catalogue.load(*(Path(path) for path in self._catalogue))
        for name, folder in self._models.items():
            catalogue.add_model(name, Path(folder))
        return catalogue

    def _open_folder(self, undo: contextlib.ExitStack) -> Path:
        """The state folder, locked; or a temporary one."""
        if self._state_dir is None:
            root = Path(tempfile.mkdtemp(prefix="ftsim-"))
            undo.callback(shutil.rmtree, root, ignore_errors=True)
            return root
        root = self._state_dir.expanduser().resolve()
        try:
            root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(root / "lock", blocking=False)
            lock.acquire()
        except Timeout:
            raise FailedPrecondition(f"another emulator{running_at(root)} uses the state folder {root}") from None
        except OSError as error:
            raise StorageFailed(f"the state folder {root} cannot be written: {error.strerror or error}") from error
        undo.callback(lock.release)
        return root

    def _listen(self, undo: contextlib.ExitStack) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio looks at the protocol number
        undo.callback(sock.close)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self._host, self._port))
        except (OSError, OverflowError) as error:  # a port that is none overflows
            reason = getattr(error, "strerror", None) or error
            raise Unavailable(f"cannot listen on {self._host}:{self._port}: {reason}") from error
        sock.listen(1024)
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        self.port = sock.getsockname()[1]
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}"
        return sock

    def _serve(self, sock: socket.socket, undo: contextlib.ExitStack) -> None:
        """Answer health; then import the application, which answers everything, those who came meanwhile first."""
        entrance = Entrance(self.journal)
        config = uvicorn.Config(
            entrance, log_config=None, access_log=False, lifespan="off", server_header=False,
            timeout_graceful_shutdown=2, timeout_keep_alive=75, loop="asyncio", http=_Protocol, ws="none",
        )  # fmt: skip
        server = _Server(config)
        thread = threading.Thread(target=server.run, args=([sock],), name="emulator", daemon=True)
        thread.start()
        undo.callback(thread.join, 15)
        undo.callback(self.platform.futures.interrupt)
        undo.callback(server.stop)
        if not server.up.wait(START_S):
            raise Unavailable(f"the emulator did not start within {START_S:g} s")
        undo.callback(entrance.give_up)
        from emulator.app import create_app  # here, and nowhere above: it is what a start waits for

        app = create_app(self.platform, keys=self.keys, journal=self.journal, body_limit=self._body_limit)
        app.state.connections = server.server_state.connections
        entrance.open(app)

    def _leave_journal(self, folder: Path) -> None:
        """Write the journal beside those of earlier runs, the newest KEPT_JOURNALS of which stay."""
        if not self.journal.entries:
            return
        with contextlib.suppress(OSError):  # a full disk must not keep the emulator from ending
            folder.mkdir(exist_ok=True)
            aside = folder / ".unfinished"
            with aside.open("wb") as file:
                file.writelines(journal_file.write(self.journal, seed=self.world.ids.seed, account=self.account))
            aside.replace(folder / f"{self.world.ids.boot:06d}.jsonl")
            for old in sorted(folder.glob("*.jsonl"))[:-KEPT_JOURNALS]:
                old.unlink()

    def _announce(self, root: Path, undo: contextlib.ExitStack) -> None:
        """Say in the state folder where the server is, for whoever wants to join it."""
        file, aside = root / SERVER_FILE, root / f".server-{os.getpid()}"
        record = {"url": self.url, "pid": os.getpid(), "api_key": self.api_key, "account_id": self.account}
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            json.dump(record, opened)
        os.replace(aside, file)
        undo.callback(file.unlink, missing_ok=True)


def running_at(root: Path) -> str:
    """` at <url>` of the emulator that announced itself in this state folder, or nothing."""
    try:
        return f" at {json.loads((root / SERVER_FILE).read_text('utf-8'))['url']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
