"""`ftsim run`: an unmodified program against the emulator of a state folder.

The program's environment gets the emulator's address and key, an offline hub, and a folder in front of `PYTHONPATH`
whose `sitecustomize` redirects the SDK's default address and lends `training.*` when no cookbook is installed
(`shims`). The emulator is a detached process that serves every run on the state folder and stops by itself
a few seconds after the last one has gone.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import NoReturn

from emulator.core.keys import marked
from emulator.state import server_record
from emulator.state.server_record import ServerRecord
from ftsim.process import ending, forward
from ftsim.process.attendance import Attendance, Client
from ftsim.process.environment import PACKAGE_ROOT, joined, program_environment
from ftsim.process.mapping import without_proxies

START_TIMEOUT = 60.0
"""Seconds a server may take to announce itself."""
HEALTH_TIMEOUT = 5.0
_LEAVING_S = 6.0
"""By then an emulator that nobody uses has left, unless it was started to stay."""
_LOOK_S = 0.2
"""Seconds after which a server that accepts connections counts as busy, not as gone."""


class RunError(Exception):
    """The program could not be started; the message says why and what to do."""


@dataclass(frozen=True)
class ServerOptions:
    """The settings of a run's emulator; one that runs already cannot be changed, so then they are refused."""

    quirks: tuple[str, ...] = ()
    profile: str | None = None
    seed: int | None = None
    light: bool = False
    discard: bool = False
    """Delete the state folder when the last program has gone."""
    platform: str | None = None
    models: tuple[str, ...] = ()
    catalogues: tuple[Path, ...] = ()
    compute: tuple[str, ...] = ()
    fast_forward: bool = False
    """Put emulator and programs on one clock, which moves when all of them wait."""
    trainer_workers: int | None = None
    trainer_nproc: int | None = None
    sampler: str | None = None

    def words(self) -> list[str]:
        """The options as `ftsim serve` takes them."""
        words = [word for quirk in self.quirks for word in ("--quirk", quirk)]
        words += [word for pair in self.models for word in ("--model", pair)]
        words += [word for file in self.catalogues for word in ("--catalogue", str(file))]
        words += [word for text in self.compute for word in ("--compute", text)]
        own = {"trainer-workers": self.trainer_workers, "trainer-nproc": self.trainer_nproc, "sampler": self.sampler}
        own |= {"profile": self.profile, "platform": self.platform, "seed": self.seed}
        words += [word for name, value in own.items() if value not in (None, "") for word in (f"--{name}", str(value))]
        words += [forward.OPTION] if self.fast_forward else []
        return [*words, *(["--light"] if self.light else []), *(["--discard"] if self.discard else [])]


@dataclass(frozen=True)
class Prepared:
    """A program ready to start: its command, environment and registration at the emulator."""

    command: list[str]
    environment: dict[str, str]
    server: ServerRecord
    client: Client

    @property
    def program(self) -> str:
        """The mark that the program's key carries: what it opened is known by it (`emulator.core.keys`)."""
        return self.client.file.name


def run_program(
    argv: Sequence[str],
    *,
    state_dir: Path,
    env: Mapping[str, str] | None = None,
    server_command: Sequence[str] | None = None,
) -> int:
    """Run a program as a child and return its exit status (128 + n when signal n ended it); raises `RunError`.

    `argv` is `SCRIPT.py [args]`, `-m MODULE [args]` or `-- COMMAND [args]`; `env` is added to the environment.
    """
    prepared = prepare(argv, state_dir=state_dir, env=env, server_command=server_command)
    try:
        child = subprocess.Popen(prepared.command, env=prepared.environment, pass_fds=(prepared.client.descriptor,))
    except OSError as error:
        raise RunError(f"ftsim: cannot start {prepared.command[0]!r}: {error.strerror}") from error
    finally:
        prepared.client.leave()
    previous = _pass_signals_to(child)
    try:
        status = child.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        ending.end_sessions(prepared.server.url, prepared.server.api_key, prepared.program)
    return status if status >= 0 else 128 - status


def exec_program(
    argv: Sequence[str],
    *,
    state_dir: Path,
    env: Mapping[str, str] | None = None,
    server_command: Sequence[str] | None = None,
    options: ServerOptions | None = None,
    tinker: bool = False,
    again: str = "",
) -> NoReturn:
    """As `run_program`, but become the program: whoever kills this process kills the program itself.

    With `tinker` the program's TINKER_BASE_URL is the service of tinker's own client, not the pool. `again` is the
    command that goes on with the run, told when it is interrupted.
    """
    prepared = prepare(argv, state_dir=state_dir, env=env, server_command=server_command, options=options)
    if tinker:
        prepared.environment["TINKER_BASE_URL"] = f"{prepared.server.url}/tinker"
    if link := console_link(prepared.server):
        print(f"ftsim: watch it at {link}", file=sys.stderr)
    url, key, descriptor = prepared.server.url, prepared.server.api_key, prepared.client.descriptor
    said = ending.watch(url, key, descriptor, prepared.program, Path(state_dir).resolve(), again)
    environment = prepared.environment | said
    os.set_inheritable(prepared.client.descriptor, True)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(prepared.command[0], prepared.command, environment)
    except OSError as error:
        raise RunError(f"ftsim: cannot start {prepared.command[0]!r}: {error.strerror}") from error


def prepare(
    argv: Sequence[str],
    *,
    state_dir: Path,
    env: Mapping[str, str] | None = None,
    server_command: Sequence[str] | None = None,
    options: ServerOptions | None = None,
) -> Prepared:
    """Check the command, start or join the emulator and put the environment together; raises `RunError`."""
    state_dir = Path(state_dir).resolve()
    command = command_line(argv)
    try:
        attendance = Attendance(state_dir)
    except OSError as error:
        raise RunError(f"ftsim: the state folder {state_dir} cannot be used: {error.strerror}") from error
    built = _Beside(lambda: _build_hub(state_dir))
    server, client = join_server(attendance, server_command, options)
    try:
        hub_variables = built.result()
    except OSError as error:
        client.leave()
        raise RunError(f"ftsim: the state folder {state_dir} cannot be used: {error.strerror}") from error
    its_own = replace(server, api_key=marked(server.api_key, client.file.name))
    given = {**os.environ, **(env or {}), **forward.program_variables(state_dir, server)}
    environment = without_proxies(program_environment(given, its_own, hub_variables))
    return Prepared(command, environment, server, client)


class _Beside:
    """A call made in a thread of its own, while this one waits for something else."""

    def __init__(self, call: Callable[[], dict[str, str]]) -> None:
        self._made: dict[str, str] = {}
        self._error: BaseException | None = None
        self._call = call
        self._thread = Thread(target=self._run)
        self._thread.start()

    def result(self) -> dict[str, str]:
        """Returns what the call returned; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._made

    def _run(self) -> None:
        try:
            self._made = self._call()
        except BaseException as error:
            self._error = error


def _build_hub(state_dir: Path) -> dict[str, str]:
    from ftsim.compute.models import hub

    return hub.build(state_dir / "hub")


def console_link(server: ServerRecord) -> str:
    """A link that opens the emulator's console in a browser, once; "" where the server has none."""
    try:
        told = json.loads(ending.ask(f"{server.url}/_ftsim/console", server.api_key, b""))
        return f"{server.url}{told['path']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def command_line(argv: Sequence[str]) -> list[str]:
    """The command behind `SCRIPT.py [args]`, `-m MODULE [args]` or `-- COMMAND [args]`; raises `RunError`."""
    argv = list(argv)
    if argv[:1] == ["--"] and len(argv) > 1:
        if shutil.which(argv[1]) is None:
            raise RunError(f"ftsim: there is no command {argv[1]!r}; check the spelling and PATH")
        return argv[1:]
    if argv[:1] == ["-m"] and len(argv) > 1:
        return [sys.executable, *argv]
    if not argv or argv[0].startswith("-"):
        raise RunError("ftsim: say what to run: SCRIPT.py [args], -m MODULE [args] or -- COMMAND [args]")
    if not Path(argv[0]).is_file():
        raise RunError(f"ftsim: there is no file {argv[0]!r}; to run a command write: ftsim run -- {argv[0]}")
    return [sys.executable, *argv]


def join_server(
    attendance: Attendance, server_command: Sequence[str] | None = None, options: ServerOptions | None = None
) -> tuple[ServerRecord, Client]:
    """The server of a state folder, started when none answers, and this process's registration with it.

    Raises RunError when it cannot be started, and when there are `options` and it runs already.
    """
    wanted = options.words() if options else []
    deadline = time.monotonic() + _LEAVING_S
    while True:
        with attendance.exclusively():
            client = attendance.join()
            record = attendance.server()
            try:
                if record is None or not _answers(record):
                    plain = [sys.executable, "-m", "ftsim.process.serve_runs", str(attendance.state_dir)]
                    unsaid = default_server_command(attendance.state_dir) if wanted else plain
                    command = list(server_command or unsaid)
                    return _start(attendance, [*command, *wanted]), client
                if forward.joins(wanted, attendance.state_dir, record):
                    return record, client
                if attendance.present() > 1 or time.monotonic() > deadline:
                    raise _served(attendance.state_dir, wanted)
            except BaseException:
                client.leave()
                raise
            client.leave()
        time.sleep(_LOOK_S)  # nobody is there: the emulator of an earlier run is about to leave


def check_options(state_dir: Path, options: ServerOptions) -> None:
    """Raises RunError where `join_server` would because the emulator runs already; makes and changes nothing."""
    if not (wanted := options.words()):
        return
    deadline = time.monotonic() + _LEAVING_S
    while (record := server_record.announced(state_dir)) is not None and _answers(record):
        if time.monotonic() > deadline:
            raise _served(state_dir, wanted)
        time.sleep(_LOOK_S)


def _served(state_dir: Path, wanted: Sequence[str]) -> RunError:
    return RunError(
        f"ftsim: the emulator of {state_dir} runs already, and {' '.join(wanted)} would change it for others too: "
        "give another --state-dir, or use `ftsim quirk on`"
    )


def default_server_command(state_dir: Path) -> list[str]:
    """The server process: announces itself in the state folder and stops when its clients have gone.

    It imports torch while the program imports what it needs, and not when the program waits for its first trainer.
    """
    words = ["serve", "--state-dir", str(state_dir), "--port", "0", "--warm", "--until-deserted"]
    return [sys.executable, "-m", "ftsim", *words]


def _answers(record: ServerRecord) -> bool:
    """Say whether the announced server lives; one that is too busy to answer in time does."""
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise RunError(f"ftsim: another user's emulator (process {record.pid}) serves this state folder") from error
    try:
        ending.ask(f"{record.url}/healthz", record.api_key, timeout_s=HEALTH_TIMEOUT)
    except TimeoutError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _start(attendance: Attendance, command: list[str]) -> ServerRecord:
    """Start a detached server and wait for its announcement."""
    attendance.server_file.unlink(missing_ok=True)
    log = attendance.state_dir / "server.log"
    environment = os.environ | {"PYTHONPATH": joined(str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"), os.pathsep)}
    environment.pop("PYTHONWARNINGS", None)  # how the program takes warnings is its own affair
    if forward.OPTION in command:
        command = [word for word in command if word != forward.OPTION]
        environment |= forward.server_variables(attendance.state_dir, environment["PYTHONPATH"])
    with log.open("ab") as output:
        server = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    Thread(target=server.wait, daemon=True).start()  # no zombie, should this process outlive the server
    pause, poll = Event(), 0.02
    for _ in range(int(START_TIMEOUT / poll)):
        record = attendance.server()
        if record is not None:
            return record
        if server.poll() is not None:
            said = _tail(log)
            if (last := said.rpartition("\n")[2]).startswith("ftsim: "):  # it knows why, and said so
                raise RunError(last)
            raise RunError(f"ftsim: the emulator stopped while starting; the end of {log}:\n{said}")
        pause.wait(poll)
    server.kill()
    raise RunError(f"ftsim: the emulator did not start within {START_TIMEOUT:.0f} s; see {log}")


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _pass_signals_to(child: subprocess.Popen[bytes]) -> dict[int, "signal._HANDLER"]:
    """Let the program decide what Ctrl-C means (the terminal sends it one too) and hand SIGTERM on."""
    try:
        return {
            signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number)),
        }
    except ValueError:  # not the main thread: nobody but the caller can decide
        return {}
