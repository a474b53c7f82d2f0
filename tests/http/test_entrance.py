"""A client is answered while the application is still being imported."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.http import app
from emulator.server import Emulator
from tests.doubles import DictBackend

KEY = {"X-Api-Key": "fw-ftsim-local"}


class Held:
    """An emulator whose application is there when `release` is set."""

    def __init__(self, emu: Emulator, started: "Future[Emulator]", release: threading.Event) -> None:
        self.emu, self.started, self.release = emu, started, release

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.emu.url + path, headers=KEY, timeout=20)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@contextlib.contextmanager
def held(emu: Emulator, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, create: Any) -> Iterator[Held]:
    importing, release = threading.Event(), threading.Event()

    def create_late(*args: Any, **kwargs: Any) -> Any:
        importing.set()
        assert release.wait(20)
        return create(*args, **kwargs)

    monkeypatch.setattr(app, "create_app", create_late)
    started = pool.submit(emu.start)
    try:
        assert importing.wait(20)
        yield Held(emu, started, release)
    finally:
        release.set()
        emu.stop()


def test_health_is_answered_and_all_else_waits(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(Emulator(DictBackend(tmp_path)), pool, monkeypatch, app.create_app) as door:
        early = door.get("/healthz")
        waiting = [pool.submit(door.get, path) for path in ("/v1/accounts", "/readyz")]
        with pytest.raises(TimeoutError):
            waiting[0].result(0.2)
        door.release.set()
        assert [asked.result(20).status_code for asked in waiting] == [200, 200]
        assert door.started.result(20) is door.emu
        late = door.get("/healthz")
        assert (early.status_code, early.content, early.headers["content-type"]) == (
            late.status_code,
            late.content,
            late.headers["content-type"],
        )
        assert [exchange.status for exchange in door.emu.journal.of("GET /healthz")] == [200, 200]
        assert len(door.emu.journal) == 4


def test_those_who_wait_are_refused_when_the_start_fails(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise ImportError("half an installation")

    with held(Emulator(DictBackend(tmp_path)), pool, monkeypatch, broken) as door:
        waiting = pool.submit(door.get, "/v1/accounts")
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        door.release.set()
        refused = waiting.result(20)
        assert (refused.status_code, refused.json()["message"]) == (503, "the emulator did not start")
        with pytest.raises(ImportError, match="half an installation"):
            door.started.result(20)
    with pytest.raises(httpx.ConnectError):
        door.get("/healthz")


def test_what_is_prepared_holds_for_the_first_request(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(emu: Emulator) -> None:
        emu.quirks.set("http.fail", 503, times=1)

    with held(Emulator(DictBackend(tmp_path), prepare=prepare), pool, monkeypatch, app.create_app) as door:
        waiting = pool.submit(door.get, "/v1/accounts")
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        door.release.set()
        assert waiting.result(20).status_code == 503
        assert door.get("/v1/accounts").status_code == 200


def test_health_needs_no_web_framework() -> None:
    """The import of these is most of a start: nothing before the entrance may need them."""
    heavy = ("fastapi", "starlette", "pydantic", "httpx", "jsonschema")
    program = (
        f"import sys, ftsim.cli.main, ftsim.process.serve\nprint([name for name in {heavy} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
