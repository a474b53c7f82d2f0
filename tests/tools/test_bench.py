"""The bench: its arithmetic, its report, and each measurement run for real where a test can wait for it."""

import json
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ftsim.tools.bench import measure, report
from ftsim.tools.bench.measure import Result, paired, ratio, round_trips
from tests.conftest import Ftsim


@pytest.mark.parametrize(
    ("value", "more_is_better", "ok"), [(1.3, False, True), (1.4, False, False), (1.3, True, True), (1.2, True, False)]
)
def test_a_target_is_a_bound_from_the_right_side(value: float, more_is_better: bool, ok: bool) -> None:
    assert Result("r", value, "x", 1.3, more_is_better).ok is ok


def test_a_figure_without_a_target_can_neither_meet_nor_miss_it() -> None:
    found = Result("r", 9.0, "x", None)
    assert found.ok is None
    assert report.line(found).split() == ["r", "9.00", "x"]


def test_both_sides_take_turns_and_medians_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    taken = iter([1.0, 9.0, 40.0, 8.0, 2.0, 7.0])

    def fake(work: object) -> float:
        assert callable(work)
        work()
        return next(taken)

    monkeypatch.setattr(measure, "milliseconds", fake)
    found = paired(lambda: calls.append("a"), lambda: calls.append("b"), rounds=3, warm_up=1)
    assert calls == ["a", "b"] * 4
    assert found == (2.0, 8.0)


def test_a_ratio_tells_both_sides() -> None:
    found = ratio("slow", lambda: time.sleep(0.02), lambda: time.sleep(0.001), 1.4, rounds=3)
    assert found.value == pytest.approx(found.parts["emulated_ms"] / found.parts["bare_ms"])
    assert found.value > 2
    assert not found.ok


def test_round_trips_are_those_of_a_call_that_was_refused() -> None:
    def refuse() -> None:
        time.sleep(0.005)
        raise ValueError

    assert round_trips(refuse, rounds=3) >= 5
    with pytest.raises(RuntimeError, match="was carried out"):
        round_trips(lambda: None)


def test_both_sides_of_the_lora_step_train_the_same_weights(tmp_path: Path) -> None:
    from emulator.backend import BaseModel, LoraSpec, ModelSpec
    from ftsim.compute.models.catalogue import base_folder
    from ftsim.compute.trainer.trainer import TorchTrainer
    from ftsim.tools.bench.bare import BareTrainer
    from ftsim.tools.bench.workload import BASE_MODEL

    base = base_folder(BASE_MODEL, tmp_path)
    emulated = TorchTrainer(lambda _: base, lora_rank=8)
    emulated.create_model(ModelSpec("m", BaseModel(BASE_MODEL), LoraSpec(8)))
    bare = BareTrainer(base, lora_rank=8)
    shapes = {name: value.shape for name, value in emulated._model("m").trained.items()}
    assert {name: value.shape for name, value in bare.trained.items()} == shapes
    held: Any = emulated._model("m").model
    mine, theirs = held.settings(), bare.model.peft_config["default"]
    assert (mine["r"], mine["lora_alpha"]) == (theirs.r, theirs.lora_alpha)


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, names in report.GROUPS.items() for name in names])
def test_every_measurement_is_there(group: str, name: str) -> None:
    assert callable(getattr(import_module(f"ftsim.tools.bench.{group}"), name))


def test_the_report_is_json_and_the_status_says_whether_targets_are_met(
    ftsim: Ftsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def results(names: list[str]) -> Iterator[Result]:
        yield Result(names[0], 1.0, "x", 1.4, parts={"bare_ms": 3.0})

    monkeypatch.setattr(report, "measure", results)
    done = ftsim("bench", "--json", "--only", "sdk_step")
    assert done.exit_code == 0
    (only,) = json.loads(done.stdout)["results"]
    assert {key: only[key] for key in ("name", "value", "unit", "target", "ok")} == {
        "name": "sdk_step",
        "value": 1.0,
        "unit": "x",
        "target": 1.4,
        "ok": True,
    }
    monkeypatch.setattr(report, "measure", lambda names: iter([Result("sdk_step", 2.0, "x", 1.4)]))
    missed = ftsim("bench", "--only", "sdk_step")
    assert missed.exit_code == 1
    assert missed.stdout.startswith("MISSED sdk_step ")


def test_an_unknown_measurement_names_those_there_are(ftsim: Ftsim) -> None:
    done = ftsim("bench", "--only", "nope")
    assert done.exit_code == 2
    assert "sdk_step" in done.stderr
    assert ftsim("bench", "--list").stdout.split() == [name for names in report.GROUPS.values() for name in names]


@pytest.mark.slow
def test_every_measurement_measures(ftsim: Ftsim) -> None:
    results = json.loads(ftsim("bench", "--json").stdout)["results"]
    listed = [name for names in report.GROUPS.values() for name in names]
    assert [result["name"] for result in results if result["name"] in listed] == listed
    assert {result["name"] for result in results} - set(listed) == {"data_memory_over_base"}
    assert all(result["value"] > 0 for result in results)


def test_a_ratio_with_requests_adds_them_to_the_bare_side_and_keeps_the_plain_one() -> None:
    found = Result("save", 3.0, "x", 1.3, parts={"emulated_ms": 12.0, "bare_ms": 4.0}).with_requests(6.0)
    assert (found.value, found.ok) == (1.2, True)
    assert found.parts == {"emulated_ms": 12.0, "bare_ms": 4.0, "round_trips_ms": 6.0, "without_requests_x": 3.0}
