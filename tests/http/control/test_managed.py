"""Data sets and managed jobs: reads are answered, writes are refused on every date as the service does today."""

import httpx
import pytest

from emulator.core.catalogue import PLATFORMS
from emulator.core.kinds import CheckpointKind
from emulator.http.control.managed import COLLECTIONS, router
from emulator.server import Emulator
from emulator.state.entities import Checkpoint
from emulator.state.managed import Managed
from tests.doubles import BASE

ACCOUNT = "/v1/accounts/acct1"
WRITES = [one.row for one in router.declared if one.answer is None and "dataset" in one.row.operation]
CREATES = [one.row for one in router.declared if one.row.operation.startswith("create_") and one.row not in WRITES]


@pytest.fixture
def imported(emu: Emulator) -> Emulator:
    """An emulator with two of each collection."""
    with emu.world.change():
        for at in range(2):
            for collection in COLLECTIONS.values():
                made = Managed("acct1", collection, f"x{at}", emu.clock.now(), "JOB_STATE_COMPLETED")
                made.body = {"displayName": f"mine {at}", "dataset": "accounts/acct1/datasets/x0"}
                emu.world.managed.put(made)
    return emu


@pytest.mark.parametrize("collection", COLLECTIONS.values())
def test_reads_are_answered(emu: Emulator, http: httpx.Client, collection: str) -> None:
    assert http.get(f"{ACCOUNT}/{collection}").json() == {collection: [], "nextPageToken": "", "totalSize": 0}
    missing = http.get(f"{ACCOUNT}/{collection}/x0")
    assert (missing.status_code, missing.json()["code"]) == (404, 5)
    assert http.delete(f"{ACCOUNT}/{collection}/x0").status_code == 404


@pytest.mark.parametrize("collection", COLLECTIONS.values())
def test_what_was_imported_is_shown_and_deleted(imported: Emulator, http: httpx.Client, collection: str) -> None:
    first = http.get(f"{ACCOUNT}/{collection}", params={"pageSize": "1"}).json()
    assert ([one["displayName"] for one in first[collection]], first["totalSize"]) == (["mine 0"], 2)
    rest = http.get(f"{ACCOUNT}/{collection}", params={"pageToken": first["nextPageToken"]}).json()
    assert [one["name"] for one in rest[collection]] == [f"accounts/acct1/{collection}/x1"]
    shown = http.get(f"{ACCOUNT}/{collection}/x0").json()
    assert (shown["state"], shown["dataset"]) == ("JOB_STATE_COMPLETED", "accounts/acct1/datasets/x0")
    assert http.delete(f"{ACCOUNT}/{collection}/x0").json() == {}
    assert http.get(f"{ACCOUNT}/{collection}/x0").status_code == 404
    assert http.get("/v1/accounts/other/datasets").status_code == 403


@pytest.mark.parametrize("date", PLATFORMS)
def test_data_sets_are_not_written_and_managed_jobs_not_made_on_any_date(
    emu: Emulator, http: httpx.Client, date: str
) -> None:
    emu.move_to(date)
    assert (len(WRITES), len(CREATES)) == (7, 7)
    for row in WRITES:
        answer = http.request(row.method, row.path.format(account="acct1", managed="x0"), json={"datasetId": "x0"})
        assert (answer.status_code, answer.json()["code"]) == (501, 12), row.operation
        assert "local JSONL file" in answer.json()["message"]
    for row in CREATES:
        answer = http.post(row.path.format(account="acct1"), json={"baseModel": BASE})
        assert (answer.status_code, answer.json()["code"]) == (400, 9), row.operation
        assert "no new " in answer.json()["message"]


def test_how_they_are_refused_is_a_switch(emu: Emulator, http: httpx.Client) -> None:
    for status, code in {"400": 9, "403": 7, "404": 5, "501": 12}.items():
        with emu.quirks.set("datasets.writes", status), emu.quirks.set("managed.creates", status):
            for path in ("datasets", "dpoJobs"):
                answer = http.post(f"{ACCOUNT}/{path}", json={})
                assert (answer.status_code, answer.json()["code"]) == (int(status), code)
    with emu.quirks.set("datasets.writes_text", "a"), emu.quirks.set("managed.creates_text", "b", account="acct1"):
        assert http.patch(f"{ACCOUNT}/datasets/x0", json={}).json()["message"] == "a"
        assert http.post(f"{ACCOUNT}/supervisedFineTuningJobs:estimateCost", json={}).json()["message"] == "b"


def test_a_managed_job_that_was_imported_does_not_run(imported: Emulator, http: httpx.Client) -> None:
    for verb in ("cancel", "resume", "debug"):
        answer = http.post(f"{ACCOUNT}/reinforcementFineTuningJobs/x0:{verb}", json={})
        assert answer.json()["message"].startswith(f"cannot {verb} job in state: JOB_STATE_COMPLETED")
    for collection in ("dpoJobs", "reinforcementFineTuningJobs"):
        assert http.get(f"{ACCOUNT}/{collection}/x0:getMetricsFileEndpoint").status_code == 404


def test_its_checkpoints_are_listed(imported: Emulator, http: httpx.Client) -> None:
    owner = "accounts/acct1/supervisedFineTuningJobs/x0"
    assert http.get(f"/v1/{owner}/checkpoints").json()["checkpoints"] == []
    with imported.world.change():
        now = imported.clock.now()
        row = Checkpoint(owner, "final", now, now, CheckpointKind.INFERENCE_LORA, "gone", BASE)
        imported.world.checkpoints.put(row)
    (shown,) = http.get(f"/v1/{owner}/checkpoints").json()["checkpoints"]
    assert (shown["name"], shown["promotable"]) == (f"{owner}/checkpoints/final", True)
    body = {"output_model": "accounts/acct1/models/m1", "base_model": BASE}
    answer = http.post(f"/v1/{owner}/checkpoints/final:promote", json=body)
    assert (answer.status_code, "not found in GCS" in answer.text) == (404, True)


def test_they_survive_a_restart_and_a_snapshot(imported: Emulator, http: httpx.Client) -> None:
    file = imported.snapshot()
    imported.reset()
    assert http.get(f"{ACCOUNT}/datasets").json()["totalSize"] == 0
    imported.restore(file)
    assert http.get(f"{ACCOUNT}/datasets").json()["totalSize"] == 2
