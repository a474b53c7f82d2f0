"""docs/deploy: what image, compose file and manifest would start is started, as far as that needs no Docker."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import yaml

from ftsim.cli.main import app

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "docs/deploy"
USER = 10001


def instructions() -> dict[str, list[str]]:
    """The Dockerfile by instruction, lines that go on put together."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    found: dict[str, list[str]] = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(" ".join(rest.split()))
    return found


def manifests() -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8")))


def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]["ftsim"]


def container() -> Any:
    (found,) = manifests()[1]["spec"]["template"]["spec"]["containers"]
    return found


def entrypoint() -> list[str]:
    words: list[str] = json.loads(instructions()["ENTRYPOINT"][0])
    return words


def health() -> list[str]:
    words: list[str] = json.loads(instructions()["HEALTHCHECK"][0].partition("CMD ")[2])
    return words


def test_the_image_holds_what_it_copies_and_runs_without_rights() -> None:
    found = instructions()
    assert set(found) <= {
        *("FROM", "ARG", "COPY", "RUN", "USER", "WORKDIR", "VOLUME", "EXPOSE", "ENV", "ENTRYPOINT", "CMD"),
        "HEALTHCHECK",
    }
    copied = [line.split()[:-1] for line in found["COPY"]]
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for name in [name for line in copied for name in line]:
        assert (ROOT / name).exists()
        assert f"!{name}" in sent, f"{name} is not sent to the builder"
    (forced,) = re.findall(r'force-include\]\n"([^"]+)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    assert [forced] in copied, "the wheel needs it"
    assert found["USER"] == [str(USER)]
    assert f"--uid {USER}" in found["RUN"][0]
    assert json.loads(found["VOLUME"][0]) == ["/state"]
    assert "/state/" in entrypoint()[-1]


@pytest.mark.parametrize("words", [json.loads(instructions()["CMD"][0]), compose()["command"], container()["args"]])
def test_what_is_started_is_a_command_that_there_is(words: list[str]) -> None:
    serve: Any = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    context = serve.make_context("serve", [*entrypoint()[2:], *words])
    assert context.params["host"] == "0.0.0.0"
    assert "ftsim" in context.params["allow_host"]


def test_compose_and_kubernetes_keep_state_and_give_no_rights() -> None:
    served, service = compose(), manifests()[0]
    assert served["read_only"] is True
    assert served["cap_drop"] == ["ALL"]
    assert served["volumes"] == ["state:/state"]
    assert served["ports"][0].startswith("127.0.0.1:"), "reached from this machine alone"
    assert ":?" in served["environment"]["FTSIM_API_KEY"], "nobody starts it without a key by mistake"
    spec = manifests()[1]["spec"]
    pod = spec["template"]["spec"]
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, USER)
    assert container()["securityContext"]["allowPrivilegeEscalation"] is False
    assert {mount["mountPath"] for mount in container()["volumeMounts"]} == {"/state", "/tmp", "/home/ftsim"}
    assert spec["replicas"] == 1
    assert service["spec"]["selector"] == spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert container()["ports"][0]["containerPort"] == service["spec"]["ports"][0]["port"]


def test_emulators_that_share_a_database_are_reached_by_addresses_of_their_own() -> None:
    serve: Any = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    services = yaml.safe_load((DEPLOY / "shared-compose.yaml").read_text("utf-8"))["services"]
    emulators = {name: one for name, one in services.items() if "FTSIM_DATABASE" in one.get("environment", {})}
    assert sorted(emulators) == ["one", "three", "two"]
    for name, one in emulators.items():
        given = serve.make_context("serve", [*entrypoint()[2:], *one["command"]]).params
        assert given["share"] is True
        assert name in given["allow_host"], "others name it so"
        assert one["environment"]["FTSIM_ADDRESS"] == f"http://{name}:8080"
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert f"{name}:8080" in services["balancer"]["command"]
    _, deployment = yaml.safe_load_all((DEPLOY / "shared-kubernetes.yaml").read_text("utf-8"))
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    assert serve.make_context("serve", [*entrypoint()[2:], *found["args"]]).params["share"] is True
    assert {"FTSIM_ADDRESS", "FTSIM_BLOBS", "FTSIM_DATABASE", "FTSIM_API_KEY"} <= {one["name"] for one in found["env"]}
    assert found["securityContext"] == container()["securityContext"]


@dataclass(frozen=True)
class Start:
    """An interpreter, what it must be told to find the packages, and whom it runs as."""

    python: str
    packages: str
    user: int | None


@pytest.fixture
def other_user() -> Start:
    """The image's user, where this process may become it and it may read an interpreter; else whoever runs this."""
    mine = Start(sys.executable, str(ROOT), None)
    if os.getuid() != 0:
        return mine
    packages = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        start = Start(python, packages, USER)
        with contextlib.suppress(OSError):
            command = [python, "-c", "import ftsim.cli.main, emulator.server"]
            tried = subprocess.run(
                command, cwd="/", env={"PYTHONPATH": packages}, capture_output=True, user=USER, group=USER
            )
            if tried.returncode == 0:
                return start
    return mine


@pytest.fixture
def place(other_user: Start) -> Iterator[Path]:
    """A folder that the image's user may write, as the volume is."""
    folder = Path(tempfile.mkdtemp(prefix="deployed-"))
    if other_user.user:
        os.chown(folder, USER, USER)
    yield folder
    shutil.rmtree(folder)


def test_the_images_command_serves_is_healthy_and_refuses_other_hosts(place: Path, other_user: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = dict(word.split("=", 1) for line in instructions()["ENV"] for word in line.split())
    environment |= {"PATH": os.environ["PATH"], "PYTHONPATH": other_user.packages, "HOME": str(place)}
    environment |= {"FTSIM_API_KEY": "a-key-of-ours"}
    given = {"8080": port, "/state/ftsim": str(place / "ftsim"), "0.0.0.0": "127.0.0.1"}
    words = [given.get(word, word) for word in (*entrypoint()[1:], *json.loads(instructions()["CMD"][0]))]
    command = [
        other_user.python,
        "-m",
        "ftsim",
        *words,
        "--light",
    ]
    check = [sys.executable, *(word.replace("8080", port) for word in health()[1:])]
    with subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, user=other_user.user, group=other_user.user
    ) as served:
        try:
            deadline = time.monotonic() + 60
            while subprocess.run(check, capture_output=True).returncode != 0:
                assert served.poll() is None
                assert time.monotonic() < deadline
            answers = {
                host: httpx.get(
                    f"http://127.0.0.1:{port}/v1/accounts", headers={"Host": host, "X-Api-Key": "a-key-of-ours"}
                ).status_code
                for host in ("ftsim", "10.1.2.3:8080", "evil.example")
            }
        finally:
            served.terminate()
            served.communicate(timeout=30)
    assert answers == {"ftsim": 200, "10.1.2.3:8080": 200, "evil.example": 403}
    assert served.returncode == 0
    assert (place / "ftsim" / "metadata.sqlite").stat().st_uid == (USER if other_user.user else os.getuid())
