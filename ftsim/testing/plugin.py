"""The pytest plugin, found through its entry point: ask for a fixture and a platform is there.

| fixture | what it is |
|---|---|
| `fireworks_emulator` | an `Emulator`, empty at the start of every test; one server per process, reset, not restarted |
| `fireworks_session` | an `Emulator` of its own that keeps what it has for the whole session |
| `fireworks_module` | the same for the tests of one module |
| `fireworks_session_env`, `fireworks_module_env` | the environment points every client at one of these two |
| `fireworks_env` | the environment points every client at `fireworks_emulator`; the value is the mapping that was set |
| `fireworks_api` | a respx router that answers https://api.fireworks.ai in this process, from `fireworks_emulator` |

With either of the last two the models' Hugging Face names are small tokenizers, as under `ftsim run`.

`@pytest.mark.quirk(name, value, **selectors)` turns a quirk on for a test; `times` and `for_s` are its budget.
`@pytest.mark.backend("light")` computes without a model and without torch: what the client sends and gets is tested,
not what a model learns.
`@pytest.mark.platform("2026-08")` is the service as it was then, its switches and its catalogue.
The clock is held (`emulator.core.clock`): what takes time takes it when a test says `fireworks_emulator.clock.advance`,
or while a client waits for it. `@pytest.mark.fast_forward` puts the test, its child processes and the emulator on one
clock: when all that could run sleeps, it moves to the next deadline (docs/fast-forward.md).
`--ftsim-bundle DIR` leaves state and journal of every failed test there; `ftsim state open` replays one. A replay needs
no weights, so they are left out unless `--ftsim-bundle-blobs last` (of the newest row of each job) or `all` is given.
Nothing heavier than pytest is imported here; the emulator is by the first fixture, torch by the first trainer.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ftsim.testing import draws

if TYPE_CHECKING:
    from emulator.journal.journal import Exchange
    from emulator.server import Emulator
    from emulator.state.entities import Session

SHOWN_EXCHANGES = 20
_MARKER = (
    "quirk(name, value, *, times=None, for_s=None, **selectors): a failure of production for this test's "
    "fireworks_emulator; docs/quirks.md lists names, values, and what each can be selected by, such as job or endpoint"
)
_PLATFORM_MARKER = (
    'platform(date): the service as it was then, for this test\'s fireworks_emulator: "2026-04", "2026-08" or '
    '"2026-11" (the default)'
)
_BACKEND_MARKER = (
    'backend(name): what computes for this test\'s fireworks_emulator: "torch" (real models, the default) or "light" '
    "(neither model nor torch)"
)
_FORWARD_MARKER = "fast_forward: sleeps take no time: when all that could run sleeps, time moves to the next deadline"
_BACKENDS = {"torch": "_fireworks_server", "light": "_fireworks_light_server"}
_EMULATOR = "fireworks_emulator"
_LASTING = pytest.StashKey[list["Emulator"]]()
"""The emulators that are not reset between tests."""
_KEPT = pytest.StashKey[set[str]]()
"""Training sessions that fixtures of several tests have opened."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fireworks emulator")
    group.addoption(
        "--ftsim-bundle",
        metavar="DIR",
        help="leave a bundle of every failed test here: state, journal, versions; `ftsim state open FILE` replays it",
    )
    group.addoption(
        "--ftsim-bundle-blobs",
        choices=("none", "last", "all"),
        default="none",
        help="weights in a bundle: none (a replay makes them again), last: of the newest row of each job, all",
    )


def pytest_configure(config: pytest.Config) -> None:
    for marker in (_MARKER, _BACKEND_MARKER, _PLATFORM_MARKER, _FORWARD_MARKER):
        config.addinivalue_line("markers", marker)
    config.pluginmanager.register(draws)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Share a clock from here on where a test asks for it: threads and locks made later are those that can be seen."""
    if any(item.get_closest_marker("fast_forward") for item in session.items) and not session.config.option.collectonly:
        from ftsim.testing.forward import install

        session.config.add_cleanup(install())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    if item.get_closest_marker("fast_forward") is None:
        return (yield)
    from ftsim.testing.forward import moving

    with moving():
        return (yield)


@pytest.fixture(scope="session")
def _fireworks_server() -> "Iterator[Emulator]":
    with _started() as server:
        yield server


@pytest.fixture(scope="session")
def _fireworks_light_server() -> "Iterator[Emulator]":
    from emulator.core.clock import Clock
    from ftsim import Emulator

    with Emulator(backend="light", clock=Clock(held=True)) as server:
        yield server


@pytest.fixture
def fireworks_emulator(request: pytest.FixtureRequest) -> "Iterator[Emulator]":
    """An empty platform with the backend and the quirks that this test's markers ask for."""
    server: Emulator = request.getfixturevalue(_BACKENDS[_backend(request.node)])
    server.hand_over()
    server.clock.start_anew()
    server.move_to(_platform(request.node))
    for mark in reversed(list(request.node.iter_markers("quirk"))):
        _turn_on(server, mark)
    yield server
    server.quirks.clear()


def _turn_on(server: "Emulator", mark: pytest.Mark) -> None:
    """Turn on the quirk of a marker; one that cannot be fails the test in one line."""
    from emulator.core.errors import PlatformError

    if len(mark.args) != 2:
        pytest.fail(f"quirk takes a name and a value, then selectors; got {mark.args!r}", pytrace=False)
    try:
        server.quirks.set(*mark.args, **mark.kwargs)
    except (PlatformError, ValueError, TypeError) as error:
        shown = ", ".join([*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())])
        pytest.fail(f"@pytest.mark.quirk({shown}): {' '.join(str(error).split())}", pytrace=False)


def _backend(item: pytest.Item) -> str:
    """Read what the nearest `backend` marker asks for."""
    mark = item.get_closest_marker("backend")
    if mark is None:
        return "torch"
    if len(mark.args) != 1 or mark.kwargs or mark.args[0] not in _BACKENDS:
        pytest.fail(f"backend takes one of {', '.join(map(repr, _BACKENDS))}; got {mark.args!r}", pytrace=False)
    return str(mark.args[0])


def _platform(item: pytest.Item) -> str:
    """Read what the nearest `platform` marker asks for."""
    from emulator.core.catalogue import NEWEST, platform_of

    mark = item.get_closest_marker("platform")
    if mark is None:
        return NEWEST
    if len(mark.args) != 1 or mark.kwargs:
        pytest.fail(f"platform takes a date; got {mark.args!r}", pytrace=False)
    try:
        return platform_of(str(mark.args[0]))
    except ValueError as error:
        pytest.fail(str(error), pytrace=False)


def _started() -> "Emulator":
    """An emulator with real models; without their extra the test fails in one sentence."""
    from emulator.core.clock import Clock
    from ftsim import Emulator
    from ftsim.extras import MissingExtraError

    try:
        return Emulator(clock=Clock(held=True))
    except MissingExtraError as error:
        pytest.fail(f'{error}, @pytest.mark.backend("light")', pytrace=False)


@pytest.fixture(scope="session")
def fireworks_session(pytestconfig: pytest.Config) -> "Iterator[Emulator]":
    """A platform that is never reset, for what many tests only read."""
    with _lasting(pytestconfig) as server:
        yield server


@pytest.fixture(scope="module")
def fireworks_module(pytestconfig: pytest.Config) -> "Iterator[Emulator]":
    """A platform for the tests of one module, which build on each other."""
    with _lasting(pytestconfig) as server:
        yield server


@contextmanager
def _lasting(config: pytest.Config) -> "Iterator[Emulator]":
    """An emulator of several tests, whose training sessions end with the test that opened them."""
    with _started() as server:
        lasting = config.stash.setdefault(_LASTING, [])
        lasting.append(server)
        try:
            yield server
        finally:
            lasting.remove(server)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Any:
    """Note the training sessions that a fixture of several tests opens: they are there until these are over."""
    if fixturedef.scope == "function":
        return (yield)
    before = _sessions(request.config)
    value = yield
    request.config.stash.setdefault(_KEPT, set()).update(_sessions(request.config).keys() - before.keys())
    return value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Any:
    """End the training sessions that a test has opened on an emulator of several tests: the pool has few places."""
    result = yield
    kept = item.config.stash.get(_KEPT, set())
    for name, (server, session) in _sessions(item.config).items():
        if name not in kept:
            server.platform.sessions.leave(session)
    return result


def _sessions(config: pytest.Config) -> "dict[str, tuple[Emulator, Session]]":
    """The training sessions that run on emulators of several tests, by name."""
    servers = [server for server in config.stash.get(_LASTING, []) if server.running]
    return {one.name: (server, one) for server in servers for one in server.world.sessions if one.running}


@pytest.fixture(scope="session")
def fireworks_session_env(fireworks_session: "Emulator") -> Iterator[dict[str, str]]:
    """The environment points every client at `fireworks_session` until the session ends."""
    with pytest.MonkeyPatch.context() as patch:
        yield _set(patch, fireworks_session)


@pytest.fixture(scope="module")
def fireworks_module_env(fireworks_module: "Emulator") -> Iterator[dict[str, str]]:
    """The environment points every client at `fireworks_module` until the module ends."""
    with pytest.MonkeyPatch.context() as patch:
        yield _set(patch, fireworks_module)


def _set(patch: pytest.MonkeyPatch, server: "Emulator") -> dict[str, str]:
    variables = server.env()
    for name, value in variables.items():
        patch.setenv(name, value)
    return variables


@pytest.fixture(scope="session")
def _hub_variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A hub cache of small tokenizers, as under `ftsim run`."""
    from ftsim.compute.models import hub

    return hub.build(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def _hub(_hub_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """`Qwen/Qwen3-8B` and the like are tokenizers for this test; the variables that are set for it."""
    if find_spec("huggingface_hub") is not None:
        # The library reads its environment once; imported here, it keeps what it read for the tests that come after.
        import huggingface_hub.constants  # noqa: F401

        from ftsim.compute.models import hub

        for (module, name), value in hub.read_once(_hub_variables).items():
            monkeypatch.setattr(sys.modules[module], name, value)
    for name, value in _hub_variables.items():
        monkeypatch.setenv(name, value)
    return _hub_variables


@pytest.fixture
def fireworks_env(
    fireworks_emulator: "Emulator", _hub: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """FIREWORKS_API_KEY and the other variables of `Emulator.env`, and those of the hub, set for this test."""
    return {**_set(monkeypatch, fireworks_emulator), **_hub}


@pytest.fixture
def fireworks_api(
    fireworks_emulator: "Emulator", _hub: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Control plane, inference and hot-load without a socket; a trainer's own traffic goes to the emulator's port.

    The SDK speaks to trainers through a client that no mock sees, so FIREWORKS_TRAINER_GATEWAY_URL names the port.
    """
    from ftsim.testing.respx_routes import answered_by

    monkeypatch.delenv("FIREWORKS_BASE_URL", raising=False)
    monkeypatch.setenv("FIREWORKS_API_KEY", fireworks_emulator.api_key)
    monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", fireworks_emulator.account)
    monkeypatch.setenv("FIREWORKS_TRAINER_GATEWAY_URL", fireworks_emulator.url)
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    with answered_by(fireworks_emulator) as router:
        yield router


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    marked = next(item.iter_markers("quirk"), None)
    if marked is not None and _EMULATOR not in getattr(item, "fixturenames", ()):
        pytest.fail(
            f"the quirk marker needs one of the fixtures {_EMULATOR}, fireworks_env, fireworks_api", pytrace=False
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed test shows what the platform was asked last."""
    report = yield
    server = getattr(item, "funcargs", {}).get(_EMULATOR)
    if report.failed and server is not None:
        from emulator.journal.journal import groups

        lines = [_line(group) for group in groups(server.journal)[-SHOWN_EXCHANGES:]]
        report.sections.append(("fireworks emulator, last exchanges", "\n".join(lines) or "none"))
        if folder := item.config.getoption("--ftsim-bundle"):
            failure = f"{item.nodeid} ({report.when})\n\n{report.longreprtext}"
            told = _leave_bundle(server, item, failure, folder)
            report.sections.append(("fireworks emulator, bundle", told))
    return report


def _line(group: "Sequence[Exchange]") -> str:
    """One line for equal failures in a row, and for anything else."""
    shown, more = group[0], f" ×{len(group)}" if len(group) > 1 else ""
    return f"{shown.status} {shown.method} {shown.path} ({1000 * shown.seconds:.0f} ms){more}"


def _leave_bundle(server: "Emulator", item: pytest.Item, failure: str, folder: str) -> str:
    """Write a bundle of a failed test; what became of it. Never fails: the test's own failure is what matters."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", item.nodeid).strip("-")[-150:]
    file = Path(folder) / f"{name}.zip"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        server.bundle(file, {"failure.txt": failure}, item.config.getoption("--ftsim-bundle-blobs"))
    except Exception as error:
        return f"no bundle could be written: {error}"
    return f"{file}\nreplay it, here or on another machine: ftsim state open {shlex.quote(str(file))}"
