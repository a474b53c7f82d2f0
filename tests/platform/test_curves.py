"""The metrics of every optimizer step, kept for whoever looks at a run later."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.platform.jobs.spec import JobSpec
from emulator.platform.trainers import curves
from emulator.server import Emulator
from emulator.state.curves import Curve
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import Wire, batch

JOB = "accounts/local/rlorTrainerJobs/j1"


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path / "backend"), state_dir=tmp_path / "state") as emulator:
        emulator.platform.jobs.create("local", JobSpec(base_model=BASE), "j1")
        yield emulator


def take(emu: Emulator, *verbs: tuple[str, Any]) -> list[Curve]:
    """Returns what is kept after a new model was asked these."""
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}) as http:
        wire = Wire(http)
        for seq, (verb, body) in enumerate(verbs, 1):
            wire.run(verb, seq, **body)
    return emu.world.curves.of(JOB)


FORWARD = ("forward_backward", {"forward_backward_input": batch(1, 2, 3)})
STEP = ("optim_step", {"adam_params": {"learning_rate": 0.5}})


def test_a_step_keeps_loss_rate_and_norm_and_the_journal_says_nothing_of_it(emu: Emulator) -> None:
    (curve,) = take(emu, FORWARD, FORWARD, STEP, FORWARD, STEP)
    assert (curve.steps, curve.origin, curve.first) == ([1, 2], "", True)
    summed = [
        one.answer["metrics"]["loss:sum"]
        for one in emu.journal.of("retrieve_future")
        if isinstance(one.answer, dict) and "loss:sum" in one.answer.get("metrics", {})
    ]
    assert curve.columns["loss"] == pytest.approx([sum(summed[:2]) / 6, summed[2] / 3])
    assert curve.columns["lr"] == [0.5, 0.5]
    assert all(value and value > 0 for value in curve.columns["grad_norm"])
    assert {change.kind for one in emu.journal for change in one.changes} == set()


def test_a_policy_loss_keeps_divergence_and_advantages(emu: Emulator) -> None:
    data = {
        "model_input": {"chunks": [{"tokens": [1, 2, 3]}]},
        "loss_fn_inputs": {
            "target_tokens": {"data": [1, 2, 3], "dtype": "int64"},
            "logprobs": {"data": [0.0, -1.0, -2.0]},
            "advantages": {"data": [0.0, 2.0, -1.0]},
        },
    }
    asked = {"forward_backward_input": {"data": [data], "loss_fn": "importance_sampling"}}
    (curve,) = take(emu, ("forward_backward", asked), STEP)
    (answer,) = [
        one.answer
        for one in emu.journal.of("retrieve_future")
        if isinstance(one.answer, dict) and "loss_fn_outputs" in one.answer
    ]
    new = answer["loss_fn_outputs"][0]["logprobs"]["data"]
    assert curve.columns["kl"] == pytest.approx([((-1.0 - new[1]) + (-2.0 - new[2])) / 2])
    assert curve.columns["advantage"] == [0.5]


def test_a_load_begins_a_curve_of_its_own(emu: Emulator) -> None:
    take(emu, FORWARD, STEP, ("save_weights", {"path": "step-1"}), FORWARD, STEP)
    first, second = take(emu, ("load_weights", {"path": "step-1", "optimizer": True}), FORWARD, STEP)
    assert (first.steps, second.steps) == ([1, 2], [2])
    assert (second.origin, second.first) == (f"{JOB}/checkpoints/step-1", True)
    assert first.created == 0
    assert second.created == emu.world.checkpoints.of(JOB)[0].created


def test_pieces_are_bounded_and_survive_a_restart(
    emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "PIECE", 4)
    monkeypatch.setattr(curves, "MOST", 2)
    found = take(emu, *[STEP] * 11)
    assert [(one.steps, one.first) for one in found] == [([5, 6, 7, 8], False), ([9, 10, 11], False)]
    emu.stop()
    with Emulator(DictBackend(tmp_path / "backend"), state_dir=tmp_path / "state") as again:
        assert [one.steps for one in again.world.curves.of(JOB)] == [[5, 6, 7, 8], [9, 10, 11]]
        again.reset()
        assert len(again.world.curves) == 0
