import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, strategies as st

from ftsim.training.errors import ConfigError
from ftsim.training.metrics import RunLog
from ftsim.training.pictures import HEIGHT, WIDTH, ticks


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
        assert log.draw() == tmp_path / "loss.svg"
        assert (tmp_path / "loss.svg").stat().st_size > 1000


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
            return log.draw().read_bytes()

    first = draw(1)
    (tmp_path / "loss.svg").write_bytes(b"untouched")
    assert draw(None) == b"untouched"
    assert draw(2) not in (first, b"untouched")


def test_a_picture_shows_every_point_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    entries = [
        {"step": step, "loss": loss} for step, loss in ((1, 2.0), (2, float("nan")), (3, 1.0), (4, float("inf")))
    ]
    with RunLog(tmp_path, "sft <1>") as log:
        log.begin(0, 4)
        for entry in [*entries, {"step": 2, "eval_loss": 1.5}]:
            log.add(entry)
        picture = ElementTree.fromstring(log.draw("loss.png").read_bytes())
    assert [file.name for file in tmp_path.glob("loss.*")] == ["loss.svg"]
    space = {"svg": "http://www.w3.org/2000/svg"}
    training, held_out = (one.attrib["points"].split() for one in picture.iterfind(".//svg:polyline", space))
    assert (len(training), len(held_out)) == (2, 1)
    (left, above), (right, below) = ([float(at) for at in point.split(",")] for point in training)
    assert left < right < WIDTH
    assert above < below < HEIGHT
    texts = [one.text for one in picture.iterfind(".//svg:text", space)]
    assert {"sft <1>", "training", "held out", "step", "loss per token", "1", "3"} <= {*texts}


@pytest.mark.parametrize("whole", [True, False])
@given(low=st.floats(-1e9, 1e9), reach=st.floats(0, 1e9) | st.just(0.0) | st.just(1e-9))
def test_ticks_cover_what_is_drawn(low: float, reach: float, whole: bool) -> None:
    found = ticks(low, low + reach, whole=whole)
    slack = 1e-6 * (found[-1] - found[0])
    assert 2 <= len(found) <= 9
    assert found[0] <= low + slack
    assert low + reach <= found[-1] + slack
    assert found == sorted(set(found))
