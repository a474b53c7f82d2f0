"""Sampling ahead of training: a bounded number of steps, the same ones whatever takes how long, killed or not."""

import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fireworks.training.sdk.client import FiretitanSamplingClient, FiretitanTrainingClient

from emulator.server import Emulator
from ftsim.training.data.batches import Step
from ftsim.training.errors import ConfigError
from ftsim.training.recipes import async_rl_loop, rl_loop
from ftsim.training.reinforcement import Rollout, RolloutQueue, Scores
from ftsim.training.utils import WeightSyncConfig
from tests.training.rl_runs import check_interruptions, configure, remains, steps
from tests.training.runs import kill_after, run_to_end

FAR = {
    "max_steps_off_policy": 3,
    "weight_sync": WeightSyncConfig(dcp_save_interval=4, weight_sync_interval=2),
    "policy_loss": "importance_sampling",
    "kl_beta": 0.05,
}


@pytest.fixture
def configured(tmp_path: Path, tokenizer_folder: Path) -> Any:
    return partial(configure, async_rl_loop, tmp_path, tokenizer_folder)


@pytest.mark.parametrize(
    ("lora_rank", "count"), [(8, 1), *(pytest.param(rank, 10, marks=pytest.mark.slow) for rank in (8, 0))]
)
def test_a_run_interrupted_anywhere_ends_like_one_that_was_not(
    emulator: Emulator, configured: Any, lora_rank: int, count: int
) -> None:
    settings = {} if lora_rank else FAR
    left = check_interruptions(
        emulator, async_rl_loop, partial(configured, lora_rank=lora_rank, **settings), count, seed=lora_rank + count
    )
    assert [entry["step"] for entry in left["metrics"]] == [1, 2, 3, 4, 5, 6]
    behind = [entry["off_policy_steps"] for entry in left["metrics"]]
    # Saves are at 2, 4, 6 and at 4, 6: what comes after one is sampled by the policy that it holds.
    assert behind == ([0, 1, 0, 1, 0, 1] if lora_rank else [0, 1, 2, 3, 0, 1])


@pytest.mark.slow
def test_a_killed_process_is_continued(emulator: Emulator, configured: Any) -> None:
    quiet, killed = (
        configured(name, lora_rank=8, dcp_save_interval=2, weight_sync=WeightSyncConfig()) for name in "qk"
    )
    async_rl_loop.main(quiet)
    assert kill_after(killed, emulator, 3) < 6
    run_to_end(killed, emulator)
    assert remains(emulator, async_rl_loop, killed) == remains(emulator, async_rl_loop, quiet)


def test_who_is_slow_makes_no_difference(emulator: Emulator, configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("quiet", "slow"):
        config = configured(name, lora_rank=8, **FAR)
        async_rl_loop.main(config)
        found.append(remains(emulator, async_rl_loop, config))
        chance = random.Random(3)
        for owner, call in ((FiretitanSamplingClient, "sample"), (FiretitanTrainingClient, "optim_step")):
            monkeypatch.setattr(owner, call, late(getattr(owner, call), chance))
    assert found[0] == found[1]
    assert [entry["off_policy_steps"] for entry in found[0]["metrics"]] == [0, 1, 2, 3, 0, 1]


def late(call: Any, chance: random.Random) -> Any:
    def called(*args: Any, **more: Any) -> Any:
        time.sleep(chance.random() * 0.01)
        return call(*args, **more)

    return called


def test_no_step_behind_is_rl(emulator: Emulator, configured: Any, tmp_path: Path, tokenizer_folder: Path) -> None:
    config = configured(lora_rank=8, epochs=1, max_steps_off_policy=0)
    async_rl_loop.main(config)
    plain = configure(rl_loop, tmp_path, tokenizer_folder, "plain", lora_rank=8, epochs=1)
    rl_loop.main(plain)
    assert [{**entry, "off_policy_steps": 0} for entry in steps(plain)] == steps(config)


@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize("ahead", [0, 1, 2])
@pytest.mark.parametrize("saved", [[], [10], [3, 6, 9, 10], list(range(1, 11))])
@pytest.mark.parametrize("resumed", [0, 3])
def test_the_policy_that_samples_a_step_follows_from_the_plan(
    interval: int, ahead: int, saved: list[int], resumed: int
) -> None:
    """In a simulation of a run: no step is more than `ahead` and an interval behind, nor behind a checkpoint."""
    plan = [Step(index, 0, [[index]], index + 1) for index in range(10)]
    whole = sampled(plan, saved, 0, interval, ahead)
    assert [index for index, _ in whole] == list(range(10))
    for index, version in whole:
        assert max([step for step in saved if step <= index], default=0) <= version <= index
        assert index - version <= ahead + interval - 1
    if resumed in saved:
        assert sampled(plan, saved, resumed, interval, ahead) == whole[resumed:]


def sampled(plan: list[Step], saved: list[int], done: int, interval: int, ahead: int) -> list[tuple[int, int]]:
    """Returns each step with the version of the policy that sampled it."""
    weights = done
    found: list[tuple[int, int]] = []
    asked: list[int] = []

    def begin(step: Step) -> Rollout:
        found.append((step.index, weights))
        asked.append(step.index)
        return Rollout(lambda: asked.remove(step.index) or Scores([], {}))  # type: ignore[func-returns-value]

    queue = RolloutQueue(begin, plan, saved, done)
    for step in plan[done:]:
        queue.run_ahead(step.index, ahead)
        _, behind = queue.take(step.index)
        assert (step.index, step.index - behind) in found
        if (number := step.index + 1) in saved or number % interval == 0:
            queue.settle()
            assert not asked  # weights never change while something is sampled
            weights = queue.version = number
    return found


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_steps_off_policy": -1}, "max_steps_off_policy must be at least 0"),
        ({"weight_sync_interval": 3}, "leaves the policy that samples 2 steps behind: .* which is 2"),
        ({"temperature": 0.7}, "temperature=0.7 needs max_steps_off_policy=0"),
        ({"policy_loss": "reinforce"}, "policy_loss reinforce weighs no sample by how likely it is now"),
    ],
)
def test_what_would_train_on_the_wrong_weights_is_refused(fields: dict[str, Any], message: str) -> None:
    needed = {"log_path": "r", "base_model": "accounts/a/models/m", "dataset": "d", "tokenizer_model": "t"}
    with pytest.raises(ConfigError, match=message):
        async_rl_loop.Config(**needed | fields)
    if "temperature" in fields or "policy_loss" in fields:
        async_rl_loop.Config(**needed | fields | {"max_steps_off_policy": 0})
