import pytest

from ftsim.training.steps import learning_rate


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
