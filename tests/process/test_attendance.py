"""Who serves a state folder and who uses it, when programs end in every way."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from ftsim.process.attendance import Attendance, OccupiedError, ServerRecord

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
    attendance.announce(RECORD)
    client = attendance.join()
    watcher = Thread(
        target=attendance.serve_until_deserted, args=(RECORD.pid, Event()), kwargs={"grace": 0.1, "poll": 0.02}
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
    attendance.announce(RECORD)
    stop = Event()
    stop.set()
    attendance.serve_until_deserted(RECORD.pid, stop)
    assert attendance.server() == RECORD
    attendance.withdraw(RECORD.pid + 1)
    assert attendance.server() == RECORD
    attendance.withdraw(RECORD.pid)
    assert attendance.server() is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"url": "x"}', b"[]", b"\xff"])
def test_a_broken_announcement_is_no_announcement(tmp_path: Path, content: bytes) -> None:
    attendance = Attendance(tmp_path)
    attendance.server_file.write_bytes(content)
    assert attendance.server() is None


def test_the_announcement_holds_a_key_and_is_private(tmp_path: Path) -> None:
    attendance = Attendance(tmp_path)
    attendance.announce(RECORD)
    assert attendance.server_file.stat().st_mode & 0o777 == 0o600


def test_a_state_folder_has_one_server(tmp_path: Path) -> None:
    first, second = Attendance(tmp_path), Attendance(tmp_path)
    with first.occupied():
        with pytest.raises(OccupiedError, match="another process already serves"), second.occupied(patience=0.1):
            pass
        first.announce(RECORD)
        with pytest.raises(OccupiedError, match="process 42 at http"), second.occupied(patience=0.1):
            pass
    with second.occupied(patience=0.0):
        assert os.listdir(tmp_path)
