"""The job that holds the checkpoint is deleted and past its retention, or never was."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage

ID = "C4"
TITLE = "cross_job:// to a job that is gone: 404"


def reproduce(stage: Stage) -> Report:
    stage.client("source").save_state("step-9").result()
    client = stage.client()
    stage.manager.delete("source")
    client.load_state("cross_job://source/step-9").result()
    stage.clock.advance(31 * 24 * 3600)
    gone = refusal(lambda: client.load_state("cross_job://source/step-9").result())
    unknown = refusal(lambda: client.load_state("cross_job://never/step-9").result())
    claim("not found" in str(gone) and "not found" in str(unknown), f"{gone}; {unknown}")
    jobs = len(stage.exchanges("create_job"))
    early = refusal(_start_from, stage, "source", "step-9")
    claim(len(stage.exchanges("create_job")) == jobs, "a trainer was created for nothing")
    return Report(
        sees=[
            f"31 days after the source was deleted: {str(gone)[:160]}",
            f"a job that never was: {str(unknown)[:120]}",
        ],
        exchanges=stage.exchanges("load_weights", "delete_job"),
        right=[f"read the row before a trainer is created, and keep the source: {str(early).splitlines()[0][:160]}"],
    )


def _start_from(stage: Stage, job: str, name: str) -> None:
    rows = stage.manager.list_checkpoints(job)
    if not any(row["name"].endswith(f"/{name}") for row in rows):
        raise RuntimeError(f"{job} has no checkpoint {name}")
    stage.manager.create(stage.job_config("phase-2"))
