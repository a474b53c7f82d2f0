"""The fence: hosts, origins, keys, accounts; and requests that say what nobody understands."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from emulator.server import Emulator
from tests.doubles import DictBackend
from tests.inspect.test_replay import train
from tests.journal.test_journal import JOBS, make_job

LISTS = (
    "rlorTrainerJobs",
    "models",
    "deployments",
    "trainingShapes",
    "deploymentShapes",
    "trainingSessions",
)


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path), keys={"theirs": "other"}, allow_hosts=("trainer.lan",)) as emulator:
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}, timeout=60) as client:
        yield client


@pytest.fixture
def theirs(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": "theirs"}, timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8080"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "app.localhost"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "192.168.0.7"}, 200),
        ({"Host": "trainer.lan:80"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://8.8.8.8"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "http://trainer.lan"}, 200),
    ],
)
def test_pages_of_other_sites_are_not_answered(http: httpx.Client, headers: dict[str, str], status: int) -> None:
    for path in ("/v1/accounts", "/_ftsim/state"):
        assert http.get(path, headers=headers).status_code == status


def test_a_further_account_sees_what_is_its_own(emu: Emulator, http: httpx.Client, theirs: httpx.Client) -> None:
    train(http)
    emu.quirks.set("rows.page_size_cap", 1)
    told = theirs.get("/_ftsim/state").json()
    assert [told[key] for key in ("jobs", "models", "quirks")] == [[], [], []]
    assert len(http.get("/_ftsim/state").json()["jobs"]) == 1
    theirs.get("/v1/accounts/other/models")
    asked = theirs.get("/_ftsim/journal").json()["exchanges"]
    assert {entry["account"] for entry in asked} == {"other"}
    assert theirs.get("/_ftsim/quirks").json()["active"] == []
    for method, path, body in (
        ("POST", "reset", {}),
        ("POST", "seed", {"seed": 1}),
        ("POST", "clock", {"advance_s": 1}),
        ("POST", "quirks", {"name": "http.fail", "value": 500}),
        ("DELETE", "quirks", None),
        ("GET", "snapshot", None),
        ("PUT", "snapshot", None),
        ("GET", "journal?format=lines", None),
    ):
        assert theirs.request(method, f"/_ftsim/{path}", json=body).status_code == 403, path
    assert len(emu.world.jobs) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "quirks", {"name": "http.fail", "value": 500, "were": {"job": "j1"}}, "did you mean 'where'?"),
        ("POST", "quirks?times=1", {"name": "http.fail", "value": 500}, "unknown query parameter 'times'"),
        ("DELETE", "quirks?nam=http.fail", None, "did you mean 'name'?"),
        ("DELETE", "quirks?name=http.fial", None, "did you mean 'http.fail'?"),
        ("POST", "clock", {"advance_s": 1, "advance": 2}, "unknown key 'advance'"),
        ("POST", "seed", {"seed": 1, "boot": 2}, "unknown key 'boot'"),
        ("POST", "reset", {"seed": 1}, "unknown key 'seed'"),
        ("GET", "journal?endpoin=promote", None, "did you mean 'endpoint'?"),
        ("GET", "rows?job=j1", None, "unknown query parameter 'job'"),
        *(
            ("GET", f"{path}?owner=x", None, "unknown query parameter 'owner'")
            for path in ("state", "quirks", "snapshot", "openapi.json", "deployments/d1/snapshots")
        ),
    ],
)
def test_what_the_control_api_does_not_understand_is_refused(
    emu: Emulator, http: httpx.Client, method: str, path: str, body: object, said: str
) -> None:
    answer = http.request(method, f"/_ftsim/{path}", json=body)
    assert (answer.status_code, said in answer.json()["message"]) == (400, True), answer.text
    assert emu.quirks.active() == []


@pytest.mark.parametrize("text", [r'name="\x"', 'name="a\tb"', r'name="\u12"', r'name="\ud800\q"'])
@pytest.mark.parametrize("collection", LISTS)
def test_a_literal_that_is_none_is_a_bad_request(http: httpx.Client, collection: str, text: str) -> None:
    make_job(http)
    account = "fireworks" if "Shapes" in collection else "local"
    answer = http.get(f"/v1/accounts/{account}/{collection}", params={"filter": text})
    assert (answer.status_code, answer.json()["code"]) == (400, 3), answer.text


def test_each_state_folder_has_a_key_of_its_own(tmp_path: Path) -> None:
    keys = []
    for folder in ("a", "b", "a"):
        with Emulator(DictBackend(tmp_path / "base"), state_dir=tmp_path / folder) as emulator:
            keys.append(emulator.api_key)
            wrong = httpx.get(f"{emulator.url}{JOBS}", headers={"X-Api-Key": "fw-ftsim-local"})
            right = httpx.get(f"{emulator.url}{JOBS}", headers={"X-Api-Key": emulator.env()["FIREWORKS_API_KEY"]})
            assert (wrong.status_code, right.status_code) == (401, 200)
        assert os.stat(tmp_path / folder / "key").st_mode & 0o777 == 0o600
    assert keys[0] == keys[2] != keys[1]


def test_links_lead_to_where_the_server_is(emu: Emulator, http: httpx.Client) -> None:
    train(http)
    for host, base in (("192.168.0.7:1", emu.url), ("localhost", emu.url), ("trainer.lan:80", "http://trainer.lan:80")):
        answer = http.get("/v1/accounts/local/models/m1:getDownloadEndpoint", headers={"Host": host})
        links = answer.json()["filenameToSignedUrls"].values()
        assert links
        assert all(link.startswith(f"{base}/v1/") for link in links), links
