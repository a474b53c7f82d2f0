"""What a key is good for, and what its account may do."""

from typing import Any

from ftsim.scenarios import running, serving
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage

ID = "F18"
TITLE = "a key for inference only, of two accounts, without the shape, over the quota"


def reproduce(stage: Stage) -> Report:
    seen = []
    with stage.quirks.set("auth.inference_only", True):
        denied = refusal(lambda: _manager(stage).account_id)
        works = serving.complete(stage, BASE)
    claim("401" in str(denied) and works.status_code == 200, f"{denied}, completions {works.status_code}")
    seen.append(f"inference only: {running.first_line(denied)}; completions: {works.status_code}")
    for listed in ("two", "none"):
        with stage.quirks.set("accounts.listed", listed):
            error = refusal(lambda: _manager(stage).account_id)
        claim(isinstance(error, ValueError), f"{listed}: {error!r}")
        seen.append(f"{listed}: {running.first_line(error)}")
    shaped = stage.job_config(
        "job-1", training_shape_ref="accounts/fireworks/trainingShapes/ts-qwen3-4b-policy/versions/1",
        max_context_length=None, accelerator_type=None, accelerator_count=None,
        base_model="accounts/fireworks/models/qwen3-4b",
    )  # fmt: skip
    with stage.quirks.set("shapes.enabled", False):
        disabled = refusal(stage.manager.create, shaped)
    claim(getattr(disabled, "status_code", None) == 412, f"{disabled!r}")
    seen.append(f"412: {running.first_line(disabled)}")
    stage.manager.create(stage.job_config("job-2"))
    stage.quirks.set("jobs.quota", 1)
    stage.quirks.set("jobs.quota_answer", "429")
    slept = stage.time.slept
    with running.patient(stage):
        full = refusal(stage.manager.create, stage.job_config("job-3"))
    claim(getattr(full, "status_code", None) == 429, f"{full!r}")
    seen.append(f"429 after {stage.time.slept - slept:.0f} s of retries: {running.first_line(full)}")
    stage.manager.delete("job-2")
    made = _manager(stage).create(stage.job_config("job-3"))
    claim(running.state(stage, made.job_id) == "JOB_STATE_RUNNING", f"{made}")
    return Report(
        sees=seen,
        exchanges=[stage.exchanges("list_accounts")[0], *stage.exchanges("create_job")[:1]],
        right=[f"tries the key before anything costs money, frees what it does not need: {made.job_id} runs"],
    )


def _manager(stage: Stage) -> Any:
    """A client that has not looked up its account yet."""
    from fireworks.training.sdk import TrainerJobManager

    return stage.closed_at_the_end(TrainerJobManager(api_key=stage.key, base_url=stage.url))
