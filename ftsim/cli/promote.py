"""`ftsim promote`."""

from typing import Annotated

import typer

from ftsim.cli.console import ApiKey, AsJson, StateDir, Url, fail, tell


def promote(
    output_model_id: Annotated[str, typer.Option(help="Id of the model to make.")],
    job_id: Annotated[
        str | None,
        typer.Option(
            help="Trainer job: its id or the beginning of it, its display name, a log_path; the newest by default.",
            show_default=False,
        ),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Model that the job trained; read off the job by default.", show_default=False)
    ] = None,
    checkpoint_name: Annotated[
        str | None, typer.Option(help="Checkpoint; the newest promotable one by default.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Make a model of a checkpoint."""
    import contextlib

    from ftsim.cli.service import connect, emulator_of, owner_of
    from ftsim.inspect.owners import find
    from ftsim.process.environment import in_environment

    with contextlib.ExitStack() as stack:
        if url is None:
            url, api_key = stack.enter_context(emulator_of(state_dir))
        elif not api_key:
            fail(f"no key for {url}: give --api-key or set FIREWORKS_API_KEY")
        with connect(url, api_key, None) as service:
            name = find(service, job_id)
            if base_model is None:
                base_model = owner_of(service, name).base_model
        arguments = ["--job-id", name, "--output-model-id", output_model_id, "--base-model", base_model]
        if checkpoint_name is not None:
            arguments += ["--checkpoint-name", checkpoint_name]
        stack.enter_context(in_environment({"FIREWORKS_BASE_URL": url, "FIREWORKS_API_KEY": api_key or ""}))
        from ftsim.training.promote_checkpoint import REFUSALS, carry_out

        try:
            done = carry_out(arguments, (lambda line: None) if as_json else print)
            if as_json:
                tell(done, True)
        except REFUSALS as error:
            fail(" ".join(str(error).split()))
