"""A write-ahead log that a kill leaves, whole and with one bit changed: what SQLite does not read is noticed."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from emulator.state.wal import last_commit
from tests.doubles import BASE

COMMITS = 12


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A database as a killed process leaves it: `COMMITS` of them in its log, some of several pages."""
    live, left = tmp_path / "live.sqlite", tmp_path / "left"
    left.mkdir()
    with closing(sqlite3.connect(live, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE rows (body)")
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for number in range(COMMITS):
            writer.execute("INSERT INTO rows VALUES (?)", (f"{number}" * 3000,))
        for end in ("", "-wal"):
            shutil.copy(f"{live}{end}", left / f"db.sqlite{end}")
    return left / "db.sqlite"


def read(database: Path) -> tuple[int, int]:
    """The rows that SQLite finds, and the frames of the log that it takes."""
    with closing(sqlite3.connect(database)) as reader:
        frames = reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
        found = reader.execute("SELECT count(*) FROM rows").fetchone()[0]
    return found, frames


def test_a_whole_log_is_read_to_its_last_commit(killed: Path) -> None:
    last = last_commit(killed)
    assert last > COMMITS
    assert read(killed) == (COMMITS, last)
    assert last_commit(killed.with_name("another.sqlite")) == 0


def test_frames_of_an_earlier_round_through_the_file_do_not_count(tmp_path: Path) -> None:
    database = tmp_path / "db.sqlite"
    writer = sqlite3.connect(database, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE rows (body)")
    for number in range(COMMITS):
        writer.execute("INSERT INTO rows VALUES (?)", (f"{number}" * 3000,))
    before = last_commit(database)
    writer.execute("PRAGMA wal_checkpoint(RESTART)")
    writer.execute("INSERT INTO rows VALUES ('new')")
    assert 0 < last_commit(database) < before
    writer.close()


def test_a_changed_bit_never_hides_a_commit_unnoticed(killed: Path, tmp_path: Path) -> None:
    whole, last = killed.with_name("db.sqlite-wal").read_bytes(), last_commit(killed)
    drawn, hidden = random.Random(4), 0
    for turn in range(150):
        place = drawn.randrange(32) if turn % 5 == 0 else drawn.randrange(len(whole))
        folder = tmp_path / str(turn)
        folder.mkdir()
        database = folder / "db.sqlite"
        shutil.copy(killed, database)
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << drawn.randrange(8)
        (folder / "db.sqlite-wal").write_bytes(spoilt)
        noticed = last_commit(database)
        found, frames = read(database)
        if found < COMMITS:
            hidden += 1
            assert noticed > frames, f"bit in byte {place} of {len(whole)}, {last} frames"
        else:
            assert noticed == frames
    assert hidden > 100


def test_a_start_says_that_acknowledged_commits_are_not_read_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Emulator("light", state_dir=tmp_path / "state").start()
    for number in range(4):
        first.platform.jobs.create(first.account, JobSpec(base_model=BASE), f"j{number}")
    shutil.copytree(tmp_path / "state", tmp_path / "killed", ignore=shutil.ignore_patterns("*.lock", "server*"))
    first.stop()
    log = tmp_path / "killed" / "metadata.sqlite-wal"
    shutil.copytree(tmp_path / "killed", tmp_path / "spoilt")
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "spoilt" / log.name).write_bytes(content)
    for name, whole in (("killed", True), ("spoilt", False)):
        caplog.clear()
        with Emulator("light", state_dir=tmp_path / name) as again:
            assert (len(again.platform.world.jobs.of(again.account)) == 4) is whole
        assert any("metadata.sqlite-wal" in record.getMessage() for record in caplog.records) is not whole
