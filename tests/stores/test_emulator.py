"""An emulator on servers: what it has acknowledged is there, whatever dies."""

import json
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.core.errors import FailedPrecondition, InvalidArgument
from emulator.server import Emulator
from emulator.state.blobs import RECORD
from emulator.state.homes import Servers, servers_of
from emulator.state.object_blobs import ObjectBlobs, ObjectStore
from tests.state.test_power import Work, lost_on
from tests.stores import postgres, serving
from tests.stores.postgres import Postgres


def test_what_was_acknowledged_is_there_after_a_kill_and_in_another_process(
    database: str, blobs: str, tmp_path: Path
) -> None:
    chance = random.Random(0)
    done = []
    with serving.serving(database, blobs) as process:
        for number in range(3):
            work = Work(process.url)
            work.first = 1000 * number
            work.start()
            time.sleep(chance.uniform(0.3, 1.0))
            process.kill()
            work.stop()
            done.append(work.done)
            process.start()
    with serving.emulator(database, blobs, tmp_path) as emulator:
        assert sum(len(promised.rows) for promised in done) > 3
        for promised in done:
            assert lost_on(emulator, promised) == []


def test_a_server_that_dies_refuses_and_loses_nothing(
    database: str, blobs: str, tmp_path: Path, postgres_server: Postgres
) -> None:
    with serving.emulator(database, blobs, tmp_path) as emulator:
        work = Work(emulator.url)
        work.start()
        time.sleep(0.5)
        postgres_server.kill()
        work.join(30)
        postgres_server.start()
        assert work.failure, "nothing was asked while the server was dead"
        while httpx.get(f"{emulator.url}/healthz").status_code == 503:  # until the lease has been renewed
            pass
        again = Work(emulator.url)
        again.first = 1000
        again.start()
        time.sleep(0.5)
        again.stop()
        assert not again.failure, again.failure
        assert again.done.jobs
        assert lost_on(emulator, work.done) == lost_on(emulator, again.done) == []
    with serving.emulator(database, blobs, tmp_path) as emulator:
        assert lost_on(emulator, work.done) == lost_on(emulator, again.done) == []


def test_another_process_sees_a_row_only_when_all_of_its_blob_is_there(
    database: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks into the database and the store before and after each object that a save or a promotion sends."""
    moments: list[tuple[int, bool]] = []
    with serving.emulator(database, bucket, tmp_path) as emulator, postgres.connect(database) as reader:
        blobs = emulator.platform.blobs
        assert isinstance(blobs, ObjectBlobs)
        looking = ObjectStore(blobs.store.url)

        def look() -> None:
            rows = reader.execute("SELECT blob, body FROM entities WHERE blob <> ''").fetchall()
            there = set(looking.names())
            for blob, body in rows:
                wanted = {f"{blob}/{name}" for name in (RECORD, *json.loads(str(body))["digests"])}
                assert len(wanted) > 1
                assert wanted <= there
            listed = {f"{blob}/" for blob, _ in rows}
            moments.append((len(rows), all(name.startswith(tuple(listed)) for name in there)))

        def watched(act: Callable[..., Any]) -> Callable[..., Any]:
            def called(*words: Any) -> Any:
                with lock:
                    look()
                    done = act(*words)
                    look()
                return done

            return called

        lock = threading.Lock()
        for name in ("put", "write"):
            monkeypatch.setattr(blobs.store, name, watched(getattr(blobs.store, name)))
        Work(emulator.url, 2).run()
        look()
    assert {count for count, _ in moments} >= {0, 1, 2, 3}
    assert any(not whole for _, whole in moments)  # objects without a row, as they are in the middle of a save
    assert moments[-1] == (6, True)


def test_what_cannot_be_kept_is_refused_at_the_start(database: str, blobs: str, tmp_path: Path) -> None:
    for rows, files, why in (
        (database, None, "--database goes with --blobs"),
        (None, blobs, "--blobs goes with --database"),
        (database, blobs, "--database needs --api-key"),
    ):
        with pytest.raises(InvalidArgument, match=why):
            servers_of(rows, files, None)
    with Emulator(state_dir=tmp_path / "own"):
        pass
    with (
        pytest.raises(FailedPrecondition, match="has a state of its own"),
        Emulator(state_dir=tmp_path / "own", servers=Servers(database, blobs), api_key="k"),
    ):
        pass


def test_a_database_without_rows_beside_blobs_is_no_start_from_nothing(
    postgres_server: Postgres, blobs: str, tmp_path: Path
) -> None:
    with serving.emulator(postgres_server.database(), blobs, tmp_path) as emulator:
        Work(emulator.url, 1).run()
    with (
        pytest.raises(FailedPrecondition, match="has the blobs of another database"),
        serving.emulator(postgres_server.database(), blobs, tmp_path),
    ):
        pass


def test_a_folders_state_is_brought_to_servers_by_a_snapshot(database: str, blobs: str, tmp_path: Path) -> None:
    with Emulator(state_dir=tmp_path / "own", api_key=serving.KEY) as before:
        work = Work(before.url, 2)
        work.run()
        before.snapshot(tmp_path / "all.zip")
    shutil.rmtree(tmp_path / "own")
    with serving.emulator(database, blobs, tmp_path) as emulator:
        emulator.restore(tmp_path / "all.zip")
    with serving.emulator(database, blobs, tmp_path) as emulator:
        assert lost_on(emulator, work.done) == []
