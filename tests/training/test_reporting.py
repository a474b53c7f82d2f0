"""Figures of a run in TensorBoard, Weights & Biases and trackio, each read back by the project's own reader."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from ftsim.training import reporting
from ftsim.training.errors import ConfigError
from ftsim.training.metrics import RunLog
from tests.doubles import BASE, DictBackend


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows of a folder."""
    accumulator: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(one.step, round(one.value, 6)) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def log(folder: Path, report_to: str, done: int, *entries: dict[str, Any]) -> None:
    with RunLog(folder, "rl", report_to) as run:
        run.begin(done, 4)
        for entry in entries:
            run.add(entry)


def test_tensorboard_shows_a_run_and_leaves_out_what_was_taken_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    steps = [{"step": n, "epoch": 0, "loss": 1 / n, "seconds": {"train": 0.5}} for n in (1, 2, 3)]
    log(tmp_path, "tensorboard", 0, {"step": 0, "eval_loss": 2.0}, *steps)
    assert scalars(tmp_path / "tensorboard") == {
        "eval_loss": [(0, 2.0)],
        "loss": [(1, 1.0), (2, 0.5), (3, 0.333333)],
        "seconds/train": [(1, 0.5), (2, 0.5), (3, 0.5)],
    }
    log(tmp_path, "tensorboard", 2, {"step": 3, "loss": 0.25}, {"step": 4, "loss": 0.125})
    assert scalars(tmp_path / "tensorboard")["loss"] == [(1, 1.0), (2, 0.5), (3, 0.25), (4, 0.125)]


def records(file: Path) -> Iterator[bytes]:
    """The records of a run of Weights & Biases: blocks of 32 KiB, each record in one piece or several."""
    whole, at, held = file.read_bytes(), 7, b""  # its own mark and version stand first
    while at + 7 <= len(whole):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(whole[at + 4 : at + 6], "little"), whole[at + 6]
        held, at = held + whole[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield held
            held = b""


@pytest.mark.slow
def test_weights_and_biases_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    log(tmp_path, "wandb", 0, {"step": 1, "reward": 0.25}, {"step": 2, "reward": 0.5})
    from wandb.proto import wandb_internal_pb2

    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    deadline = time.monotonic() + 20
    while file.stat().st_size < 100 and time.monotonic() < deadline:
        time.sleep(0.05)  # its `finish()` returns before the file is written
    found = []
    for raw in records(file):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(raw)
        if record.HasField("history"):
            items = record.history.item
            found.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    assert [(one["_step"], one["reward"]) for one in found] == [(1, 0.25), (2, 0.5)]


def test_trackio_keeps_a_run_on_this_machine_and_says_nothing_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read once, when it is imported
    storage: Any = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    log(tmp_path, "trackio", 0, {"step": 1, "reward": 0.25}, {"step": 2, "reward": 0.5})
    assert capsys.readouterr().out == ""
    (run,) = storage.get_runs("ftsim")
    assert [(one["step"], one["reward"]) for one in storage.get_logs("ftsim", run)] == [(1, 0.25), (2, 0.5)]


class Failing:
    def add(self, step: int, figures: object) -> None:
        raise OSError("no space left")

    def close(self) -> None:
        raise AssertionError("it was given up")


def test_a_writer_that_fails_is_given_up_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporting, "find_spec", lambda name: name)
    monkeypatch.setattr(reporting, "_WRITERS", {"wandb": lambda *_: Failing()})
    log(tmp_path, "wandb", 0, {"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5})
    assert capsys.readouterr().err.count("nothing more is reported to wandb: no space left") == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("report_to", "said"),
    [("comet", "'comet' is not one of tensorboard, trackio, wandb"), ("wandb", "needs the package wandb: pip install")],
)
def test_a_writer_that_there_is_none_of_is_refused(report_to: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=said):
        reporting.writers_named(f" {report_to},")


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path / "backend")) as emulator:
        emulator.platform.jobs.create("local", JobSpec(base_model=BASE), "j1")
        yield emulator


@pytest.mark.parametrize("every_s", [reporting.EVERY_S, -1.0])
def test_the_emulator_that_a_run_trains_on_is_told_its_reward(
    emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], every_s: float
) -> None:
    monkeypatch.setattr(reporting, "EVERY_S", every_s)
    job = f"accounts/{emu.account}/rlorTrainerJobs/j1"
    for name, value in (emu.env() | {reporting.METRICS_URL: f"{emu.url}/_ftsim/metrics"}).items():
        monkeypatch.setenv(name, value)
    with RunLog(tmp_path, "rl") as run:
        run.begin(0, 2, job)
        run.add({"step": 1, "data_consumed": 8, "reward": 0.25})
        run.add({"step": 2, "data_consumed": 16, "reward": 0.5})
    told = httpx.get(
        f"{emu.url}/_ftsim/curves", params={"owner": job}, headers={"X-Api-Key": os.environ["FIREWORKS_API_KEY"]}
    )
    assert told.json()["told"] == {"reward": {"steps": [1, 2], "values": [0.25, 0.5]}}
    assert "nothing more is reported" not in capsys.readouterr().err
    monkeypatch.setenv("FIREWORKS_BASE_URL", "https://elsewhere.example")
    with RunLog(tmp_path / "other", "rl") as run:
        run.begin(0, 2, job)
        run.add({"step": 3, "reward": 0.75})
    assert emu.world.curves.of(job)[-1].steps == [1, 2], "another service's key is not sent to the emulator"
