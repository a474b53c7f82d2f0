"""`ftsim record`: what passes is kept, and passes as it came."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fireworks.training.sdk import FireworksClient, TrainerJobConfig, TrainerJobManager
from fireworks.training.sdk.client import FiretitanServiceClient
from typer.testing import CliRunner

from emulator.journal import file as journal_file
from emulator.server import Emulator
from ftsim.cli.main import app
from ftsim.inspect.listing import parse
from ftsim.inspect.replay import replay
from ftsim.process.record import Recording
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import datum
from tests.sdk import types

KEY = "fw-a-key-that-must-not-be-written"


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path / "base"), api_key=KEY) as emulator:
        yield emulator


@pytest.fixture
def recording(emu: Emulator, tmp_path: Path) -> Iterator[Recording]:
    with Recording(emu.url, tmp_path / "recorded.jsonl") as opened:
        yield opened


def live(url: str) -> None:
    """A run's life: a job, a step, saves, a resume, a promotion."""
    manager = TrainerJobManager(api_key=KEY, base_url=url)
    manager.create_and_wait(TrainerJobConfig(base_model=BASE, lora_rank=8, requested_job_id="j1"))
    service = FiretitanServiceClient(base_url=f"{url}/training/v1/rlorTrainerJobs/local/j1", api_key=KEY)
    training = service.create_training_client(base_model=BASE, lora_rank=8)
    training.forward_backward([datum(1, 2, 3)], "cross_entropy").result()
    training.optim_step(types.AdamParams(learning_rate=0.1)).result()
    training.save_state("step-1").result()
    training.save_weights_for_sampler_ext("step-1", checkpoint_type="base")
    training.load_state_with_optimizer("step-1").result()
    with FireworksClient(api_key=KEY, base_url=url) as client:
        row = next(row for row in client.list_checkpoints("j1") if row["promotable"])
        client.promote_checkpoint(name=row["name"], output_model_id="m1", base_model=BASE)
    service.close()
    manager.close()


def test_a_life_cycle_is_recorded_without_keys_and_replayed_to_equal_answers(
    emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    file = tmp_path / "recorded.jsonl"
    with Recording(emu.url, file) as recording:
        live(recording.url)
    raw = file.read_bytes()
    assert KEY.encode() not in raw
    with file.open("rb") as lines:
        saved = journal_file.read(lines)
    assert len(saved.exchanges) == len(emu.journal) > 15
    assert saved.header["account"] == "local"
    for mine, theirs in zip(saved.exchanges, emu.journal, strict=True):
        assert (mine.method, mine.path, mine.status, mine.response) == (
            theirs.method,
            theirs.path,
            theirs.status,
            theirs.response,
        )
    again = replay(saved, DictBackend(tmp_path / "again"))
    assert (again.differences, again.skipped) == ([], [])
    assert again.compared > 15
    rows = parse(raw.decode())
    assert [row.short_type for row in rows] == ["TRAINING_LORA", "INFERENCE_LORA"]


def test_a_stream_passes_in_pieces_as_they_come(tmp_path: Path) -> None:
    """The second piece is sent only when the client says that it has the first."""
    had = threading.Event()

    def serve(sock: socket.socket) -> None:
        connection, _ = sock.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.sendall(b"7\r\ndata: 1\r\n")
        assert had.wait(10)
        connection.sendall(b"7\r\ndata: 2\r\n0\r\n\r\n")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as sock:
        threading.Thread(target=serve, args=(sock,), daemon=True).start()
        with Recording(f"http://127.0.0.1:{sock.getsockname()[1]}", tmp_path / "r.jsonl") as recording:
            with httpx.stream("POST", f"{recording.url}/v1/completions", json={"stream": True}) as answer:
                pieces = answer.iter_raw()
                assert next(pieces) == b"data: 1"
                had.set()
                assert b"".join(pieces) == b"data: 2"
            (kept,) = recording.journal
            assert (kept.response, kept.json) == (b"data: 1data: 2", {"stream": True})


def test_a_broken_connection_breaks_the_clients_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    asked = []

    def serve(sock: socket.socket) -> None:
        for answer in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"):
            connection, _ = sock.accept()
            asked.append(connection.recv(65536))
            connection.sendall(answer)
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as sock:
        threading.Thread(target=serve, args=(sock,), daemon=True).start()
        target = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with Recording(target, tmp_path / "r.jsonl") as recording:
            for _ in range(2):
                with pytest.raises(httpx.TransportError):
                    httpx.get(f"{recording.url}/v1/accounts")
            assert len(asked) == 2
            first, second = recording.journal
            assert (first.status, second.status, second.response) == (0, 200, b"half")
            assert "RemoteProtocolError" in first.error
            assert "RemoteProtocolError" in second.error
    with Recording(target, tmp_path / "r2.jsonl") as recording:  # nobody listens there any more
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{recording.url}/v1/accounts")
        assert "ConnectError" in next(iter(recording.journal)).error


def test_a_client_that_goes_away_ends_the_request_at_the_service(tmp_path: Path) -> None:
    gone = threading.Event()

    def serve(sock: socket.socket) -> None:
        connection, _ = sock.accept()
        with connection:
            connection.recv(65536)
            if connection.recv(1) == b"":  # the other side has closed
                gone.set()

    with socket.create_server(("127.0.0.1", 0)) as sock:
        threading.Thread(target=serve, args=(sock,), daemon=True).start()
        with Recording(f"http://127.0.0.1:{sock.getsockname()[1]}", tmp_path / "r.jsonl") as recording:
            with pytest.raises(httpx.ReadTimeout):
                httpx.get(f"{recording.url}/v1/accounts", timeout=0.3)
            assert gone.wait(10)


def test_the_command_writes_a_journal_until_it_is_told_to_stop(emu: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]

    def ask() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-Api-Key": KEY}) as client:
            for _ in range(500):
                try:
                    client.get("/v1/accounts")
                    break
                except httpx.ConnectError:
                    time.sleep(0.01)
            client.get("/v1/accounts/local/models", params={"key": KEY})
        os.kill(os.getpid(), signal.SIGINT)

    asking = threading.Thread(target=ask)
    asking.start()
    words = ["record", "--to", emu.url, "--port", str(port), "--file", str(file)]
    result = CliRunner().invoke(app, words, prog_name="ftsim")
    asking.join()
    assert result.exit_code == 0, result.output
    assert f"export FIREWORKS_BASE_URL=http://127.0.0.1:{port}" in result.output
    assert "2 exchanges are in" in result.output
    header, *entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert header["kind"] == "journal"
    assert [entry["account"] for entry in entries] == ["local", "local"]
    assert KEY not in file.read_text()


@pytest.mark.parametrize("target", ["nonsense", "http://", "ftp://host", "http://host/path"])
def test_what_is_no_address_is_refused_in_one_line(target: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no address of a service"):
        Recording(target, tmp_path / "r.jsonl")


def test_what_was_recorded_is_in_the_file_soon(
    recording: Recording, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    httpx.get(f"{recording.url}/healthz")
    deadline = time.monotonic() + 20
    while "healthz" not in recording.file.read_text():
        recording._write()
        assert time.monotonic() < deadline
