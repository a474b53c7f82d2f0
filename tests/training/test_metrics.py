import os
from pathlib import Path

import pytest

from ftsim.training.errors import ConfigError
from ftsim.training.metrics import RunLog

pytestmark = pytest.mark.usefixtures("pictures")


def test_a_resumed_log_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    with RunLog(tmp_path, "sft") as log:
        log.begin(0, 4)
        for step in (1, 2, 3):
            log.add({"step": step, "loss": 1.0 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    with RunLog(tmp_path, "sft") as log:
        log.begin(2, 4)
        log.add({"step": 3, "loss": 0.5})
        log.add({"step": 3, "eval_loss": 0.6})
        assert [entry["step"] for entry in log.entries()] == [1, 2, 3, 3]
        assert log.draw() == tmp_path / "loss.png"
        assert (tmp_path / "loss.png").stat().st_size > 1000


def test_a_log_whose_writer_dies_as_it_is_cut_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunLog(tmp_path, "sft") as log:
        log.begin(0, 4)
        for step in (1, 2, 3):
            log.add({"step": step, "loss": 1.0 / step})
    whole = (tmp_path / "metrics.jsonl").read_bytes()

    def die(*paths: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt), RunLog(tmp_path, "sft") as log:
        log.begin(2, 4)
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole


def test_a_second_process_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with RunLog(tmp_path, "sft") as first:
        first.begin(0, 1)  # which puts another file in the log's place
        with pytest.raises(ConfigError, match="another process"), RunLog(tmp_path, "sft"):
            pass
    with RunLog(tmp_path, "sft"):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"), RunLog(tmp_path / "file", "sft"):
        pass


def test_a_picture_is_drawn_again_only_when_something_was_logged_since(tmp_path: Path) -> None:
    def draw(step: int | None) -> bytes:
        with RunLog(tmp_path, "sft") as log:
            if step is not None:
                log.begin(step - 1, step)
                log.add({"step": step, "loss": 1.0 / step})
            picture = log.draw()
            assert picture is not None
        return picture.read_bytes()

    first = draw(1)
    (tmp_path / "loss.png").write_bytes(b"untouched")
    assert draw(None) == b"untouched"
    assert draw(2) not in (first, b"untouched")


def test_without_matplotlib_a_run_ends_without_a_picture_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ftsim.training.metrics.find_spec", lambda name: None)
    with RunLog(tmp_path, "sft") as log:
        log.begin(0, 1)
        log.add({"step": 1, "loss": 1.0})
        assert log.draw() is None
    assert not (tmp_path / "loss.png").exists()
    assert "loss.png is not drawn: matplotlib is not installed" in "".join(capsys.readouterr())
