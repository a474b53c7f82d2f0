"""`ftsim state verify` and `gc` on servers, while an emulator uses them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.server import Emulator
from tests.conftest import Ftsim
from tests.state.test_power import Work
from tests.stores import postgres, serving


@pytest.fixture
def emulator(database: str, blobs: str, tmp_path: Path) -> Iterator[Emulator]:
    with serving.emulator(database, blobs, tmp_path / "scratch") as made:
        work = Work(made.url, 1)
        work.run()
        assert work.failure == ""
        yield made


def test_all_is_read_and_a_flipped_bit_is_found(emulator: Emulator, database: str, blobs: str, ftsim: Ftsim) -> None:
    servers = ("--database", database, "--blobs", blobs)
    found = ftsim("state", "verify", *servers)
    assert found.exit_code == 0, found.output
    assert "3 checkpoints and models" in found.output
    row = next(iter(emulator.world.checkpoints))
    emulator.platform.blobs.damage(row.blob)
    found = ftsim("state", "verify", *servers)
    assert found.exit_code == 1
    assert f"{row.name} is damaged" in found.output
    with postgres.connect(database) as connection:
        connection.execute("UPDATE entities SET body = replace(body, 'step-1', 'step-2') WHERE kind = 'checkpoint'")
    found = ftsim("state", "verify", *servers)
    assert found.exit_code == 1
    assert "is not what was stored" in found.output


def test_what_no_row_points_at_is_found_and_goes_once_it_is_old(
    emulator: Emulator, database: str, blobs: str, ftsim: Ftsim
) -> None:
    kept = emulator.platform.blobs
    staged = kept.stage()
    (staged / "weights").write_bytes(b"w" * 10)
    kept.commit(staged, "local/j1/torn~00000000", kept.digest(staged), b"")
    servers = ("--database", database, "--blobs", blobs)
    assert "1 things without a row" in ftsim("state", "verify", *servers).output
    assert json.loads(ftsim("state", "gc", "--json", *servers).output)["keys"] == []
    gone = ftsim("state", "gc", "--json", "--hours", "0", *servers)
    assert json.loads(gone.output)["keys"] == ["local/j1/torn~00000000"], gone.output
    found = ftsim("state", "verify", *servers)
    assert "without a row" not in found.output
    assert found.exit_code == 0, found.output


def test_half_of_the_servers_is_refused(database: str, ftsim: Ftsim) -> None:
    assert "--database goes with --blobs" in ftsim("state", "verify", "--database", database).output
