"""The control plane that a command talks to, an emulator or any address with a key: rows, models, their files."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftsim.inspect.listing import ListedRow, page_rows, read

if TYPE_CHECKING:
    import httpx


class ServiceError(Exception):
    """A service refused, did not answer, or has no files to give; the text says which and why."""


@dataclass(frozen=True)
class Service:
    """An open connection. Methods raise `ServiceError` when the service refuses or does not answer."""

    client: "httpx.Client"
    account: str

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The answer to a GET, as an object."""
        return _answer(self.client, path, query)[0]

    def send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, query: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The answer to a request that changes something, as an object."""
        return _answer(self.client, path, query or {}, method, body)[0]

    def rows(self, job: str) -> tuple[list[ListedRow], float | None]:
        """All rows of a job or session, in the order given, and the server's time in seconds, None if not told."""
        account, collection, identifier = job_path(job, self.account)
        path, token, raw, now = f"/v1/accounts/{account}/{collection}/{identifier}/checkpoints", "", [], None
        seen: set[str] = set()
        while True:
            query = {"pageSize": 200} | ({"pageToken": token} if token else {})
            answer, now = _answer(self.client, path, query)
            rows, token = page_rows(answer)
            raw += rows
            if not token or token in seen:  # FAILURES A7: a page may name itself as the next
                break
            seen.add(token)
        facts, told = self._facts(f"accounts/{account}/{collection}/{identifier}")
        return [read(row, facts.get(str(row.get("name")))) for row in raw], told or now

    def computes(self, owner: str) -> str:
        """Say how an emulator's trainer of a job or session computes; "" for any other service."""
        response = self.client.get("/_ftsim/rows", params={"owner": owner})
        return str(response.json().get("computes", "")) if response.status_code == 200 else ""

    def _facts(self, owner: str) -> tuple[Mapping[str, Mapping[str, Any]], float | None]:
        """The facts that only an emulator tells about rows, and its own time; nothing from any other service."""
        response = self.client.get("/_ftsim/rows", params={"owner": owner})
        if response.status_code != 200:
            return {}, None
        answer = response.json()
        return {row["name"]: row for row in answer["rows"]}, answer["now"]


def job_path(job: str, account: str) -> tuple[str, str, str]:
    """Account, collection and id of a job or session given by its id or by any full name of it or of its rows."""
    parts = job.strip("/").split("/")
    if parts[0] == "accounts" and len(parts) >= 4:
        return parts[1], parts[2], parts[3]
    return account, "trainingSessions" if job.startswith("ts-") else "rlorTrainerJobs", job


@contextlib.contextmanager
def open_service(url: str, api_key: str) -> Iterator[Service]:
    """The service at `url`, as the account of this key; raises `ServiceError`."""
    import httpx

    headers = {"X-Api-Key": api_key, "Authorization": f"Bearer {api_key}"}
    local = url.startswith("http://")
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=not local) as client:
        accounts = _answer(client, "/v1/accounts", {"pageSize": 2})[0].get("accounts") or [{}]
        yield Service(client, str(accounts[0].get("name", "")).removeprefix("accounts/"))


_TEMPLATES = "additional_chat_templates/"
"""The one folder within a model's, for chat templates that have names."""


def fetch_model(service: Service, name: str, folder: Path) -> tuple[str, int]:
    """Fetch a model's files into a new or empty folder; returns its full name and how many files it has.

    Raises `ServiceError` for a folder with something in it, a model without files, a name that is no file name.
    """
    import httpx

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ServiceError(f"{folder} is not an empty folder")
    full = _full_name(service, name)
    urls = service.get(f"/v1/{full}:getDownloadEndpoint").get("filenameToSignedUrls") or {}
    if not urls:
        raise ServiceError(f"{full} has no files to fetch")
    for file in urls:
        named = file.removeprefix(_TEMPLATES)
        if named in ("", ".", "..") or Path(named).name != named or "\\" in named or "\0" in named:
            raise ServiceError(f"{full} is refused: {file[:120]!r} is no file name")
    folder.mkdir(parents=True, exist_ok=True)
    with httpx.Client(timeout=service.client.timeout, trust_env=service.client.trust_env) as storage:  # no key for it
        for file, address in urls.items():
            (folder / file).parent.mkdir(exist_ok=True)
            _fetch(storage, address, folder / file)
    return full, len(urls)


def refuse_adapter(service: Service, name: str, wanted: str) -> None:
    """Raise `ServiceError` for an adapter, where `wanted` needs a whole model."""
    full = _full_name(service, name)
    if service.get(f"/v1/{full}").get("kind") == "HF_PEFT_ADDON":
        raise ServiceError(
            f"{full} is an adapter, and {wanted} takes whole models: promote a checkpoint saved with "
            "checkpoint_type 'merged_base'"
        )


def _full_name(service: Service, name: str) -> str:
    return name if "/" in name else f"accounts/{service.account}/models/{name}"


def fetch_base(service: Service, folder: Path) -> tuple[str, int] | None:
    """Fetch the base of the adapter in `folder` into `folder/base`, and name it there in the adapter's config.

    With its tokenizer beside the adapter too, peft's AutoPeftModelForCausalLM opens `folder` at once. Returns the name
    of the base and how many files it has, None for a model that is whole by itself.
    """
    config = folder / "adapter_config.json"
    if not config.exists():
        return None
    settings = json.loads(config.read_bytes())
    found = fetch_model(service, str(settings["base_model_name_or_path"]), folder / "base")
    config.write_text(json.dumps(settings | {"base_model_name_or_path": str((folder / "base").resolve())}, indent=2))
    for path in (folder / "base").rglob("*"):
        if path.name.startswith(("tokenizer", "special_tokens")) or path.suffix == ".jinja":
            target = folder / path.relative_to(folder / "base")
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    return found


def _fetch(client: Any, address: str, target: Path) -> None:
    """Stream one file; a torn one never keeps its name."""
    aside = target.with_name(f".{target.name}.part")
    with client.stream("GET", address) as response:
        if not response.is_success:
            raise ServiceError(f"{target.name} cannot be fetched: HTTP {response.status_code}")
        with aside.open("wb") as file:
            for block in response.iter_bytes():
                file.write(block)
    aside.replace(target)


def _answer(
    client: "httpx.Client",
    path: str,
    query: Mapping[str, Any],
    method: str = "GET",
    body_sent: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], float | None]:
    """A JSON object and the time in the Date header; raises `ServiceError` with the service's words."""
    import httpx

    try:
        response = client.request(method, path, params=query, json=body_sent)
    except httpx.HTTPError as error:
        raise ServiceError(f"{client.base_url} does not answer: {error}") from error
    try:
        body = response.json()
    except ValueError:
        body = {"message": response.text[:200]}
    if response.is_success and isinstance(body, dict):
        return body, _date(response.headers.get("date"))
    inner = body.get("error") if isinstance(body, dict) else None
    message = (inner.get("message") if isinstance(inner, dict) else inner) or (
        body.get("message") if isinstance(body, dict) else None
    )
    raise ServiceError(
        f"{client.base_url} refuses {path} (HTTP {response.status_code}): {message or 'no reason given'}"
    )


def _date(header: str | None) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except ValueError:
        return None
