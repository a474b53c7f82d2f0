import time
from typing import Any

import pytest

from ftsim.training.errors import TrainerError
from ftsim.training.steps import Submitted, learning_rate, scheduled_rate


def rates(schedule: str, **more: float) -> list[float]:
    fixed = {"peak": 1.0, "schedule": schedule, "warmup_steps": 2, "total_steps": 6} | more
    return [learning_rate(step, **fixed) for step in range(6)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_warm_up_rises_to_the_peak_and_then_decays(schedule: str, wanted: list[float]) -> None:
    assert rates(schedule) == pytest.approx(wanted)


def test_decay_ends_at_the_floor() -> None:
    floor = learning_rate(6, peak=2.0, schedule="cosine", warmup_steps=0, total_steps=6, min_ratio=0.1)
    assert floor == pytest.approx(0.2)
    assert rates("linear", min_ratio=0.5)[-1] == pytest.approx(0.625)


def test_the_sdk_s_schedule_is_asked_for_the_step_it_counts_from_one() -> None:
    from fireworks.training.sdk import CosineSchedule, compute_lr

    spec = CosineSchedule(warmup_steps=2, min_lr_ratio=0.1)
    for given in (spec, {"type": "cosine", "warmup_steps": 2, "min_lr_ratio": 0.1}):
        rates = [scheduled_rate(given, step, peak=2.0, total_steps=8) for step in range(8)]
        assert rates == [compute_lr(spec, step, 2.0, total_steps=8) for step in range(1, 9)]
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(0.2)


class Slow:
    """A future that is never done."""

    def result(self, timeout: float | None = None) -> Any:
        assert timeout is not None
        time.sleep(timeout)
        raise TimeoutError


class Failing:
    def result(self, timeout: float | None = None) -> Any:
        raise TimeoutError("of its own")


def test_a_step_that_takes_too_long_says_which_setting_ended_it() -> None:
    with pytest.raises(TrainerError, match=r"step_timeout=0\.05 s"):
        Submitted([Slow()], Slow(), 0.05).result()
    with pytest.raises(TimeoutError, match="of its own"):
        Submitted([Failing()], Failing(), 60.0).result()
