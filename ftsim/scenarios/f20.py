"""A clean-up at the end takes along what was there before."""

from typing import Any

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, train

ID = "F20"
TITLE = "cleaning up cancels and deletes trainers that the run did not create"
_DESTROYS = ("delete_job", "cancel_job", "delete_deployment")


def reproduce(stage: Stage) -> Report:
    stage.job("mine")
    stage.job("naive")
    try:
        train(stage.client("naive"), 0)
    finally:
        stage.manager.delete("naive")  # as if whoever uses a trainer had made it
    naive = stage.exchanges(*_DESTROYS)
    claim([exchange.path.rsplit("/", 1)[-1] for exchange in naive] == ["naive"], f"{naive}")
    gone = running.state(stage, "naive")
    created = _managed(stage, "mine"), _managed(stage, "fresh")
    claim(created == (False, True), f"the SDK thinks that it created {created}")
    _train(stage, "mine", trainer_job_id="mine")
    claim(len(stage.exchanges(*_DESTROYS)) == 1, "a job that was named should be left alone")
    claim(running.state(stage, "mine") == "JOB_STATE_RUNNING", running.state(stage, "mine"))
    _train(stage, "own", trainer_job_id=None)
    own = stage.exchanges(*_DESTROYS)[1:]
    claim([exchange.endpoint for exchange in own] == ["cancel_job"], f"{own}")
    return Report(
        sees=[f"the trainer that somebody else had made for the run is {gone}"],
        exchanges=naive,
        right=["the journal shows no DELETE and no cancel for a job that trainer_job_id named; it runs on",
               f"a job of its own is cancelled, not deleted, and can be resumed: {running.state(stage, 'own')}"],
    )  # fmt: skip


def _managed(stage: Stage, job: str) -> bool:
    """Whether the SDK's managed path counts a job as created by itself, and so as its own to clean up."""
    from fireworks.training.sdk.managed import _ManagedTinkerConfig, _start_or_reuse_trainer

    config = _ManagedTinkerConfig(base_model=BASE, trainer_job_id=job)
    started = _start_or_reuse_trainer(stage.manager, config, max_context_length=64, profile_training_shape=None)
    return bool(started.created)


def _train(stage: Stage, job: str, **settings: Any) -> None:
    """A step on a job as our recipes use one."""
    from ftsim.training.recipes.sft_loop import Config
    from ftsim.training.trainers import training_client

    config = Config(
        log_path=str(stage.folder / job), base_model=BASE, dataset="unused", tokenizer_model="unused", **settings
    )
    with running.patient(stage), training_client(stage.manager, config, job, 64) as client:
        train(client, 0)
