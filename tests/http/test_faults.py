"""Faults of any endpoint: what the client meets, whether the request was carried out, budgets and chances."""

from collections.abc import Iterator

import httpx
import pytest

from emulator.core.errors import InvalidArgument
from emulator.server import Emulator
from tests.doubles import BASE, DictBackend

JOBS = "/v1/accounts/local/rlorTrainerJobs"
BODY = {"trainingConfig": {"baseModel": BASE}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path_factory.mktemp("backend"))) as emulator:
        yield emulator


@pytest.fixture
def emu(running: Emulator) -> Emulator:
    running.reset()
    return running


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-API-Key": emu.api_key}, timeout=10) as client:
        yield client


@pytest.mark.parametrize(
    ("quirk", "value", "meets", "jobs"),
    [
        ("http.fail", 503, 503, 0),
        ("http.apply_then_fail", 504, 504, 1),
        ("http.lose_reply", "before", httpx.RemoteProtocolError, 0),
        ("http.lose_reply", "after", httpx.RemoteProtocolError, 1),
        ("http.reset", "before", httpx.ReadError, 0),
        ("http.reset", "after", httpx.ReadError, 1),
        ("http.cut_body", 10, httpx.RemoteProtocolError, 1),
        ("http.cut_body", 0, httpx.RemoteProtocolError, 1),
        ("http.slow_body_s", 0.1, 200, 1),
        ("http.delay_s", 0.1, 200, 1),
    ],
)
def test_a_fault_strikes_once_before_or_after_the_request_is_carried_out(
    emu: Emulator, http: httpx.Client, quirk: str, value: object, meets: int | type[Exception], jobs: int
) -> None:
    emu.quirks.set(quirk, value, times=1, endpoint="create_job")
    if isinstance(meets, int):
        answer = http.post(JOBS, json=BODY)
        assert answer.status_code == meets
    else:
        with pytest.raises(meets):
            http.post(JOBS, json=BODY)
    assert len(emu.world.jobs) == jobs
    assert http.post(JOBS, json=BODY).status_code == 200
    if quirk.endswith("_s"):
        assert emu.journal.of("create_job")[0].seconds >= 0.1
        assert answer.json()["state"] == "JOB_STATE_RUNNING"


def test_a_reset_is_a_reset_and_not_an_orderly_end(emu: Emulator, http: httpx.Client) -> None:
    emu.quirks.set("http.reset", "before", times=1)
    with pytest.raises(httpx.ReadError, match=r"(?i)reset by peer"):
        http.get(JOBS)


def test_faults_are_composed_one_after_the_other(emu: Emulator, http: httpx.Client) -> None:
    emu.quirks.set("http.fail", 503, times=1)
    emu.quirks.set("http.apply_then_fail", 504, times=1)
    assert [http.get(JOBS).status_code for _ in range(3)] == [503, 504, 200]


def test_a_chance_is_drawn_from_the_seed(emu: Emulator, http: httpx.Client) -> None:
    seen = []
    for _ in range(2):
        emu.reset()
        emu.world.ids = type(emu.world.ids)(7)
        emu.quirks.set("http.fail", 500, chance=0.3, endpoint="list_jobs")
        seen.append([http.get(JOBS).status_code for _ in range(60)])
    assert seen[0] == seen[1]
    assert 8 <= seen[0].count(500) <= 30


def test_a_call_that_a_chance_spares_costs_no_budget(emu: Emulator, http: httpx.Client) -> None:
    emu.quirks.set("http.fail", 500, chance=0.5, times=3)
    assert [http.get(JOBS).status_code for _ in range(40)].count(500) == 3


@pytest.mark.parametrize("chance", [-0.1, 1.1])
def test_a_chance_is_a_probability(emu: Emulator, chance: float) -> None:
    with pytest.raises(InvalidArgument, match="chance"):
        emu.quirks.set("http.fail", 500, chance=chance)


def test_the_control_api_takes_a_chance(emu: Emulator, http: httpx.Client) -> None:
    set_ = http.post("/_ftsim/quirks", json={"name": "http.fail", "value": 500, "chance": 0.25})
    assert set_.json()["chance"] == 0.25
    assert http.post("/_ftsim/quirks", json={"name": "http.fail", "value": 1, "chance": "often"}).status_code == 400
