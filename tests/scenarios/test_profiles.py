"""A life under each profile that a careful client survives: create, train, save, resume, promote."""

from collections.abc import Iterator

import pytest

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
    with stage.fake_time():
        stage.manager.create_and_wait(stage.job_config("job-1"))
        client = stage.client()
        checkpoints = stage.checkpoints(client)
        for step in (1, 2):
            train(client, step)
            checkpoints.save(f"step-{step}", data_consumed=8 * step)
        stage.emulator.platform.jobs.preempt(stage.account, "job-1")
        stage.manager.resume_and_wait("job-1")
        again = stage.client()
        resumed = stage.checkpoints(again)
        info = resumed.resume()
        assert info is not None
        assert (info.step, info.data_consumed) == (2, 16)
        train(again, 3)
        resumed.save("step-3", data_consumed=24, promotable=True)
        assert resumed.promote_latest("model", BASE)["state"] == "READY"
