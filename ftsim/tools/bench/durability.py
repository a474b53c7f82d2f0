"""The cost of losing nothing acknowledged: saves against the same files written as durably, digests, starts."""

import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from ftsim.tools.bench.control import _fill, _start_once
from ftsim.tools.bench.measure import Result, milliseconds, paired, ratio, round_trips
from ftsim.tools.bench.saves import NO_NAME, _place, _stepped
from ftsim.tools.bench.stand import Stand

_numbers = count(1)


def durable_save_40mb(stand: Stand) -> Iterator[Result]:
    """A full sampler save of 40 MB against its files written aside, synced each, and renamed."""
    large = stand.large
    _stepped(large)
    folder = _place(large)
    yield ratio(
        "durable_save_40mb",
        lambda: large.full.save_weights_for_sampler_ext(f"durable-{next(_numbers)}", checkpoint_type="base"),
        lambda: large.bare.save_folder(folder / f"durable-{next(_numbers)}", large.base_folder),
        1.25,
    )


def durable_save(stand: Stand) -> Iterator[Result]:
    """The same of a small model, against the files, the requests of a refused save, and one synced commit together."""
    _stepped(stand)
    client, folder = stand.full, _place(stand)
    ours, written = paired(
        lambda: client.save_weights_for_sampler_ext(f"durable-{next(_numbers)}", checkpoint_type="base"),
        lambda: stand.bare.save_folder(folder / f"durable-{next(_numbers)}", stand.base_folder),
        rounds=25,
    )
    asked = round_trips(lambda: client.save_weights_for_sampler_ext(NO_NAME, checkpoint_type="base"))
    committed = _commit(folder / "commits.sqlite")
    parts = {"emulated_ms": ours, "written_ms": written, "round_trips_ms": asked, "commit_ms": committed}
    yield Result("durable_save", ours / (written + asked + committed), "x", 1.15, parts=parts)


def _commit(file: Path) -> float:
    """Median milliseconds of a row that SQLite takes to the disk."""
    with sqlite3.connect(file, isolation_level=None) as database:
        database.execute("pragma journal_mode=wal")
        database.execute("pragma synchronous=full")
        database.execute("create table rows (name text primary key, body text)")
        times = [
            milliseconds(lambda: database.execute("insert into rows values (?, ?)", (str(next(_numbers)), "x" * 1000)))
            for _ in range(25)
        ]
    database.close()
    return statistics.median(times)


def digest_overhead(stand: Stand) -> Iterator[Result]:
    """A save of 40 MB as it is, against the same without what the digests of its files add to storing these.

    That is measured on a store of its own, since the emulator saves nothing without: a large file goes to the disk
    while its digest is taken.
    """
    from emulator.state.blobs import Blobs

    large = stand.large
    _stepped(large)
    folder = _place(large) / f"digest-{next(_numbers)}"
    large.bare.save_folder(folder, large.base_folder)
    blobs = Blobs(folder / "blobs")

    def stored(digested: bool) -> None:
        staged = blobs.stage()
        for file in folder.iterdir():
            if file.is_file():
                shutil.copyfile(file, staged / file.name)
        blobs.commit(staged, f"bench/{next(_numbers)}", blobs.digest(staged) if digested else {}, b"{}")

    digested, plain = paired(lambda: stored(True), lambda: stored(False), rounds=15)
    saves = (f"digest-{next(_numbers)}" for _ in range(9))
    saved = statistics.median(
        milliseconds(lambda: large.full.save_weights_for_sampler_ext(next(saves), checkpoint_type="base"))
        for _ in range(9)
    )
    shutil.rmtree(folder)
    parts = {"save_ms": saved, "stored_ms": digested, "stored_without_ms": plain}
    yield Result("digest_overhead", saved / (saved - digested + plain), "x", 1.05, parts=parts)


def fixture_reset(stand: Stand) -> Iterator[Result]:
    """The wait of a test with `fireworks_emulator` after one that trained and saved."""
    import httpx

    from emulator.server import Emulator
    from ftsim.testing.wire import Wire

    times = []
    with Emulator() as emulator:
        for _ in range(25):
            with httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}) as http:
                body = {"trainingConfig": {"baseModel": "accounts/fireworks/models/qwen3-8b"}}
                path = f"/v1/accounts/{emulator.account}/rlorTrainerJobs?rlorTrainerJobId=j1"
                http.post(path, json=body).raise_for_status()
                Wire(http).run("save_weights", 1, path="step-1")
            times.append(milliseconds(emulator.hand_over))
    yield Result("fixture_reset", statistics.median(times), "ms", 3.0)


def start_10000_rows(stand: Stand) -> Iterator[Result]:
    """The start of `ftsim serve` on a folder with 10,000 rows, against one on an empty folder."""
    many = stand.folder / "many-to-start"
    _fill(many)
    times = []
    for turn in range(6):
        times.append((_start_once(many), _start_once(stand.folder / f"empty-{turn}")))
        shutil.rmtree(stand.folder / f"empty-{turn}", ignore_errors=True)
        time.sleep(0.1)
    ours, empty = (statistics.median(side[1:]) for side in zip(*times, strict=True))
    yield Result("start_10000_rows", ours / empty, "x", None, parts={"rows_ms": ours * 1e3, "empty_ms": empty * 1e3})
