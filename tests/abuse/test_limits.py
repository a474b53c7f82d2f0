"""Requests that ask for more than one may: refused at once, in little memory, while others are answered."""

import contextlib
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.core import limits
from emulator.core.errors import Unavailable
from emulator.http import budget, listener
from emulator.http.budget import Budget
from emulator.server import Emulator
from tests.doubles import BASE
from tests.http.gateway.conftest import Wire
from tests.journal.test_journal import make_job
from tests.state.test_power import serving

MIB = 1024**2
ANSWER_S, OTHERS_S = map(float, os.environ.get("FTSIM_ABUSE_S", "15,5").split(","))
"""Until the answer, after the last byte, and of the slowest GET meanwhile; `tox -e abuse` sets 2 and 0.3."""
SAMPLER = "/inference/v1/completions"


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(state_dir=tmp_path / "state") as emulator:
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}, timeout=60) as client:
        yield client


class Bystander:
    """Asks for the accounts all the time, and knows how long the slowest answer took."""

    def __init__(self, emu: Emulator) -> None:
        self._emu = emu
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.slowest = 0.0

    def __enter__(self) -> "Bystander":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._emu.url, headers={"X-Api-Key": self._emu.api_key}, timeout=60) as http:
            http.get("/v1/accounts")
            while not self._over.wait(0.01):
                began = time.perf_counter()
                assert http.get("/v1/accounts").status_code == 200
                self.slowest = max(self.slowest, time.perf_counter() - began)


def ask(**more: Any) -> dict[str, Any]:
    return {"model": BASE, "prompt": [1, 2], "max_tokens": 1, **more}


def token_ids(size: int) -> bytes:
    return b'{"model":"%s","prompt":[%s1]}' % (BASE.encode(), b"1," * (size // 2))


def datums(size: int) -> bytes:
    ids = b"1234," * (size // 5)
    return b'{"forward_backward_input":{"data":[{"model_input":{"chunks":[{"tokens":[%s1]}]}}]}}' % ids


def empty_lists(size: int) -> bytes:
    return b'{"model":"%s","messages":[%s[]]}' % (BASE.encode(), b"[]," * (size // 3))


def stops(count: int) -> bytes:
    return json.dumps(ask(stop=[str(n) for n in range(count)])).encode()


def text(size: int) -> bytes:
    return json.dumps(ask(prompt="ab " * (size // 3))).encode()


def rows(_: int) -> bytes:
    return json.dumps(ask(n=128, logprobs=20, max_tokens=200)).encode()


def prompts(count: int) -> bytes:
    return json.dumps(ask(prompt=[[1, 2]] * count)).encode()


def choices(_: int) -> bytes:
    return json.dumps(ask(prompt=[[1, 2]] * 128, n=128)).encode()


def long_stop(size: int) -> bytes:
    return json.dumps(ask(stop="a" * size)).encode()


TRAINER = "/training/v1/rlorTrainerJobs/local/j1/api/v1/forward_backward"
ABUSES = [
    pytest.param(SAMPLER, token_ids, 24 * MIB, 413, id="token ids"),
    pytest.param(SAMPLER, token_ids, 100 * MIB, 413, id="100 MB of token ids"),
    pytest.param(SAMPLER, text, 10 * MIB, 400, id="a prompt of 10 MB"),
    pytest.param(SAMPLER, stops, 10**6, 400, id="a million stop strings"),
    pytest.param(SAMPLER, long_stop, 10 * MIB, 400, id="a stop string of 10 MB"),
    pytest.param(SAMPLER, rows, 0, 400, id="128 choices with 20 rows"),
    pytest.param(SAMPLER, prompts, 1000, 400, id="1,000 prompts"),
    pytest.param(SAMPLER, choices, 0, 400, id="128 choices of 128 prompts"),
    pytest.param("/inference/v1/chat/completions", empty_lists, 30 * MIB, 413, id="empty lists"),
    pytest.param(TRAINER, datums, 100 * MIB, 413, id="a datum of 100 MB"),
]


@pytest.mark.parametrize(("path", "made", "size", "status"), ABUSES)
def test_a_request_that_costs_too_much_is_refused(
    emu: Emulator, http: httpx.Client, path: str, made: Any, size: int, status: int
) -> None:
    make_job(http)
    content = made(size)
    with Bystander(emu) as others:
        before, sent = resident(), list[float]()
        answer = http.post(path, content=chunks(content, sent))
        spent = time.perf_counter() - sent[0]
    assert (answer.status_code, "send" in answer.text or "at most" in answer.text or "context" in answer.text) == (
        status,
        True,
    ), answer.text[:500]
    assert spent < ANSWER_S
    assert resident() - before < 500 * MIB
    assert others.slowest < OTHERS_S
    assert http.post(SAMPLER, json=ask()).status_code == 200


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the address space of a process is limited on Linux")
def test_a_process_with_little_memory_refuses_them_all_and_lives(tmp_path: Path) -> None:
    """Under `ulimit -v` of 1.5 GiB: one after the other, and then four of the largest at once."""
    limit = 3 * 512 * MIB
    before = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit})); "
    with (
        serving(tmp_path / "state", {"MALLOC_ARENA_MAX": "2"}, before) as (process, url),
        httpx.Client(base_url=url, headers={"X-Api-Key": "fw-ftsim-local"}, timeout=60) as http,
    ):
        make_job(http)
        for param in ABUSES:
            path, made, size, _ = param.values
            answer = http.post(str(path), content=chunks(made(size), []))  # type: ignore[operator]
            assert 400 <= answer.status_code < 500 or answer.status_code in (503, 507), (param.id, answer.text[:300])
            assert http.post(SAMPLER, json=ask()).status_code == 200, param.id
        large = datums(40 * MIB)
        with ThreadPoolExecutor(4) as asking:
            asked = [asking.submit(http.post, TRAINER, content=chunks(large, [])) for _ in range(4)]
            assert {one.result().status_code for one in asked} <= {400, 413, 503}
        assert process.poll() is None
        assert Wire(http).run("save_weights", 1, path="step-1")["path"] == "step-1"


def chunks(content: bytes, sent: list[float]) -> Iterator[bytes]:
    """The body as it leaves; when the last byte did is noted in `sent`."""
    for at in range(0, len(content), MIB):
        yield content[at : at + MIB]
    sent.append(time.perf_counter())


def resident() -> int:
    """The most memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_the_budget_follows_the_memory_that_is_free(
    emu: Emulator, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(http)
    body = datums(2 * MIB)
    assert http.post(TRAINER, content=body).status_code == 400  # it is read, and names no model
    monkeypatch.setattr(budget, "free_memory", lambda: 40 * MIB)
    refused = http.post(TRAINER, content=body)
    assert (refused.status_code, "40 MiB are free" in refused.json()["message"]) == (413, True)
    assert http.post(SAMPLER, json=ask()).status_code == 200


def test_bodies_share_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    shared, body = Budget(), b"1," * (160 * 1024)  # over 10 MiB once it is read
    shares = [shared.share() for _ in range(5)]
    monkeypatch.setattr(budget, "free_memory", lambda: (100 - 10 * sum(one.open for one in shares)) * MIB)
    for one in shares[:4]:
        one.count(body)
    with pytest.raises(Unavailable, match="other requests hold the memory"):
        shares[4].count(body)
    shares[0].close()
    shared.share().count(body)


def test_free_memory_is_what_the_tightest_limit_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = budget.free_memory()
    assert machine > 0
    monkeypatch.setattr(resource, "getrlimit", lambda _: (machine // 2, machine // 2))
    assert budget.free_memory() < machine // 2


HEAD = b"POST /v1/accounts/local/rlorTrainerJobs HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: KEY\r\n"


@pytest.mark.parametrize("sent", [b"", HEAD[:50], HEAD + b"Content-Length: 9\r\n\r\n{"])
def test_a_connection_that_says_no_more_is_closed(
    emu: Emulator, http: httpx.Client, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    for name in ("HEAD_S", "BODY_S"):
        monkeypatch.setattr(limits, name, limits.TABLE[name]._replace(value=1))
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", emu.port), 10) as connection:
        connection.sendall(sent.replace(b"KEY", emu.api_key.encode()))
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1000) == b""
    assert time.perf_counter() - began < 15
    assert http.get("/v1/accounts").status_code == 200


def test_a_client_that_dies_while_it_sends_is_one_line_of_the_journal(
    emu: Emulator, http: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    make_job(http)
    head = HEAD.replace(b"KEY", emu.api_key.encode()).replace(b"/v1/accounts/local/rlorTrainerJobs", TRAINER.encode())
    with socket.create_connection(("127.0.0.1", emu.port), 10) as connection:
        connection.sendall(head + b"Content-Length: 900\r\n\r\n" + b"[" * 500)
        time.sleep(0.05)
    until = time.monotonic() + 20
    while time.monotonic() < until and [one.status for one in emu.journal if one.path == TRAINER] != [499]:
        time.sleep(0.01)
    assert [one.status for one in emu.journal if one.path == TRAINER] == [499]
    assert caplog.records == []


def test_few_descriptors_are_kept_for_work(emu: Emulator, http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle connections make room; a save goes on all the while."""
    make_job(http)
    wire = Wire(http)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = socket.socket()
    monkeypatch.setattr(listener, "_most_descriptors", lambda: used.fileno() + 30 + limits.DESCRIPTORS.value)
    held = []
    try:
        for _ in range(40):
            held.append(socket.create_connection(("127.0.0.1", emu.port), 10))
        assert wire.run("save_weights", 1, path="step-1")["path"] == "step-1"
        first = httpx.get(f"{emu.url}/v1/accounts", headers={"X-Api-Key": emu.api_key})
        assert (first.status_code, "descriptors" in first.text) == (503, True)
        time.sleep(1.1)
        later = httpx.get(f"{emu.url}/v1/accounts", headers={"X-Api-Key": emu.api_key})
        assert later.status_code == 200
        assert wire.run("save_weights", 2, path="step-2")["path"] == "step-2"
    finally:
        for one in [*held, used]:
            one.close()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def test_the_page_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    assert "\n".join(limits.table()) in page
