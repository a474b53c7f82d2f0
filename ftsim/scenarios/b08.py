"""The interval is set in one field and read from another."""

from dataclasses import dataclass, field

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "B8"
TITLE = "the save interval never reaches the loop: no resumable checkpoint is ever written"


@dataclass
class _WeightSync:
    dcp_save_interval: int = 0


@dataclass
class _Config:
    """As naive recipes have it: the same setting in two places, 0 for off."""

    dcp_save_interval: int = 0
    weight_sync: _WeightSync = field(default_factory=_WeightSync)


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    config = _Config(dcp_save_interval=2)
    for step in range(1, 5):
        train(client, step)
        if config.weight_sync.dcp_save_interval and step % config.weight_sync.dcp_save_interval == 0:
            client.save_state(f"step-{step}").result()
    stage.emulator.platform.jobs.preempt(stage.account, "job-1")
    rows = stage.manager.list_checkpoints("job-1")
    claim(not rows and not stage.exchanges("save_weights"), f"the rows are {rows}")
    late = refusal(_check_saves, stage, "job-1", 4, config.dcp_save_interval)

    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    for step in range(1, 3):
        train(ours, step)
        if step % config.dcp_save_interval == 0:
            checkpoints.save(f"step-{step}", data_consumed=8 * step)
    _check_saves(stage, "job-2", 2, config.dcp_save_interval)
    return Report(
        sees=["dcp_save_interval is 2, four steps are trained, the trainer is preempted: there is no row to resume"],
        exchanges=stage.exchanges("list_checkpoints")[:1],
        right=[f"one field, and a look at the list after the first interval: {late}"],
    )


def _check_saves(stage: Stage, job: str, step: int, interval: int) -> None:
    rows = [row for row in stage.manager.list_checkpoints(job) if "TRAINING" in row["checkpointType"]]
    if step >= interval and not rows:
        raise RuntimeError(f"{step} steps with a save every {interval}, and no resumable row: saving is off")
