"""Several processes on one database: each has some accounts, the others pass on; when one dies another goes on."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from emulator.core.errors import FailedPrecondition, InvalidArgument
from emulator.server import Emulator
from emulator.state.homes import servers_of
from ftsim.testing.wire import Wire
from tests.doubles import BASE
from tests.http.gateway.conftest import batch
from tests.journal.test_journal import JOBS
from tests.stores import serving
from tests.stores.clients import MAIN, Client
from tests.stores.serving import FURTHER, KEY, Process

KILLS = int(os.environ.get("FTSIM_KILLS", "4"))


@contextmanager
def fleet(database: str, blobs: str, count: int) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving.serving(database, blobs, "shared")) for _ in range(count)]


def create(http: httpx.Client, job: str = "j1") -> None:
    http.post(f"{JOBS}?rlorTrainerJobId={job}", json={"trainingConfig": {"baseModel": BASE}}).raise_for_status()


def test_a_process_passes_on_what_another_has(database: str, blobs: str) -> None:
    with (
        fleet(database, blobs, 2) as (first, second),
        first.client() as here,
        second.client() as there,
        second.client(next(iter(FURTHER))) as other,
    ):
        create(here)
        assert [job["name"] for job in there.get(JOBS).json()["rlorTrainerJobs"]] == [f"{JOBS[4:]}/j1"]
        wire = Wire(there)
        wire.run("forward_backward", 1, forward_backward_input=batch(1, 2))
        assert Wire(here).send("get_info", {"model_id": wire.model_id}).json()["model_id"] == wire.model_id
        assert there.post("/v1/accounts/local/rlorTrainerJobs?rlorTrainerJobId=j1", json={}).status_code in (400, 409)
        ask = {"model": BASE, "prompt": [1, 2], "max_tokens": 3, "stream": True}
        with there.stream("POST", "/inference/v1/completions", json=ask) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert list(answer.iter_lines())[-2:] == ["data: [DONE]", ""]
        assert other.get("/v1/accounts/one/rlorTrainerJobs").json()["rlorTrainerJobs"] == []
        assert other.get(JOBS).status_code == 403
        assert there.get(JOBS, headers={"X-Api-Key": "unknown"}).status_code == 401


def test_a_trainers_work_goes_on_elsewhere_from_what_was_acknowledged(database: str, blobs: str) -> None:
    with fleet(database, blobs, 2) as (first, second), first.client() as here, second.client() as there:
        create(here)
        wire = Wire(there)
        for seq in (1, 3):
            wire.run("forward_backward", seq, forward_backward_input=batch(1, 2))
            wire.run("optim_step", seq + 1, adam_params={"learning_rate": 0.1})
        wire.run("save_weights", 5, path="step-2")
        wire.run("forward_backward", 6, forward_backward_input=batch(1, 2))
        before = wire.run("optim_step", 7, adam_params={"learning_rate": 0.1})
        first.kill()
        began = time.monotonic()
        rows = there.get(f"{JOBS}/j1/checkpoints").json()["checkpoints"]
        assert time.monotonic() - began < 3 * serving.LEASE_S + 2
        assert [row["name"].rpartition("/")[2] for row in rows] == ["step-2"]
        gone = there.post(f"/training/v1/rlorTrainerJobs/{MAIN}/j1/api/v1/get_info", json={"model_id": wire.model_id})
        assert gone.status_code == 404
        again = Wire(there)
        again.run("load_weights", 1, path="step-2", optimizer=True)
        again.run("forward_backward", 2, forward_backward_input=batch(1, 2))
        after = again.run("optim_step", 3, adam_params={"learning_rate": 0.1})
        assert after["metrics"] == before["metrics"]


def test_a_process_that_was_taken_for_dead_answers_and_stores_nothing_more(
    database: str, blobs: str, tmp_path: Path
) -> None:
    with fleet(database, blobs, 2) as (first, second), first.client() as here, second.client() as there:
        create(here)
        first.signal(signal.SIGSTOP)
        while (answer := there.delete(f"{JOBS}/j1")).status_code == 503:
            assert "ask again" in answer.text
        answer.raise_for_status()
        first.signal(signal.SIGCONT)
        with suppress(httpx.HTTPError):  # until it has ended
            for number in range(1000):
                made = here.post(f"{JOBS}?rlorTrainerJobId=k{number}", json={"trainingConfig": {"baseModel": BASE}})
                assert made.status_code in (503, 507), made.text
                assert here.get(f"{JOBS}/j1").status_code == 503
        assert first.ended()
        assert there.get(JOBS).json()["rlorTrainerJobs"] == []


def test_a_process_alone_and_those_that_share_keep_each_other_out(database: str, folder: str, tmp_path: Path) -> None:
    with fleet(database, folder, 1) as (first,), first.client() as here:
        create(here)
        with (
            pytest.raises(FailedPrecondition, match=r"another emulator .* uses"),
            serving.emulator(database, folder, tmp_path / "a"),
        ):
            pass
        first.kill()
        with serving.emulator(database, folder, tmp_path / "a") as alone:
            assert f"{JOBS[4:]}/j1" in alone.world.jobs
            with (
                pytest.raises(FailedPrecondition, match=r"another emulator .* uses"),
                serving.emulator(database, folder, tmp_path / "b", shared=True),
            ):
                pass


def test_what_concerns_all_accounts_is_refused(database: str, folder: str, tmp_path: Path) -> None:
    with (
        serving.emulator(database, folder, tmp_path, shared=True) as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": KEY}) as http,
    ):
        for method, path in (("POST", "reset"), ("POST", "clock"), ("POST", "quirks"), ("GET", "snapshot")):
            answer = http.request(method, f"/_ftsim/{path}", json={})
            assert (answer.status_code, "--share" in answer.text) == (400, True), path
        with pytest.raises(FailedPrecondition, match="--share"):
            emulator.reset()
        assert http.get("/healthz").json()["status"] == "ok"
    with pytest.raises(InvalidArgument, match="go with --database"):
        servers_of(None, None, None, share=True)


def test_nothing_acknowledged_is_lost_when_random_processes_are_killed(
    database: str, bucket: str, tmp_path: Path
) -> None:
    """Three processes, four accounts; one process after the other is killed and started again."""
    chance = random.Random(KILLS)
    with fleet(database, bucket, 3) as processes:
        clients = [Client(processes, account, key) for key, account in {KEY: MAIN, **FURTHER}.items()]
        for client in clients:
            client.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.2, 1.5))
            victim = chance.choice(processes)
            victim.kill()
            victim.start()
        for client in clients:
            client.stop()
    told = [client.told for client in clients]
    with serving.emulator(database, bucket, tmp_path) as emulator:
        assert [one.lost(emulator) for one in told] == [[]] * len(told)
    print(
        f"{KILLS} kills: {sum(len(one.jobs) for one in told)} jobs, {sum(len(one.rows) for one in told)} rows, "
        f"{sum(len(one.models) for one in told)} models acknowledged, "
        f"{sum(len(one.refused) for one in told)} rounds cut short"
    )
    assert all(one.rows for one in told), [one.refused[:3] for one in told]


def test_an_emulator_that_is_alone_still_has_everything(database: str, folder: str, tmp_path: Path) -> None:
    with serving.emulator(database, folder, tmp_path) as emulator:
        assert isinstance(emulator, Emulator)
        emulator.reset()
