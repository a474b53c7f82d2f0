"""A test that ran before cannot reach into one that comes after it; a platform that was stopped is there again."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from emulator.core.keys import Keys
from emulator.server import Emulator
from ftsim.compute.backend import TorchBackend
from ftsim.testing.tiny import NAME, tiny_model

JOBS = "/v1/accounts/local/rlorTrainerJobs"
BODY = {"trainingConfig": {"baseModel": "accounts/fireworks/models/qwen3-8b"}}


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator(backend="light") as running:
        yield running


def client(server: Emulator) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"X-Api-Key": server.api_key}, timeout=10)


def jobs(http: httpx.Client) -> list[str]:
    return [job["name"] for job in http.get(JOBS).json()["rlorTrainerJobs"]]


def test_a_key_of_the_test_before_is_refused_and_leaves_no_trace(server: Emulator) -> None:
    server.hand_over()
    with client(server) as former:
        assert former.post(JOBS, params={"rlorTrainerJobId": "former"}, json=BODY).status_code == 200
        server.hand_over()
        with client(server) as present, httpx.Client(base_url=server.url) as fresh:
            assert jobs(present) == []
            before = len(list(server.journal))
            for headers in (
                {"X-Api-Key": former.headers["X-Api-Key"]},
                {"Authorization": f"Bearer tml-{former.headers['X-Api-Key']}"},
            ):
                refused = fresh.post(JOBS, params={"rlorTrainerJobId": "former"}, json=BODY, headers=headers)
                assert refused.status_code == 401
            assert jobs(present) == []
            assert len(list(server.journal)) == before + 1
            assert fresh.get(JOBS, headers={"X-Api-Key": "wrong"}).status_code == 401
            assert len(list(server.journal)) == before + 2  # a wrong key is this test's own


def test_connections_of_the_test_before_are_broken(server: Emulator) -> None:
    server.hand_over()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as former:
        former.sendall(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"}"):  # head and body may come apart
            answer += former.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        server.hand_over()
        with contextlib.suppress(ConnectionResetError):
            assert former.recv(4096) == b""


def test_a_thread_of_the_test_before_creates_nothing(server: Emulator) -> None:
    server.hand_over()
    stop, statuses = threading.Event(), set()
    with client(server) as former:

        def hammer() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    statuses.add(former.post(JOBS, params={"rlorTrainerJobId": f"j{number}"}, json=BODY).status_code)
                except httpx.TransportError:
                    continue

        thread = threading.Thread(target=hammer)
        thread.start()
        try:
            for _ in range(8):
                server.hand_over()
                with client(server) as present:
                    assert jobs(present) == []
                    assert [one.path for one in server.journal] == [JOBS]
        finally:
            stop.set()
            thread.join()
    assert 401 in statuses


def test_an_emulator_that_was_stopped_is_there_again() -> None:
    emulator = Emulator(backend="light")
    with emulator:
        emulator.hand_over()
        emulator.stop()
        assert not emulator.running
        emulator.hand_over()
        assert emulator.running
        with client(emulator) as http:
            assert jobs(http) == []
    assert not emulator.running


def test_a_key_that_was_handed_over_is_not_written_down(server: Emulator) -> None:
    server.hand_over()
    former = server.api_key
    server.hand_over()
    assert isinstance(server.keys, Keys)
    assert former in server.keys.retired
    assert former.encode() not in server.journal.redactor.known(f'"{former}" "{server.api_key}"'.encode())


def test_descriptors_and_threads_stay_flat(server: Emulator) -> None:
    def use() -> None:
        server.hand_over()
        with client(server) as http:
            http.post(JOBS, params={"rlorTrainerJobId": "mine"}, json=BODY)

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    for _ in range(5):
        use()
    before = held()
    for _ in range(40):
        use()
    descriptors, threads = held()
    assert descriptors <= before[0] + 2
    assert threads <= before[1] + 1


def training_tests(fireworks_server: Emulator, count: int) -> list[tuple[int, int]]:
    """Do what so many tests with the fixture do: a job, a step, both saves, a promotion, by the vendor's clients.

    Returns descriptors and threads of this process after each.
    """
    from ftsim.testing.clients import Clients, take_step

    held = []
    for number in range(count):
        fireworks_server.hand_over()
        clients = Clients(fireworks_server.url, fireworks_server.api_key, fireworks_server.account)
        try:
            clients.manager.create_and_wait(clients.job_config("job-1"))
            client = clients.training_client("job-1", 0)
            take_step(client, number % 17)
            client.save_state("step-1").result()
            client.save_weights_for_sampler_ext("s-1", checkpoint_type="base")
            rows = clients.manager.list_checkpoints("job-1")
            name = next(row["name"] for row in rows if row["promotable"])
            clients.manager.promote_checkpoint(name=name, output_model_id="m", base_model=NAME)
        finally:
            clients.close()
        held.append((len(os.listdir("/proc/self/fd")), threading.active_count()))
    return held


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors as Linux shows them")
@pytest.mark.parametrize("count", [8, pytest.param(500, marks=pytest.mark.slow)])
def test_descriptors_and_threads_stay_flat_over_tests_that_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setenv("TINKER_TELEMETRY", "0")  # as the fixtures do
    with Emulator(TorchBackend(tmp_path / "base"), models={NAME: tiny_model(tmp_path / "tiny")}) as emulator:
        held = training_tests(emulator, count)
    for at in range(0, count, max(1, count // 10)):
        print(f"after {at + 1} tests: {held[at][0]} descriptors, {held[at][1]} threads")
    first, last = held[count // 4 : count // 2], held[-(count // 4) :]
    assert max(one for one, _ in last) <= max(one for one, _ in first) + 2
    assert max(one for _, one in last) <= max(one for _, one in first) + 2
