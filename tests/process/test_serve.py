"""`ftsim serve` as a process."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from emulator.quirks.engine import unknown_quirk
from emulator.quirks.table import QUIRKS
from emulator.server import Emulator
from emulator.state.server_record import ServerRecord
from ftsim.process import environment
from tests.inspect.test_replay import train
from tests.journal.test_journal import JOBS


def start(*options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ftsim", "serve", "--port", "0", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def address(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line + str(process.stderr and process.stderr.read())
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_cleanly(number: signal.Signals) -> None:
    with start("--memory") as process:
        assert httpx.get(address(process) + "/healthz").status_code == 200
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_a_second_server_on_the_folder_names_the_first(tmp_path: Path) -> None:
    with start("--state-dir", str(tmp_path)) as first:
        url = address(first)
        assert json.loads((tmp_path / "server.json").read_text())["url"] == url
        with start("--state-dir", str(tmp_path)) as second:
            _, errors = second.communicate(timeout=30)
        assert second.returncode == 1
        assert url in errors
        assert len(errors.strip().splitlines()) == 1
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=20)
    assert first.returncode == 0
    assert not (tmp_path / "server.json").exists()


@pytest.mark.parametrize(("disk", "why"), [("full", "disk I/O error"), ("read-only", "Read-only file system")])
def test_a_disk_that_takes_nothing_lets_a_folder_be_read(tmp_path: Path, disk: str, why: str) -> None:
    with Emulator(state_dir=tmp_path) as emulator, httpx.Client(base_url=emulator.url) as http:
        http.headers["X-Api-Key"] = emulator.api_key
        train(http)
    there = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    how = disk if disk == "full" else f"{disk}:{tmp_path}"
    command = [sys.executable, "-m", "tests.process.refusing", how, "serve", "--light", "--port", "0"]
    with subprocess.Popen(
        [*command, "--state-dir", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        with httpx.Client(base_url=address(process), timeout=60) as http:
            http.headers["X-Api-Key"] = (tmp_path / "key").read_text().strip()
            assert "open for reading alone" in http.get("/healthz").json()["readOnly"]
            assert len(http.get(f"{JOBS}/j1/checkpoints").json()["checkpoints"]) == 2
            assert http.delete(f"{JOBS}/j1").status_code == 507
            if disk == "read-only":  # no file for the base model's four numbers can be written on a full one
                ask = {"model": "accounts/local/models/m1", "prompt": [1, 2], "max_tokens": 1}
                assert http.post("/inference/v1/completions", json=ask).status_code == 200
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert f"cannot be written ({why}): it is open for reading alone" in errors
    assert {path: path.stat().st_mtime_ns for path in there} == there


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with start("--state-dir", str(tmp_path / "file" / "state")) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.startswith("ftsim: the state folder")
    assert len(errors.strip().splitlines()) == 1


UNNEEDED = ("torch", "transformers", "peft", "tokenizers", "numpy", "fireworks", "httpx", "yaml", "rich")


def test_starting_imports_nothing_that_answering_does_not_need(tmp_path: Path) -> None:
    program = (
        "import sys, urllib.request as web, ftsim.cli.main, ftsim.process.serve, ftsim.local\n"
        f"with ftsim.local.Emulator(state_dir={str(tmp_path)!r}) as emu:\n"
        "    assert web.urlopen(emu.url + '/healthz').status == 200\n"
        "    asked = web.Request(emu.url + '/v1/accounts/fireworks/models', headers={'X-Api-Key': emu.api_key})\n"
        "    assert web.urlopen(asked).status == 200\n"
        f"print([name for name in {UNNEEDED} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_quirks_and_profiles_are_on_from_the_start() -> None:
    with start(
        "--memory", "--api-key", "k", "--profile", "chaos", "--quirk", "http.fail=503@endpoint=list_jobs,times=2"
    ) as process:
        url = address(process)
        active = httpx.get(f"{url}/_ftsim/quirks", headers={"X-Api-Key": "k"}).json()["active"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert len(active) > 10
    assert (active[-1]["name"], active[-1]["left"], active[-1]["where"]) == ("http.fail", 2, {"endpoint": "list_jobs"})


def test_a_port_that_is_none_is_one_clear_line() -> None:
    with start("--memory", "--port", "99999") as process:
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.count("\n")) == (1, 1)
    assert errors.startswith("ftsim: cannot listen on 127.0.0.1:99999: ")


def test_a_quirk_that_is_none_is_one_clear_line() -> None:
    table = [quirk.name for quirk in QUIRKS]
    with start("--memory", "--quirk", "rows.nonsense=1") as process:
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (1, f"ftsim: {unknown_quirk('rows.nonsense', table)}\n")


TOKENIZER = (
    "from transformers import AutoTokenizer; found = AutoTokenizer.from_pretrained('Qwen/Qwen3-8B'); "
    "print(len(found('hi').input_ids))"
)


def test_the_printed_lines_are_all_that_a_program_needs(tmp_path: Path) -> None:
    file = tmp_path / "client env.sh"
    with start("--state-dir", str(tmp_path / "a state"), "--light", "--env-file", str(file)) as server:
        url = address(server)
        assert server.stdout is not None
        printed = [server.stdout.readline().strip() for _ in range(3)]
        while not file.exists() or "unset" not in file.read_text():
            pass
        program = f"import os; print(os.environ['FIREWORKS_BASE_URL'], os.environ['TINKER_API_KEY'][:4]); {TOKENIZER}"
        bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FIREWORKS_CREDENTIAL_CMD": "false"}
        told = "echo ${FIREWORKS_CREDENTIAL_CMD:-unset}"
        script = f". {shlex.quote(str(file))} && {told} && exec {sys.executable} -c {shlex.quote(program)}"
        done = subprocess.run(["sh", "-c", script], env=bare, capture_output=True, text=True, timeout=120)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=20)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["unset", url, "tml-", "1"]
    assert printed[0].startswith("export ")
    assert file.stat().st_mode & 0o777 == 0o600


RECORD = ServerRecord("http://127.0.0.1:1", 1, "k'e\\y", "local")


def test_each_shell_gets_its_own_lines(tmp_path: Path) -> None:
    variables = environment.added({"NO_PROXY": "example.com", "FIREWORKS_API_KEY": "real", "OTHER": "1"}, RECORD, {})
    assert "OTHER" not in variables
    assert variables["NO_PROXY"] == "127.0.0.1,localhost,example.com"
    printed = {form: environment.lines(variables, form) for form in environment.FORMATS}
    assert "export FIREWORKS_API_KEY='k'\"'\"'e\\y'" in printed["sh"]
    assert printed["sh"][-1] == "unset FIREWORKS_CREDENTIAL_CMD"
    assert "set -gx FIREWORKS_API_KEY 'k\\'e\\\\y'" in printed["fish"]
    assert printed["docker"] == printed["github"]
    assert "FIREWORKS_API_KEY=k'e\\y" in printed["docker"]
    file = tmp_path / "env.sh"
    file.write_text("".join(f"{line}\n" for line in printed["sh"]))
    done = subprocess.run(["sh", "-c", f'. {file} && printf %s "$FIREWORKS_API_KEY"'], capture_output=True, text=True)
    assert done.stdout == "k'e\\y"


def test_a_github_environment_keeps_what_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "github_env"
    file.write_text("MINE=1\n")
    with start("--memory", "--light", "--print-env", "github", "--env-file", str(file)) as server:
        url = address(server)
        while "no_proxy" not in file.read_text():
            pass
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=20)
    found = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert (found["MINE"], found["FIREWORKS_BASE_URL"]) == ("1", url)
