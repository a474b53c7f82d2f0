"""A life under each profile that a careful client survives: create, train, save, resume, promote."""

from collections.abc import Iterator

import pytest

from emulator.core.catalogue import PLATFORMS
from emulator.quirks import profiles
from ftsim.scenarios import shared_backend
from ftsim.scenarios.support.stage import BASE, Stage, open_stage, train


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_stage(shared_backend()) as opened:
        yield opened


@pytest.mark.parametrize("profile", ["production-like", "april-2026"])
def test_a_run_is_trained_interrupted_resumed_and_promoted(stage: Stage, profile: str) -> None:
    profiles.apply(stage.quirks, profile)
    _live(stage, rank=0)


@pytest.mark.parametrize("rank", [0, 8])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_same_life_on_every_platform(stage: Stage, platform: str, rank: int) -> None:
    stage.emulator.move_to(platform)
    _live(stage, rank)


def _live(stage: Stage, rank: int) -> None:
    with stage.fake_time():
        stage.manager.create_and_wait(stage.job_config("job-1", rank))
        client = stage.client(rank=rank)
        checkpoints = stage.checkpoints(client)
        for step in (1, 2):
            train(client, step)
            checkpoints.save(f"step-{step}", data_consumed=8 * step)
        stage.emulator.platform.jobs.preempt(stage.account, "job-1")
        stage.manager.resume_and_wait("job-1")
        again = stage.client(rank=rank)
        resumed = stage.checkpoints(again)
        info = resumed.resume()
        assert info is not None
        assert (info.step, info.data_consumed) == (2, 16)
        train(again, 3)
        resumed.save("step-3", data_consumed=24, promotable=True)
        assert resumed.promote_latest("model", BASE)["state"] == "READY"
