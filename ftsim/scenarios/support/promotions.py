"""Helpers of the scenarios of promotion."""

from typing import Any

from ftsim.scenarios.support.stage import BASE, Stage, short


def sampler(client: Any, name: str, kind: str = "base") -> str:
    """Save weights for sampling; the row's id, suffix and all."""
    return str(client.save_weights_for_sampler_ext(name, checkpoint_type=kind).snapshot_name)


def rows(stage: Stage, job: str = "job-1") -> list[Any]:
    """The listed rows as our own client reads them, newest first."""
    from ftsim.training.checkpoints.rows import read_rows

    return read_rows(stage.manager.list_checkpoints(job))


def row(stage: Stage, identifier: str, job: str = "job-1") -> Any:
    """One listed row by its id."""
    return next(found for found in rows(stage, job) if found.id == identifier)


def promote(stage: Stage, checkpoint: str, model: str, job: str = "job-1", base: str = BASE) -> dict[str, Any]:
    """As the vendor's client does it; retries wait on the emulator's clock."""
    from fireworks.training.sdk import errors, fireworks_client

    name = f"{stage.job_name(job)}/checkpoints/{checkpoint}"
    with stage.fake_time(errors, fireworks_client):
        promoted = stage.manager.promote_checkpoint(name=name, output_model_id=model, base_model=base)
    return dict(promoted)


def promote_rightly(stage: Stage, found: Any, model: str, base: str = BASE) -> dict[str, Any]:
    """As our own client does it, on the same client of the vendor's."""
    from fireworks.training.sdk import errors, fireworks_client

    from ftsim.training.checkpoints.promotion import promote as ours

    with stage.fake_time(errors, fireworks_client):
        return ours(stage.manager, found, model, base, sleep=stage.time.sleep)


def models(stage: Stage) -> list[str]:
    """Ids of the account's own models."""
    return [short(model.name) for model in stage.emulator.world.models]


def step_of(stage: Stage, model: str) -> int:
    """The step of the checkpoint that a model of the account was made from."""
    made = stage.emulator.world.models.get(f"accounts/{stage.account}/models/{model}")
    assert made is not None
    return made.source_step


def first_line(error: object) -> str:
    """The first line of an error, as a log would show it."""
    return str(error).splitlines()[0][:200]


def cause(error: object) -> str:
    """The server's own words in an error of the vendor's client."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line.startswith("Cause:")), lines[0])[:260]
