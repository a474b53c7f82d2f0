"""A hostile or unlucky surrounding does this to an emulator: a message, and everything that was acknowledged stays."""

import contextlib
import errno
import logging
import os
import pickle
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from emulator.core.clock import Clock
from emulator.core.kinds import CheckpointKind, detect
from emulator.journal.redact import Redactor
from emulator.server import Emulator
from ftsim.cli.main import app
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import Wire
from tests.inspect.test_replay import train
from tests.journal.test_journal import JOBS, make_job

KEY = "fw-key-that-must-not-leak"


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path / "base"), state_dir=tmp_path / "state", api_key=KEY) as emulator:
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": KEY}, timeout=60) as client:
        yield client


def rows(http: httpx.Client) -> list[str]:
    return [row["name"].rsplit("/", 1)[1] for row in http.get(f"{JOBS}/j1/checkpoints").json()["checkpoints"]]


def raw(emu: Emulator, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", emu.port), 10) as connection:
        connection.sendall(request)
        return connection.recv(65536)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 2_000_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(50_000)) + b"\r\n",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 1000,
    ],
    ids=["a huge header", "many headers", "a huge path", "a negative length", "an absurd length", "TLS", "zeros"],
)
def test_a_monstrous_request_does_no_harm(emu: Emulator, http: httpx.Client, request_: bytes) -> None:
    with contextlib.suppress(ConnectionError, TimeoutError):  # cut off is as good as refused
        raw(emu, request_)
    assert http.get("/v1/accounts").status_code == 200


def test_a_header_with_another_key_is_no_way_in(emu: Emulator) -> None:
    for headers in ({}, {"X-Api-Key": ""}, {"X-Api-Key": KEY[:-1]}, {"Authorization": f"Basic {KEY}"}):
        for path in ("/v1/accounts", "/_ftsim/journal", "/_ftsim/snapshot", "/_ftsim/openapi.json"):
            assert httpx.get(emu.url + path, headers=headers).status_code == 401


@pytest.mark.parametrize("name", ["../../evil", "..", ".", "/etc/passwd", "a/../../b", "a\0b", "", "~", "a" * 5000])
@pytest.mark.parametrize("verb", ["save_weights", "save_weights_for_sampler", "load_weights", "load_adapter"])
def test_no_name_reaches_outside(emu: Emulator, http: httpx.Client, tmp_path: Path, verb: str, name: str) -> None:
    make_job(http)
    wire = Wire(http)
    before = {path for path in tmp_path.rglob("*") if emu.platform.blobs.root not in path.parents}
    key = "adapter_path" if verb == "load_adapter" else "path"
    answer = wire.run(verb, 1, **{key: name, "checkpoint_type": "base"})
    if verb.startswith("load") or name != "~":
        assert answer.get("category") == "user", answer
    assert {path for path in tmp_path.rglob("*") if emu.platform.blobs.root not in path.parents} == before


@pytest.mark.parametrize("file", ["..%2F..%2Fmetadata.sqlite", "%2Fetc%2Fpasswd", "%2e%2e", "config.json%00"])
def test_no_file_outside_a_model_is_served(emu: Emulator, http: httpx.Client, file: str) -> None:
    train(http)
    links = http.get("/v1/accounts/local/models/m1:getDownloadEndpoint").json()["filenameToSignedUrls"]
    good = next(iter(links.values()))
    assert httpx.get(good).status_code == 200
    assert httpx.get(good.replace(good.split("/files/")[1].split("?")[0], file)).status_code in (401, 403, 404)
    assert http.get(f"/v1/accounts/local/models/m1/files/{file}").status_code in (400, 403, 404)


@pytest.mark.parametrize("signature", ["", "0" * 64, "%C3%A9"])
def test_a_wrong_signature_opens_no_file(emu: Emulator, http: httpx.Client, signature: str) -> None:
    train(http)
    path = f"{emu.url}/v1/accounts/local/models/m1/files/config.json?expires=99999999999&signature={signature}"
    assert httpx.get(path).status_code == 403


def test_what_another_account_promoted_is_not_built_on(tmp_path: Path) -> None:
    keys = {"theirs": "other"}
    with Emulator(DictBackend(tmp_path / "base"), api_key=KEY, keys=keys) as emulator:
        with httpx.Client(base_url=emulator.url, headers={"X-Api-Key": KEY}, timeout=60) as mine:
            train(mine)
        model, account = "accounts/local/models/m1", "/v1/accounts/other"
        with httpx.Client(base_url=emulator.url, headers={"X-Api-Key": "theirs"}, timeout=60) as http:
            job = {"trainingConfig": {"baseModel": model}}
            warm = {"trainingConfig": {"baseModel": BASE, "warmStartFrom": model}}
            deployment = {"baseModel": model, "acceleratorType": "NVIDIA_H100_80GB", "acceptShapelessRisk": True}
            for path, body in (
                (f"{account}/rlorTrainerJobs", job),
                (f"{account}/rlorTrainerJobs", warm),
                (f"{account}/deployments?deploymentId=d1", deployment),
            ):
                answer = http.post(path, json=body)
                assert (answer.status_code, answer.json()["code"]) == (403, 7), (path, answer.text)
            assert http.get("/v1/accounts/local/models/m1").status_code == 403
        assert len(emulator.world.jobs) == 1
        assert len(emulator.world.deployments) == 0


def test_links_in_a_blob_are_neither_promoted_nor_served(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("secret")
    train(http)
    http.delete("/v1/accounts/local/models/m1")
    row = next(row for row in emu.world.checkpoints if row.kind is CheckpointKind.INFERENCE_BASE)
    (emu.platform.blobs.path(row.blob) / "extra.json").symlink_to(tmp_path / "secret.json")
    body = {"output_model": "accounts/local/models/m2", "trainer_job_id": "accounts/local/rlorTrainerJobs/j1"}
    http.post(f"/v1/accounts/local/checkpoints/{row.id}:promote", json={**body, "base_model": BASE})
    links = http.get("/v1/accounts/local/models/m2:getDownloadEndpoint").json()["filenameToSignedUrls"]
    assert links
    assert "extra.json" not in links


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["FTSIM_BOMB"],)


FILES = (
    "config.json",
    "model.safetensors",
    "adapter_config.json",
    "adapter_model.safetensors",
    ".metadata",
    "__0_0.distcp",
    "training_state.json",
    "tokenizer.json",
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FILES), st.binary(max_size=200), max_size=5))
def test_any_bytes_are_judged_without_a_crash(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("blob")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with contextlib.suppress(ValueError):
        assert detect(folder) in (None, *CheckpointKind)


def test_a_pickle_in_a_blob_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTSIM_BOMB", str(tmp_path / "exploded"))
    bomb = pickle.dumps(Bomb())
    from emulator.backend import BackendError, BaseModel
    from ftsim.compute.backend import TorchBackend

    backend = TorchBackend(tmp_path / "cache")
    for name in FILES:
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        for other in FILES:
            (folder / other).write_bytes(b"{}")
        (folder / name).write_bytes(bomb)
        with pytest.raises(BackendError):
            backend.describe(folder, BaseModel(BASE))
    assert not (tmp_path / "exploded").exists()
    pickle.loads(bomb)
    assert (tmp_path / "exploded").exists()  # it would have


def test_the_key_is_in_no_log(
    emu: Emulator, http: httpx.Client, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG, "emulator")
    caplog.set_level(logging.DEBUG, "uvicorn")
    train(http)
    wire = Wire(http)
    wire.run("forward_backward", 1, forward_backward_input={"data": [{}], "loss_fn": KEY})
    http.get("/v1/nothing", params={"api_key": KEY})
    assert KEY not in caplog.text
    emu.stop()
    texts = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and path.name != "server.json"]
    assert texts
    assert not [path for path in texts if KEY.encode() in path.read_bytes()]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_hiding_keys_never_fails_and_always_hides(before: bytes, after: bytes) -> None:
    assert KEY.encode() not in Redactor([KEY]).bytes(before + KEY.encode() + after)


def test_a_full_disk_is_said_and_loses_nothing(
    emu: Emulator, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(http)
    wire = Wire(http)
    before = rows(http)

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("emulator.state.blobs.os.rename", full)
        assert "no space left" in str(wire.run("save_weights", 1, path="step-9").get("error"))
    assert rows(http) == before
    assert wire.run("save_weights", 2, path="step-9")["path"] == "step-9"


def test_a_file_size_limit_while_saving_loses_nothing(emu: Emulator, http: httpx.Client) -> None:
    """RLIMIT_FSIZE makes the kernel refuse: metadata and blobs alike."""
    make_job(http)
    wire = Wire(http)
    wire.run("save_weights", 1, path="step-1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        failed = wire.run("save_weights", 2, path="step-2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "error" in failed
    assert rows(http) == ["step-1"]
    assert wire.run("save_weights", 3, path="step-3")["path"] == "step-3"
    assert rows(http) == ["step-1", "step-3"]


def test_no_file_descriptor_left_is_survived(emu: Emulator, http: httpx.Client) -> None:
    make_job(http)
    wire = Wire(http)
    wire.run("save_weights", 1, path="step-1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
    held: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.dup(0))
    try:
        failed = wire.run("save_weights", 2, path="step-2")
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "error" in failed
    assert wire.run("save_weights", 3, path="step-3")["path"] == "step-3"
    assert rows(http) == ["step-1", "step-3"]
    with httpx.Client() as fresh:
        assert fresh.get(f"{emu.url}/healthz").status_code == 200


def test_a_clock_that_goes_back_keeps_rows_in_order(tmp_path: Path) -> None:
    wall = [1_800_000_000 * 10**9]
    with (
        Emulator(DictBackend(tmp_path), state_dir=tmp_path / "state", clock=Clock(lambda: wall[0])) as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http,
    ):
        make_job(http)
        wire = Wire(http)
        stamps = []
        for step in range(1, 5):
            wire.run("save_weights", step, path=f"step-{step}")
            wall[0] -= 3600 * 10**9
            stamps = [row["createTime"] for row in http.get(f"{JOBS}/j1/checkpoints").json()["checkpoints"]]
        assert len(set(stamps)) == 4
        assert stamps == sorted(stamps)
        assert rows(http) == [f"step-{step}" for step in range(1, 5)]
        latest = max(row.created for row in emulator.world.checkpoints)
    with Emulator(DictBackend(tmp_path), state_dir=tmp_path / "state", clock=Clock(lambda: 10**9)) as emulator:
        assert emulator.clock.now() > latest


def test_a_pull_gives_the_key_to_nobody_else(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    """Links of a model lead to a storage host: the key is not for it, and the names it gives stay in the folder."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from typer.testing import CliRunner

    seen: list[dict[str, str]] = []

    class Storage(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Storage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}"
        train(http)
        links = {"config.json": f"{at}/a", "../../evil.json": f"{at}/b", "..": f"{at}/c"}
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("emulator.platform.models.downloads.Downloads.links", lambda self, name: links)
            result = CliRunner().invoke(
                app, ["models", "pull", "m1", str(tmp_path / "out"), "--url", emu.url, "--api-key", KEY]
            )
        server.shutdown()
    assert result.exit_code == 1
    assert "is no file name" in result.stderr
    assert all(KEY not in str(headers) for headers in seen)
    assert not (tmp_path / "evil.json").exists()
    assert not (tmp_path.parent / "evil.json").exists()
