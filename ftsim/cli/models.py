"""`ftsim models`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftsim.cli.console import ApiKey, AsJson, StateDir, Url, fail, print_wide

if TYPE_CHECKING:
    from ftsim.cli.service import Service

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
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "kind", "state", "trained from"):
        drawn.add_column(heading, no_wrap=True)
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
) -> None:
    """Fetch the files of a model, as `transformers` and `peft` open them."""
    from ftsim.cli.service import connect

    with connect(url, api_key, state_dir) as service:
        full, files = fetch(service, name, folder)
    print(f"{full}: {files} files in {folder}")


def fetch(service: "Service", name: str, folder: Path) -> tuple[str, int]:
    """Fetch a model's files into a new or empty folder; returns its full name and how many files it has."""
    import httpx

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fail(f"{folder} is not an empty folder")
    full = name if "/" in name else f"accounts/{service.account}/models/{name}"
    urls = service.get(f"/v1/{full}:getDownloadEndpoint").get("filenameToSignedUrls") or {}
    if not urls:
        fail(f"{full} has no files to fetch")
    for file in urls:
        if file in ("", ".", "..") or Path(file).name != file or "\\" in file or "\0" in file:
            fail(f"{full} is refused: {file[:120]!r} is no file name")
    folder.mkdir(parents=True, exist_ok=True)
    with httpx.Client(timeout=service.client.timeout, trust_env=service.client.trust_env) as storage:  # no key for it
        for file, address in urls.items():
            _fetch(storage, address, folder / file)
    return full, len(urls)


def _fetch(client: Any, address: str, target: Path) -> None:
    """Stream one file; a torn one never keeps its name."""
    aside = target.with_name(f".{target.name}.part")
    with client.stream("GET", address) as response:
        if not response.is_success:
            fail(f"{target.name} cannot be fetched: HTTP {response.status_code}")
        with aside.open("wb") as file:
            for block in response.iter_bytes():
                file.write(block)
    aside.replace(target)
