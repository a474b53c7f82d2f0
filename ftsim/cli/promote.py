"""`ftsim promote`."""

from typing import Annotated

import typer

from ftsim.cli.console import ApiKey, StateDir, Url, fail


def promote(
    job_id: Annotated[str, typer.Option(help="Trainer job.")],
    output_model_id: Annotated[str, typer.Option(help="Id of the model to make.")],
    base_model: Annotated[str, typer.Option(help="Resource name of the model that the job trained.")],
    checkpoint_name: Annotated[
        str | None, typer.Option(help="Checkpoint; the newest promotable one by default.", show_default=False)
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Make a model of a checkpoint."""
    import contextlib

    from ftsim.cli.service import emulator_of
    from ftsim.process.environment import in_environment

    arguments = ["--job-id", job_id, "--output-model-id", output_model_id, "--base-model", base_model]
    if checkpoint_name is not None:
        arguments += ["--checkpoint-name", checkpoint_name]
    with contextlib.ExitStack() as stack:
        if url is None:
            url, api_key = stack.enter_context(emulator_of(state_dir))
        elif not api_key:
            fail(f"no key for {url}: give --api-key or set FIREWORKS_API_KEY")
        stack.enter_context(in_environment({"FIREWORKS_BASE_URL": url, "FIREWORKS_API_KEY": api_key or ""}))
        from ftsim.training.promote_checkpoint import REFUSALS, carry_out

        try:
            carry_out(arguments)
        except REFUSALS as error:
            fail(" ".join(str(error).split()))
