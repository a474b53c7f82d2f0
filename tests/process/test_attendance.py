"""Attendance: who serves a state folder and who uses it, when programs end in every way."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from emulator.core.errors import FailedPrecondition
from emulator.state.folder import locked
from emulator.state.server_record import SERVER_FILE, ServerRecord, announce, withdraw
from ftsim.process.attendance import Attendance, default_state_dir
from ftsim.process.stop import Stop

RECORD = ServerRecord("http://127.0.0.1:1", 42, "fw_key", "local")


def sleeper(attendance: Attendance) -> subprocess.Popen[bytes]:
    """A program that holds a registration of its own and waits."""
    client = attendance.join()
    program = "import sys; sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, pass_fds=(client.descriptor,))
    client.leave()
    return child


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_program_is_gone_from_the_attendance(tmp_path: Path, number: signal.Signals) -> None:
    attendance = Attendance(tmp_path)
    child = sleeper(attendance)
    assert attendance.present() == 1
    child.send_signal(number)
    child.wait()
    assert child.stdin is not None
    child.stdin.close()
    assert attendance.present() == 0
    assert not any(attendance.clients_dir.iterdir())


def test_registrations_are_counted_one_by_one(tmp_path: Path) -> None:
    attendance = Attendance(tmp_path)
    clients = [attendance.join() for _ in range(3)]
    for left in (2, 1, 0):
        clients.pop().leave()
        assert attendance.present() == left


def test_a_server_leaves_only_when_deserted(tmp_path: Path) -> None:
    attendance = Attendance(tmp_path)
    announce(tmp_path, RECORD)
    client = attendance.join()
    watcher = Thread(
        target=attendance.serve_until_deserted, args=(RECORD.pid, Stop()), kwargs={"grace": 0.1, "poll": 0.02}
    )
    watcher.start()
    watcher.join(0.4)
    assert watcher.is_alive()
    assert attendance.server() == RECORD
    client.leave()
    watcher.join(10)
    assert not watcher.is_alive()
    assert attendance.server() is None


def test_stopping_a_server_keeps_its_announcement_for_itself_to_withdraw(tmp_path: Path) -> None:
    attendance = Attendance(tmp_path)
    announce(tmp_path, RECORD)
    stop = Stop()
    stop.set()
    attendance.serve_until_deserted(RECORD.pid, stop)
    assert attendance.server() == RECORD
    withdraw(tmp_path, RECORD.pid + 1)
    assert attendance.server() == RECORD
    withdraw(tmp_path, RECORD.pid)
    assert attendance.server() is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"url": "x"}', b"[]", b"\xff"])
def test_a_broken_announcement_is_no_announcement(tmp_path: Path, content: bytes) -> None:
    attendance = Attendance(tmp_path)
    (tmp_path / SERVER_FILE).write_bytes(content)
    assert attendance.server() is None


def test_the_announcement_holds_a_key_and_is_private(tmp_path: Path) -> None:
    announce(tmp_path, RECORD)
    assert (tmp_path / SERVER_FILE).stat().st_mode & 0o777 == 0o600


def test_a_state_folder_has_one_server(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(FailedPrecondition, match="another emulator uses the state folder"), locked(tmp_path, 0.1):
            pass
        announce(tmp_path, RECORD)
        with pytest.raises(FailedPrecondition, match=r"process 42\) at http"), locked(tmp_path, 0.1):
            pass
    with locked(tmp_path):
        assert os.listdir(tmp_path)


def test_a_server_waits_for_the_one_before_it_to_end(tmp_path: Path) -> None:
    holder = (
        "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
        "print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as before:
        assert before.stdin is not None
        assert before.stdout is not None
        before.stdout.readline()
        with pytest.raises(FailedPrecondition), locked(tmp_path):
            pass
        Thread(target=lambda: (Event().wait(0.3), before.stdin and before.stdin.close())).start()
        with locked(tmp_path, 10.0):
            assert before.wait(5) == 0


def test_the_state_of_a_user_lies_where_the_system_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FTSIM_STATE_DIR", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_state_path", lambda name, appauthor: tmp_path / "Library" / name)
    assert default_state_dir() == tmp_path / "Library" / "ftsim"
    earlier = tmp_path / ".local" / "state" / "ftsim"
    earlier.mkdir(parents=True)
    assert default_state_dir() == earlier
    monkeypatch.setenv("FTSIM_STATE_DIR", "elsewhere")
    assert default_state_dir() == Path("elsewhere")
