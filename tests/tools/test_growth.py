"""`python -m ftsim.tools.growth`: its arithmetic, and one short run really carried out."""

import pytest

from ftsim.tools import growth
from ftsim.tools.growth import Capacity, Run


def test_a_run_is_counted() -> None:
    run = growth.one_run(steps=2, saves=1)
    assert run.blobs == 3  # both kinds of save, and the model
    assert run.rows == 5  # those, the job and its curve
    assert run.requests == 4 + 4 * 2 + 2 * 2 + 1 + 1  # create and connect; steps; saves; a list; a promotion
    assert run.commits >= 4
    assert run.objects >= 2 * run.blobs
    assert run.row_bytes > 1000


def test_what_is_full_first_is_what_is_used_most() -> None:
    run = Run(requests=3600, rows=10, row_bytes=1000, commits=36, blobs=2, objects=6)
    lines = growth.table(run, Capacity(requests_s=100, commits_s=1000, row_memory=500), hours=1, save_mb=10)
    ten, thousand, most = lines[2:]
    assert ten.startswith("| 10 | 100, 10 kB | 20, 60, 200 MB | 10.0: 0.1 | 0.10: 0.0001 | 3 GB: 0.0469 |")
    assert ten.endswith("| a process's requests, and it is not full |")
    assert thousand.endswith("| a process's requests |")
    assert "30 TB" in most


def test_it_prints_a_table_for_each_number_of_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "_TRIES_S", 0.05)
    growth.main(["--steps", "2", "--saves", "1"])
    printed = capsys.readouterr().out
    assert "a run of 2 steps and 1 saves" in printed
    assert [line.split(" | ")[0] for line in printed.splitlines()[-3:]] == ["| 10", "| 1,000", "| 100,000"]
