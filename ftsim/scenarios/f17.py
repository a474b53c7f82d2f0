"""Errors have had several forms; only one of them carries a reason for programs."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, batch

ID = "F17"
TITLE = "four shapes of error bodies, and a reason that was masked before"
STYLES = ("status", "error_object", "detail", "text")


def reproduce(stage: Stage) -> Report:
    from fireworks.training.sdk.errors import parse_training_api_error

    path = f"/v1/accounts/{stage.account}/rlorTrainerJobs/none"
    bodies, messages = [], []
    for style in STYLES:
        with stage.quirks.set("errors.style", style):
            answer = stage.http.get(path)
        bodies.append(answer.text[:120])
        messages.append(str(parse_training_api_error(answer)))
    claim(len(set(bodies)) == 4 and all("'none' not found" in text for text in messages), f"{messages}")
    exchanges = stage.exchanges("get_job")
    stage.manager.create(stage.job_config("job-1"))
    stage.quirks.set("jobs.quota", 1)
    full = refusal(stage.manager.create, stage.job_config("job-2"))
    claim(getattr(full, "reason", None) == "QUOTA_EXCEEDED", f"{full!r}")
    with stage.quirks.set("errors.style", "detail"):
        masked = refusal(stage.manager.create, stage.job_config("job-2"))
    claim(getattr(masked, "status_code", None) == 403 and masked.reason is None, f"{masked!r}")  # type: ignore[attr-defined]
    client = stage.client("job-1")
    stage.quirks.set("futures.answer", "409", times=1, endpoint="forward")
    busy = refusal(lambda: client.forward(batch(), "cross_entropy").result())
    claim(isinstance(busy, ValueError) and "409" in str(busy), f"{busy!r}")
    stage.manager.delete("job-1")
    made = stage.manager.create(stage.job_config("job-2"))
    claim(running.state(stage, made.job_id) == "JOB_STATE_RUNNING", f"{made}")
    return Report(
        sees=[*bodies, f"over the quota, in an old body: {masked}", f"409 on a dedicated trainer: {str(busy)[:120]}"],
        exchanges=exchanges[:2],
        right=[f"classifies by ErrorInfo: status {full.status_code}, reason {full.reason}, {full.metadata}; "  # type: ignore[attr-defined]
               "frees a job, creates again"],
    )  # fmt: skip
