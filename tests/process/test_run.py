"""`ftsim run`: unmodified programs find the emulator and share it, and it does not outlive them for long."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from emulator.core.keys import marked, parted
from emulator.server import Emulator
from emulator.state.server_record import ServerRecord, announce
from ftsim.process import run
from ftsim.process.attendance import Attendance
from ftsim.process.environment import PACKAGE_ROOT

FAKE_SERVER = Path(__file__).with_name("fake_server.py")
PATIENCE = 20.0
CHECKOUT = os.environ | {"PYTHONPATH": str(PACKAGE_ROOT)}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state"
    folder.mkdir()
    yield folder
    for pid in starts(folder):
        if runs(pid):
            os.kill(pid, signal.SIGKILL)


def server_command(state: Path, grace: float = 0.3) -> list[str]:
    return [sys.executable, str(FAKE_SERVER), str(state), str(grace)]


def starts(state: Path) -> list[int]:
    file = state / "starts"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def go(state: Path, *argv: str, **options: Any) -> int:
    return run.run_program(argv, state_dir=state, server_command=server_command(state), **options)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def script(folder: Path, text: str, name: str = "program.py") -> str:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return str(path)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


OPENS = """
    import json, os, sys, urllib.request
    at = os.environ["FIREWORKS_BASE_URL"] + "/training/v1/serverless/api/v1/create_session"
    headers = {"X-Api-Key": os.environ["FIREWORKS_API_KEY"], "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(at, b"{}", headers)) as answer:
        print(json.load(answer)["session_id"])
    sys.exit(int(sys.argv[1]))
"""


def test_training_sessions_end_with_the_program_that_opened_them(state: Path, tmp_path: Path) -> None:
    """Both as a child and as what the command becomes, and only that program's."""
    program = script(tmp_path, OPENS)
    with Emulator(backend="light", state_dir=state) as emulator:
        own = emulator.platform.sessions.create(emulator.account, "another-program")
        assert run.run_program([program, "3"], state_dir=state) == 3
        command = [sys.executable, "-m", "ftsim", "run", "--state-dir", str(state), program, "0"]
        subprocess.run(command, env=CHECKOUT, check=True, timeout=60, stdout=subprocess.DEVNULL)
        sessions = [one for one in emulator.world.sessions if one is not own]
        assert len(sessions) == 2
        wait_until(lambda: not any(one.running for one in sessions))
        assert {one.message for one in sessions} == {"(its program is gone)"}
        assert own.running


REPORT = """
    import json, os, sys
    variables = ("FIREWORKS_API_KEY", "FIREWORKS_BASE_URL", "FIREWORKS_TRAINER_GATEWAY_URL", "FIREWORKS_ACCOUNT_ID",
                 "FIREWORKS_CREDENTIAL_CMD", "TINKER_BASE_URL", "TINKER_API_KEY", "TINKER_TELEMETRY",
                 "HF_HUB_OFFLINE", "HF_HUB_CACHE", "NO_PROXY", "EXTRA")
    with open(sys.argv[1], "w") as file:
        json.dump([sys.argv[2:], {name: os.environ.get(name) for name in variables}], file)
"""


def test_a_program_gets_the_emulators_address_and_key(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREWORKS_API_KEY", "fw_real_key")
    monkeypatch.setenv("FIREWORKS_CREDENTIAL_CMD", "print-a-real-key")
    monkeypatch.setenv("NO_PROXY", "example.com")
    report = tmp_path / "report"
    assert go(state, script(tmp_path, REPORT), str(report), "--flag", "a b", env={"EXTRA": "1"}) == 0
    arguments, seen = json.loads(report.read_text())
    url = seen["FIREWORKS_BASE_URL"]
    assert url.startswith("http://127.0.0.1:")
    assert arguments == ["--flag", "a b"]
    assert Path(seen.pop("HF_HUB_CACHE")).parent == state / "hub"
    key, program = parted(seen["FIREWORKS_API_KEY"])
    assert key == "fw_test"
    assert program, "by this mark the emulator knows what the program has opened"
    assert seen == {
        "FIREWORKS_API_KEY": marked("fw_test", program),
        "FIREWORKS_BASE_URL": url,
        "FIREWORKS_TRAINER_GATEWAY_URL": url,
        "FIREWORKS_ACCOUNT_ID": "local",
        "FIREWORKS_CREDENTIAL_CMD": None,
        "TINKER_BASE_URL": f"{url}/training/v1/serverless",
        "TINKER_API_KEY": f"tml-{marked('fw_test', program)}",
        "TINKER_TELEMETRY": "0",
        "HF_HUB_OFFLINE": "1",
        "NO_PROXY": "127.0.0.1,localhost,example.com",
        "EXTRA": "1",
    }


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 0), ("raise SystemExit(7)", 7), ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137)],
)
def test_the_programs_exit_status_is_the_runs(state: Path, tmp_path: Path, body: str, status: int) -> None:
    assert go(state, script(tmp_path, body)) == status


def test_whoever_wants_telemetry_keeps_it(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_TELEMETRY", "1")
    assert go(state, "--", "sh", "-c", 'test "$TINKER_TELEMETRY" = 1') == 0


def test_a_module_and_a_command_run_too(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "import sys; sys.exit(len(sys.argv))", "module_to_run.py")
    monkeypatch.chdir(tmp_path)
    assert go(state, "-m", "module_to_run", "x") == 2
    assert go(state, "--", "sh", "-c", 'test -n "$FIREWORKS_API_KEY" && exit 9') == 9


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "say what to run"),
        (("-m",), "say what to run"),
        (("--",), "say what to run"),
        (("--verbose", "x.py"), "say what to run"),
        (("no_such_file.py",), "no file 'no_such_file.py'"),
        (("--", "no-such-command-anywhere"), "no command 'no-such-command-anywhere'"),
    ],
)
def test_what_cannot_run_is_refused_before_a_server_starts(state: Path, argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(run.RunError, match=words):
        go(state, *argv)
    assert starts(state) == []


def test_programs_that_overlap_share_one_server(state: Path, tmp_path: Path) -> None:
    program = script(tmp_path, "import time; time.sleep(1)")
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: go(state, program), range(3))) == [0, 0, 0]
    assert len(starts(state)) == 1


def test_the_server_goes_when_its_last_program_has_gone(state: Path, tmp_path: Path) -> None:
    assert go(state, script(tmp_path, "")) == 0
    (pid,) = starts(state)
    wait_until(lambda: Attendance(state).server() is None)
    wait_until(lambda: not runs(pid))
    assert go(state, script(tmp_path, "")) == 0
    assert len(starts(state)) == 2


def test_the_server_survives_a_run_that_is_killed_while_another_goes_on(state: Path, tmp_path: Path) -> None:
    waiting = script(tmp_path, "import sys, time; open(sys.argv[1], 'w').close(); time.sleep(60)", "waiting.py")
    launcher = (
        f"import sys; from pathlib import Path; from ftsim.process import run\n"
        f"run.exec_program(sys.argv[1:], state_dir=Path({str(state)!r}), server_command={server_command(state)!r})"
    )
    programs = []
    for number in (1, 2):
        mark = tmp_path / f"started-{number}"
        programs.append(subprocess.Popen([sys.executable, "-c", launcher, waiting, str(mark)], env=CHECKOUT))
        wait_until(mark.exists)
    programs[0].kill()  # the run has become the program, so this is a kill -9 of the program itself
    assert programs[0].wait() == -signal.SIGKILL
    time.sleep(0.8)
    assert Attendance(state).server() is not None
    programs[1].kill()
    programs[1].wait()
    wait_until(lambda: Attendance(state).server() is None)
    assert len(starts(state)) == 1


def test_a_server_that_was_killed_is_replaced(state: Path, tmp_path: Path) -> None:
    killing = script(tmp_path, f"import os; os.kill(int(open({str(state / 'starts')!r}).read()), 9)")
    assert go(state, killing) == 0
    assert Attendance(state).server() is not None
    assert go(state, script(tmp_path, "")) == 0
    assert len(starts(state)) == 2


def test_a_server_too_busy_to_answer_is_joined_not_replaced(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "HEALTH_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as busy:
        record = ServerRecord(f"http://127.0.0.1:{busy.getsockname()[1]}", os.getpid(), "fw_test", "local")
        announce(state, record)
        assert go(state, script(tmp_path, "")) == 0
    assert starts(state) == []
    assert Attendance(state).server() == record


def test_an_address_that_another_process_has_taken_over_is_not_joined(state: Path, tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        announce(state, ServerRecord(url, ended.pid, "fw_test", "local"))
        assert go(state, script(tmp_path, "")) == 0
    assert len(starts(state)) == 1


def test_a_server_that_cannot_start_says_why(state: Path, tmp_path: Path) -> None:
    (state / "broken").touch()
    with pytest.raises(run.RunError, match="the state folder is broken"):
        go(state, script(tmp_path, ""))
    assert Attendance(state).present() == 0


def test_a_server_that_never_answers_is_given_up(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "START_TIMEOUT", 0.2)
    with pytest.raises(run.RunError, match="did not start within"):
        run.run_program([script(tmp_path, "")], state_dir=state, server_command=["sleep", "60"])


def test_a_state_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(run.RunError, match="cannot be used"):
        go(tmp_path / "file" / "state", script(tmp_path, ""))


def test_the_programs_files_keep_their_own_place(state: Path, tmp_path: Path) -> None:
    """The current folder and the standard streams are the program's own."""
    program = script(tmp_path, "import os, sys; print(os.getcwd(), sys.stdin.read())")
    launcher = (
        f"import sys; from pathlib import Path; from ftsim.process import run\n"
        f"sys.exit(run.run_program(sys.argv[1:], state_dir=Path({str(state)!r}), "
        f"server_command={server_command(state)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", launcher, program],
        input="in",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
        env=CHECKOUT,
    )
    assert done.stdout == f"{tmp_path} in\n"
