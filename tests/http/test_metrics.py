"""Figures that a program tells of its run, beside what the trainer measured."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.platform.jobs.spec import JobSpec
from emulator.platform.trainers import curves
from emulator.server import Emulator
from tests.doubles import BASE, DictBackend
from tests.http.console.conftest import train

JOB = "accounts/local/rlorTrainerJobs/j1"
SESSIONS = "/v1/accounts/local/trainingSessions"


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path / "backend"), keys={"theirs": "other"}) as emulator:
        emulator.platform.jobs.create("local", JobSpec(base_model=BASE), "j1")
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}, timeout=60) as client:
        yield client


def tell(http: httpx.Client, *points: tuple[str, Any, Any]) -> httpx.Response:
    told = [{"key": key, "step": step, "value": value} for key, step, value in points]
    return http.post("/_ftsim/metrics", json={"owner": JOB, "points": told})


def read(http: httpx.Client) -> Any:
    return http.get("/_ftsim/curves", params={"owner": JOB}).raise_for_status().json()


def test_what_is_told_stands_beside_what_is_measured(http: httpx.Client) -> None:
    train(http, 1, 3)
    for step in (1, 2, 3):
        assert tell(http, ("reward", step, 0.1 * step), ("filtered", step, step)).status_code == 200
    tell(http, ("reward", 3, 0.9), ("eval/reward", 3, 0.5))
    found = read(http)
    (segment,) = found["segments"]
    assert (segment["steps"], segment["origin"]) == ([1, 2, 3], "")
    assert {"loss", "lr", "grad_norm"} <= segment["metrics"].keys()
    assert found["told"] == {
        "reward": {"steps": [1, 2, 3], "values": [0.1, 0.2, 0.9]},
        "filtered": {"steps": [1, 2, 3], "values": [1.0, 2.0, 3.0]},
        "eval/reward": {"steps": [3], "values": [0.5]},
    }


def test_many_points_are_kept_in_pieces_and_survive_a_restart(tmp_path: Path) -> None:
    many = 2 * curves.PIECE + 5
    with Emulator(DictBackend(tmp_path / "backend"), state_dir=tmp_path / "state") as emulator:
        emulator.platform.jobs.create("local", JobSpec(base_model=BASE), "j1")
        with httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}) as http:
            tell(http, *(("reward", step, float(step)) for step in range(many)))
            assert len(emulator.world.curves.of(JOB)) == 3
    with (
        Emulator(DictBackend(tmp_path / "backend"), state_dir=tmp_path / "state") as again,
        httpx.Client(base_url=again.url, headers={"X-Api-Key": again.api_key}) as http,
    ):
        assert read(http)["told"]["reward"]["values"] == [float(step) for step in range(many)]


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ("many", "points: give a list"),
        ([1], "points[0]: give {key, step, value}"),
        ([{"key": "reward", "step": 1.5, "value": 0}], "points[0]: key is a text"),
        ([{"key": "reward", "step": -1, "value": 0}], "which is no count of steps"),
        ([{"key": "", "step": 1, "value": 0}], "must be 1 to 128 letters"),
        ([{"key": "<b>", "step": 1, "value": 0}], "must be 1 to 128 letters"),
        ([{"key": f"k{n}", "step": 1, "value": 0} for n in range(201)], "a run may tell 200 keys"),
        ([{"key": "reward", "step": n, "value": 0} for n in range(10_001)], "more than the 10000"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_is_no_figure_is_refused_and_nothing_of_it_is_kept(http: httpx.Client, points: Any, said: str) -> None:
    refused = http.post("/_ftsim/metrics", json={"owner": JOB, "points": points})
    assert (refused.status_code, said in refused.json()["message"]) == (400, True), refused.text
    assert read(http) == {"segments": [], "told": {}}


def test_what_is_not_finite_is_refused(http: httpx.Client) -> None:
    body = f'{{"owner": "{JOB}", "points": [{{"key": "reward", "step": 1, "value": 1e999}}]}}'
    assert http.post("/_ftsim/metrics", content=body).status_code == 400
    assert read(http)["told"] == {}


def test_another_account_neither_tells_nor_sees(emu: Emulator, http: httpx.Client) -> None:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": "theirs"}) as theirs:
        assert tell(theirs, ("reward", 1, 1.0)).status_code == 400
        assert theirs.get("/_ftsim/curves", params={"owner": JOB}).status_code == 400
    assert http.get("/_ftsim/curves", params={"owner": f"{JOB}0"}).status_code == 404


def test_a_session_lists_curves_as_the_service_does(emu: Emulator, http: httpx.Client) -> None:
    session = emu.platform.sessions.create("local").id
    points = [{"key": "reward", "step": str(step), "value": step / 10, "timestamp": "x"} for step in range(1, 11)]
    assert http.post(f"{SESSIONS}/{session}:logMetrics", json={"points": points}).json() == {}
    http.post(f"{SESSIONS}/{session}:logMetrics", json={"points": [{"key": "kl", "step": 1, "value": 0}]})
    listed = http.get(f"{SESSIONS}/{session}/trainingCurves", params={"maxPoints": 4, "metricKeys": "reward"}).json()
    (curve,) = listed["curves"]
    assert (curve["metricKey"], curve["steps"], listed["totalSize"]) == ("reward", ["1", "4", "7", "10"], 1)
    first = http.get(f"{SESSIONS}/{session}/trainingCurves", params={"pageSize": 1}).json()
    assert [one["metricKey"] for one in first["curves"]] == ["kl"]
    rest = http.get(f"{SESSIONS}/{session}/trainingCurves", params={"pageToken": first["nextPageToken"]}).json()
    assert [one["metricKey"] for one in rest["curves"]] == ["reward"]
    assert http.post(f"{SESSIONS}/ts-none:logMetrics", json={"points": []}).status_code == 404
