"""`ftsim models`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ftsim.cli.console import ApiKey, AsJson, StateDir, Url, fail, print_wide, tell

app = typer.Typer(no_args_is_help=True, help="List models, and fetch their files.")


@app.command("list")
def list_models(
    everything: Annotated[bool, typer.Option("--all", help="The shared base models too.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """List the account's models."""
    from ftsim.cli.service import connect

    models: list[dict[str, Any]] = []
    with connect(url, api_key, state_dir) as service:
        for account in (service.account, *(["fireworks"] if everything else [])):
            token = ""
            while True:
                query = {"pageSize": 200} | ({"pageToken": token} if token else {})
                answer = service.get(f"/v1/accounts/{account}/models", **query)
                models += answer.get("models") or []
                token = answer.get("nextPageToken") or ""
                if not token:
                    break
    if as_json:
        print(json.dumps({"models": models}, indent=1))
    elif models:
        _show(models)
    else:
        print("no models yet: `ftsim promote` makes one of a checkpoint")


def _show(models: list[dict[str, Any]]) -> None:
    from ftsim.inspect.tables import columns

    drawn = columns("model", "kind", "state", "trained from")
    for model in models:
        adapter = model.get("peftDetails") or {}
        source = adapter.get("baseModel") or model.get("importedFrom") or ""
        drawn.add_row(model.get("name"), model.get("kind"), model.get("state"), source)
    print_wide(drawn)


@app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="Full resource name, or the id of one of your models.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go; made if it is not there.")],
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
    with_base: Annotated[
        bool, typer.Option("--with-base", help="Of an adapter: its base too, in DIR/base, named in the adapter.")
    ] = False,
    gguf: Annotated[bool, typer.Option("--gguf", help="DIR/model.gguf too, made by llama.cpp's converter.")] = False,
    mlx: Annotated[bool, typer.Option("--mlx", help="DIR/mlx too, made by mlx-lm.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the files of a model, as `transformers` and `peft` open them."""
    from ftsim.cli.service import connect
    from ftsim.inspect.converters import GGUF, MLX
    from ftsim.inspect.service import fetch_base, fetch_model, refuse_adapter

    wanted = [converter for converter, asked in ((GGUF, gguf), (MLX, mlx)) if asked]
    with connect(url, api_key, state_dir) as service:
        for converter in wanted:  # before gigabytes are fetched
            converter.find()
            refuse_adapter(service, name, converter.format)
        full, files = fetch_model(service, name, folder)
        got = [(full, files, folder)]
        if with_base and (base := fetch_base(service, folder)):
            got.append((*base, folder / "base"))
        converted = [(converter.convert(folder), converter.commands[0]) for converter in wanted]
    told = [{"model": name, "files": count, "folder": place} for name, count, place in got]
    lines = [f"{name}: {count} files in {place}" for name, count, place in got]
    lines += [f"{made}: made by {command}" for made, command in converted]
    tell({"pulled": told, "converted": [str(made) for made, _ in converted]}, as_json, *lines)


@app.command("check")
def check_folder(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A model's folder, or an adapter's.")],
    as_json: AsJson = False,
) -> None:
    """Say what a folder is, and whether it can be trained, served and hot-loaded; all of it is tried out."""
    from emulator.backend import BackendError
    from ftsim.compute.models.check import check

    try:
        facts = check(folder)
    except BackendError as error:
        fail(error.message)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    width = max(map(len, facts))
    for about, fact in facts.items():
        print(f"{about:{width}}  {fact}")
