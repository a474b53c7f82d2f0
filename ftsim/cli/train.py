"""`ftsim train`."""

import contextlib
import os
import shlex
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftsim.cli.console import (
    AsJson,
    CatalogueFiles,
    Compute,
    ModelFolders,
    Platform,
    SamplerOption,
    StateDir,
    TrainerNproc,
    TrainerWorkers,
    fail,
    tell,
)

if TYPE_CHECKING:
    from emulator.state.server_record import ServerRecord
    from ftsim.process.run import ServerOptions

RECIPES = "ftsim.training.recipes"
BASE_MODEL = "accounts/fireworks/models/qwen3-8b"
DATA_SETS = {
    "sft": "chat",
    "dpo": "preference",
    "orpo": "preference",
    "rl": "rl-copy",
    "async_rl": "rl-copy",
    "igpo": "search",
}
"""Shipped data per recipe: NAME-train, and NAME-eval where the recipe evaluates."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "sft": {"learning_rate": 1e-3, "eval_interval": 10},
    "dpo": {"learning_rate": 3e-4, "eval_interval": 5},
    "orpo": {"learning_rate": 1e-3, "eval_interval": 5},
    "rl": {"learning_rate": 3e-3, "epochs": 2, "completions_per_prompt": 8, "max_completion_tokens": 16},
    "async_rl": {"learning_rate": 3e-3, "epochs": 2, "completions_per_prompt": 8, "max_completion_tokens": 16},
    "igpo": {"learning_rate": 3e-3, "completions_per_prompt": 8, "max_completion_tokens": 16},
}
"""Settings that suit the small models better than a recipe's own defaults."""


def train(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(DATA_SETS)}.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Fields of the recipe's Config, e.g. infra.region=eu.", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file of fields; KEY=VALUE goes before it.", show_default=False)
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw all that was logged into LOG_PATH/curves.png.")] = False,
    state_dir: StateDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell steps, saves, rows and the model's id; start and write nothing.")
    ] = False,
    platform: Platform = None,
    model: ModelFolders = None,
    catalogue: CatalogueFiles = None,
    compute: Compute = None,
    trainer_workers: TrainerWorkers = None,
    trainer_nproc: TrainerNproc = None,
    sampler: SamplerOption = None,
    as_json: AsJson = False,
) -> None:
    """Train with a recipe.

    Without settings it trains a LoRA adapter of qwen3-8b on data that ships with ftsim, in ./runs/RECIPE, and promotes
    it. The same command goes on with a run that was interrupted. The emulator of the state folder is started when it
    does not run; options that say how it is to be are refused when it does. `dataset` and `eval_dataset` take files or
    names of shipped data sets.
    """
    from ftsim.cli import overrides
    from ftsim.compute.models import hub
    from ftsim.extras import require
    from ftsim.process.attendance import default_state_dir
    from ftsim.process.environment import in_environment
    from ftsim.process.run import ServerOptions

    require("train", "recipes")
    if plot:
        require("plot", "pictures")
    recipe = recipe.removesuffix("_loop").replace("-", "_")  # what the module is called
    if recipe not in names():
        fail(f"there is no recipe {recipe!r}; there are {', '.join(names())}", 2)
    if os.getcwd() not in sys.path:  # functions that settings name, found as by `python -m`
        sys.path.insert(0, os.getcwd())
    root = (state_dir or default_state_dir()).expanduser().resolve()
    with contextlib.ExitStack() as stack:
        # Before anything imports the hub library, which reads them once.
        stack.enter_context(in_environment(hub.build(root / "hub")))
        try:
            given = overrides.read_yaml(config) if config else {}
            given = overrides.merged(given, overrides.read_assignments(settings or []))
            configured, main = load(recipe, given)
        except ValueError as error:
            fail(f"{recipe}: {error}", 2)
        files = tuple(file.resolve() for file in catalogue or ())
        options = ServerOptions(
            platform=platform,
            models=tuple(model or ()),
            catalogues=files,
            compute=tuple(compute or ()),
            trainer_workers=trainer_workers,
            trainer_nproc=trainer_nproc,
            sampler=sampler,
        )
        if dry_run and as_json:
            fail("--dry-run prints lines for people: it goes without --json", 2)
        if dry_run:
            foretell(recipe, configured, root, options)
            return
        from ftsim.training.trainers import job_id_for

        if not configured.serverless:
            job = configured.trainer_job_id or job_id_for(recipe, configured.log_path)
            print(f"job {job}", flush=True, file=sys.stderr if as_json else sys.stdout)
        try:
            result, server = run(configured, main, root, options)
        except KeyboardInterrupt:
            fail(f"interrupted; to go on: {' '.join(map(shlex.quote, ['ftsim', *sys.argv[1:]]))}", 130)
    report(result, server, configured, as_json)
    if plot:
        from ftsim.inspect import curves

        folder = Path(configured.log_path)
        entries = curves.read(folder / "metrics.jsonl")
        to = sys.stderr if as_json else sys.stdout
        print(f"curves: {curves.draw(entries, folder / 'curves.png', f'{recipe}: {folder}')}", file=to)


def names() -> list[str]:
    """The recipes there are."""
    return [name for name in DATA_SETS if find_spec(f"{RECIPES}.{name}_loop")]


def load(recipe: str, given: dict[str, Any]) -> tuple[Any, Callable[[Any], dict[str, Any]]]:
    """The recipe's `main` and the `Config` it is called with; `ValueError` says what is wrong with `given`."""
    from importlib import import_module

    from ftsim.cli import overrides
    from ftsim.training.config import mark_set

    module = import_module(f"{RECIPES}.{recipe}_loop")
    tree = overrides.merged(defaults(recipe, given, module.Config), given)
    for key in ("dataset", "eval_dataset", "evaluation_dataset"):
        if isinstance(tree.get(key), str):
            tree[key] = data_file(tree[key])
    config = overrides.build(module.Config, tree)
    mark_set(config, given)  # what stands here by default must not keep a run from going on
    return config, module.main


def defaults(recipe: str, given: dict[str, Any], config_class: Any) -> dict[str, Any]:
    """Values for what is not given: shipped data, a LoRA of a shipped model, a name for the result."""
    from dataclasses import fields

    from ftsim.cli import overrides
    from ftsim.compute.models import catalogue as models
    from ftsim.training.trainers import job_id_for

    base, log_path = given.get("base_model", BASE_MODEL), given.get("log_path", f"runs/{recipe}")
    named = isinstance(log_path, str)  # else it is refused in a moment
    known = {field.name for field in fields(config_class)}
    tree: dict[str, Any] = {
        "log_path": log_path,
        "base_model": base,
        # The same for every rerun, another one for another run.
        "output_model_id": job_id_for(recipe, log_path)[: len(recipe) + 9] if named else None,
        "lora_rank": 8,
    }
    if "dcp_save_interval" not in given:
        tree["weight_sync"] = {"dcp_save_interval": 10}
    if base in models.names():
        tree["tokenizer_model"] = models.facts(base).tokenizer_id
    if "dataset" not in given:
        tree["dataset"] = f"{DATA_SETS[recipe]}-train"
        if not {"eval_dataset", "evaluation_dataset", "eval_split"} & given.keys():
            tree["eval_dataset"] = f"{DATA_SETS[recipe]}-eval"
    tree = overrides.merged(tree, DEFAULTS.get(recipe, {}))
    return {key: value for key, value in tree.items() if key in known}


def data_file(name: str) -> str:
    """A file as it is; the name of a shipped data set as its file."""
    from ftsim.compute import data

    return str(data.path(name)) if not Path(name).exists() and name in data.names() else name


def foretell(recipe: str, config: Any, root: Path, options: "ServerOptions") -> None:
    """Tell what the run would do; what it would refuse ends the command with status 1."""
    from importlib import import_module

    from emulator.core.errors import PlatformError
    from ftsim.cli import dry_run
    from ftsim.process.run import RunError
    from ftsim.training.errors import CheckpointError

    try:
        dry_run.check_server(options, root)
        dry_run.tell(config, import_module(f"{RECIPES}.{recipe}_loop"), root)
    except (ValueError, CheckpointError, PlatformError, RunError) as error:
        fail(str(error))


def run(
    config: Any, main: Callable[[Any], dict[str, Any]], root: Path, options: "ServerOptions | None" = None
) -> tuple[dict[str, Any], "ServerRecord"]:
    """Run the recipe against the emulator of a state folder, with what `ftsim run` gives a program."""
    from ftsim.process import ending
    from ftsim.process.attendance import Attendance
    from ftsim.process.environment import OVERRIDING_VARIABLES, in_environment, program_environment
    from ftsim.process.run import RunError, join_server
    from ftsim.training.errors import CheckpointError, TrainerError
    from ftsim.training.sdk import is_refusal

    try:
        # The registration lives as long as this process does.
        server, _ = join_server(Attendance(root), options=options)
    except (RunError, OSError) as error:
        fail(str(error))
    since, message = ending.mark(server.url, server.api_key), ""
    try:
        with in_environment(program_environment(os.environ, server, {}), OVERRIDING_VARIABLES):
            return main(config), server
    except Exception as error:
        ours = isinstance(error, ValueError | TrainerError | CheckpointError)
        if not (ours and type(error).__module__.startswith("ftsim.")) and not is_refusal(error):
            raise
        message = " ".join(str(error).split())
        fail(message)
    finally:
        said = ending.line(server.url, server.api_key, since)
        if said and said.partition(": ")[2] not in message:
            print(f"ftsim: {said}", file=sys.stderr)


def report(result: dict[str, Any], server: "ServerRecord", config: Any, as_json: bool = False) -> None:
    """Print the rows of the job, or of the last session on the pool, and the model made of it."""
    from ftsim.cli.checkpoints import show
    from ftsim.cli.service import connect
    from ftsim.inspect.listing import oldest_first
    from ftsim.inspect.tables import describe
    from ftsim.training.serverless import session_names

    owner = session_names(config.log_path)[-1] if config.serverless else result["job_id"]
    with connect(server.url, server.api_key, None) as service:
        rows, now = service.rows(owner)
    described = [describe(row, now or 0.0) for row in oldest_first(rows)]
    if as_json:
        tell(result | {"checkpoints": described}, True)
        return
    more = f"run {result['job_id']}" if config.serverless else f"more of this job: ftsim job {result['job_id']}"
    print(f"{result['steps']} steps; {more}")
    show(described)
    model = result.get("model")
    if model:
        print(f"model {model.get('name')} ({model.get('kind')}, {model.get('state')})")
