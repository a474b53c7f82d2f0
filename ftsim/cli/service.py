"""The control plane that a command talks to: an emulator, or any address with a key."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftsim.cli.console import fail
from ftsim.inspect.listing import ListedRow, page_rows, read

if TYPE_CHECKING:
    import httpx

METADATA = "metadata.sqlite"


@dataclass(frozen=True)
class Service:
    """An open connection. Methods leave with a message when the service refuses."""

    client: "httpx.Client"
    account: str

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The answer to a GET, as an object."""
        return _answer(self.client, path, query)[0]

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

    def _facts(self, owner: str) -> tuple[Mapping[str, Mapping[str, Any]], float | None]:
        """What only an emulator tells about rows, and its own time; nothing from any other service."""
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
def connect(url: str | None, api_key: str | None, state_dir: Path | None) -> Iterator[Service]:
    """The service at `url`, else the emulator of the state folder, which is started when none runs."""
    import httpx

    with contextlib.ExitStack() as stack:
        if url is None:
            url, api_key = stack.enter_context(emulator_of(state_dir))
        elif not api_key:
            fail(f"no key for {url}: give --api-key or set FIREWORKS_API_KEY")
        headers = {"X-Api-Key": api_key or "", "Authorization": f"Bearer {api_key}"}
        local = url.startswith("http://")
        client = stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=not local))
        accounts = _answer(client, "/v1/accounts", {"pageSize": 2})[0].get("accounts") or [{}]
        yield Service(client, str(accounts[0].get("name", "")).removeprefix("accounts/"))


@contextlib.contextmanager
def emulator_of(state_dir: Path | None) -> Iterator[tuple[str, str]]:
    """Address and key of the emulator of a state folder, kept running meanwhile."""
    from ftsim.process.attendance import Attendance, default_state_dir
    from ftsim.process.run import RunError, join_server

    root = (state_dir or default_state_dir()).expanduser().resolve()
    if not (root / METADATA).exists():
        fail(f"no emulator has used the state folder {root} yet: give --state-dir, or --url with --api-key")
    try:
        record, client = join_server(Attendance(root))
    except RunError as error:
        fail(str(error))
    try:
        yield record.url, record.api_key
    finally:
        client.leave()


def _answer(client: "httpx.Client", path: str, query: Mapping[str, Any]) -> tuple[dict[str, Any], float | None]:
    """A JSON object and the time in the Date header; leaves with the service's own words when it refuses."""
    import httpx

    try:
        response = client.get(path, params=query)
    except httpx.HTTPError as error:
        fail(f"{client.base_url} does not answer: {error}")
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
    fail(f"{client.base_url} refuses {path} (HTTP {response.status_code}): {message or 'no reason given'}")


def _date(header: str | None) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except ValueError:
        return None
