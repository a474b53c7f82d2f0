"""Access: who may ask for what, in which envelope (WIRE 1.1, 1.2, 1.4; FAILURES A16, F18)."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fireworks import Fireworks
from fireworks.training.sdk import FireworksClient

from emulator.server import Emulator
from emulator.state.entities import Job
from tests.doubles import BASE

JOBS = "/v1/accounts/acct1/rlorTrainerJobs"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-Api-Key": "nobody's"}, 401),
        ({"Authorization": "Bearer nobody's"}, 401),
        ({"Authorization": "Basic key1"}, 401),
        ({"X-Api-Key": "key1"}, 200),
        ({"Authorization": "Bearer key1"}, 200),
        ({"Authorization": "bearer key1", "X-Api-Key": "key1"}, 200),
        ({"X-Api-Key": "key2"}, 403),
    ],
)
def test_a_key_is_needed_and_opens_its_own_account(
    emu: Emulator, new_job: Callable[..., Job], headers: dict[str, str], status: int
) -> None:
    new_job()
    answer = httpx.get(f"{emu.url}{JOBS}/j1", headers=headers)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["code"] == {401: 16, 403: 7}[status]
        assert set(answer.json()) == {"code", "message", "details"}


def test_the_shared_account_is_read_only(emu: Emulator, http: httpx.Client) -> None:
    assert http.get("/v1/accounts/fireworks/models/qwen3-8b").status_code == 200
    shared = "/v1/accounts/fireworks/rlorTrainerJobs"
    assert http.post(shared, json={"trainingConfig": {"baseModel": BASE}}).status_code == 403
    assert len(emu.world.jobs) == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/nothing"),
        ("GET", f"{JOBS}/accounts/acct1/rlorTrainerJobs/j1"),
        ("GET", f"{JOBS}/accounts%2Facct1%2FrlorTrainerJobs%2Fj1/checkpoints"),
        ("GET", f"{JOBS}/../../acct1/rlorTrainerJobs/none"),
        ("GET", f"{JOBS}/%00"),
        ("GET", f"{JOBS}/" + "x" * 3000),
        ("POST", f"{JOBS}/j1:explode"),
        ("POST", f"{JOBS}/nojob:cancel"),
        ("POST", f"{JOBS}/nojob:resume"),
        ("GET", "/v1/accounts/acct1/operations/nope"),
        ("GET", "/v1/accounts/acct1/models/nope"),
        ("DELETE", "/v1/accounts/acct1/models/nope"),
        ("GET", "/v1/accounts/acct1/models/nope:getDownloadEndpoint"),
        ("GET", "/v1/accounts/fireworks/trainingShapes/nope"),
        ("GET", "/v1/accounts/fireworks/trainingShapes/nope/versions"),
        ("GET", "/v1/accounts/acct1/trainingShapes/qwen3-4b-minimum/versions"),
        ("GET", "/v1/accounts/fireworks/deploymentShapes/nope/versions"),
        ("GET", "/v1/accounts/fireworks/trainingShapes/qwen3-4b-minimum/versions/nope"),
        ("GET", "/v1/accounts/acct1/supervisedFineTuningJobs/nope/checkpoints"),
        ("GET", "/v1/accounts/acct1/dpoJobs/nope/checkpoints"),
    ],
)
def test_what_does_not_exist_is_not_found_in_the_vendors_envelope(
    http: httpx.Client, new_job: Callable[..., Job], method: str, path: str
) -> None:
    new_job()
    answer = http.request(method, path)
    assert answer.status_code in (404, 405)
    assert answer.json()["code"] == {404: 5, 405: 12}[answer.status_code]
    assert set(answer.json()) == {"code", "message", "details"}


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b'{"trainingConfig": NaN}', b'"text"', b"[" * 50_000])
def test_a_body_that_is_no_object_is_refused(http: httpx.Client, content: bytes) -> None:
    answer = http.post(JOBS, content=content)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)


def test_the_key_belongs_to_exactly_one_account(emu: Emulator, http: httpx.Client) -> None:
    assert [entry["name"] for entry in http.get("/v1/accounts?pageSize=2").json()["accounts"]] == ["accounts/acct1"]
    assert FireworksClient(api_key="key2", base_url=emu.url).account_id == "acct2"
    assert http.get("/v1/accounts/acct2").status_code == 403
    with Fireworks(api_key="key1", base_url=emu.url, account_id="acct1") as generic:
        assert generic.accounts.get(account_id="acct1").name == "accounts/acct1"


@pytest.mark.parametrize("listed", ["none", "two"])
def test_a_key_of_no_or_of_two_accounts_stops_the_client(emu: Emulator, listed: str) -> None:
    emu.quirks.set("accounts.listed", listed)
    with pytest.raises(ValueError):
        FireworksClient(api_key="key1", base_url=emu.url).account_id  # noqa: B018


@pytest.mark.parametrize(
    ("style", "read"),
    [
        ("status", lambda body: body["message"]),
        ("error_object", lambda body: body["error"]["message"]),
        ("detail", lambda body: body["detail"]),
    ],
)
def test_errors_come_in_the_style_that_a_quirk_says(
    emu: Emulator, http: httpx.Client, style: str, read: Callable[[Any], str]
) -> None:
    emu.quirks.set("errors.style", style)
    assert "not found" in read(http.get(f"{JOBS}/nojob").json())
