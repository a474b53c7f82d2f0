"""A fresh emulator of the same seed answers a journal as it was answered."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from emulator.core.errors import InvalidArgument
from emulator.journal import file as journal_file
from emulator.journal.file import Saved
from emulator.platform.differences import different
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from ftsim.inspect.replay import Replay, replay
from ftsim.inspect.states import open_bundle, restored
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import Wire, batch, datum, gateway
from tests.journal.test_journal import JOBS, make_job
from tests.sdk import types


@pytest.fixture
def backend(tmp_path: Path) -> DictBackend:
    return DictBackend(tmp_path / "base")


@pytest.fixture
def emu(backend: DictBackend) -> Iterator[Emulator]:
    with Emulator(backend, seed=5) as emulator:
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}, timeout=60) as client:
        yield client


@pytest.fixture
def again(emu: Emulator, backend: DictBackend) -> Callable[[], Replay]:
    """Save the journal and replay it."""
    return lambda: replay(saved(emu), backend)


def saved(emu: Emulator) -> Saved:
    return journal_file.read(journal_file.write(emu.journal, seed=emu.world.ids.seed, account=emu.account))


def train(http: httpx.Client) -> None:
    make_job(http)
    wire = Wire(http)
    for step in (1, 2):
        ids = [
            wire.submit("forward_backward", 2 * step - 1, forward_backward_input=batch(step, 3)),
            wire.submit("optim_step", 2 * step, adam_params={"learning_rate": 0.1}),
        ]
        for request_id in ids:
            wire.result(request_id)
    wire.run("save_weights", 5, path="step-2")
    assert "path" in wire.run("save_weights_for_sampler", 6, path="final", checkpoint_type="base")
    listed = http.get(f"{JOBS}/j1/checkpoints").json()["checkpoints"]
    name = next(row["name"] for row in listed if row["promotable"]).rsplit("/", 1)[1]
    body = {"output_model": "accounts/local/models/m1", "trainer_job_id": "accounts/local/rlorTrainerJobs/j1"}
    promoted = http.post(f"/v1/accounts/local/checkpoints/{name}:promote", json={**body, "base_model": BASE})
    assert promoted.status_code == 200, promoted.text


def test_a_training_run_is_answered_alike(emu: Emulator, http: httpx.Client, again: Callable[[], Replay]) -> None:
    train(http)
    found = again()
    assert found.identical, found
    assert found.compared == len(emu.journal)


def test_the_vendors_client_is_answered_alike(emu: Emulator, http: httpx.Client, again: Callable[[], Replay]) -> None:
    from fireworks.training.sdk.client import FiretitanServiceClient

    make_job(http)
    service = FiretitanServiceClient(base_url=gateway(emu, "j1"), api_key=emu.api_key)
    client = service.create_training_client(base_model=BASE, lora_rank=0)
    for step in range(3):
        future = client.forward_backward([datum(1, step), datum(3, step)], "cross_entropy")
        update = client.optim_step(types.AdamParams(learning_rate=0.1))
        future.result()
        update.result()
    client.save_state("step-3").result()
    service.close()
    found = again()
    assert found.identical, found


def test_a_journal_that_began_in_a_saved_state_is_replayed_from_it(
    emu: Emulator, http: httpx.Client, backend: DictBackend, tmp_path: Path
) -> None:
    make_job(http)
    Wire(http).run("save_weights", 1, path="step-0")
    state = emu.snapshot(tmp_path / "state.zip")
    emu.restore(state)
    make_job(http, "j2")
    http.get(f"{JOBS}/j1/checkpoints")
    file = emu.bundle(tmp_path / "bundle.zip", {"failure.txt": "it failed"})
    with pytest.raises(InvalidArgument, match="give the state in which it began with --from"):
        replay(saved(emu), backend)
    assert open_bundle(file, backend).obstacle.startswith("the journal does not begin")
    opened = open_bundle(file, backend, state)
    assert opened.reproduced, opened
    assert opened.replay is not None
    assert opened.replay.compared == 2


def test_a_journal_of_a_restarted_emulator_is_replayed_from_the_state_it_found(
    backend: DictBackend, tmp_path: Path
) -> None:
    headers = {"X-Api-Key": "key1"}
    with Emulator(backend, state_dir=tmp_path / "state", seed=5, api_key="key1") as emulator:
        with httpx.Client(base_url=emulator.url, headers=headers) as http:
            make_job(http)
        state = emulator.snapshot(tmp_path / "state.zip")
    with Emulator(backend, state_dir=tmp_path / "state", seed=5, api_key="key1") as emulator:
        with httpx.Client(base_url=emulator.url, headers=headers) as http:
            named = [http.post(JOBS, json={"trainingConfig": {"baseModel": BASE}}).json()["name"] for _ in range(2)]
        recorded = saved(emulator)
    assert len(set(named)) == 2
    found = replay(recorded, backend, prepare=restored(state))
    assert found.identical, found


def test_a_journal_of_which_something_was_dropped_is_not_replayed(emu: Emulator, backend: DictBackend) -> None:
    cut = saved(emu)
    cut.header.update(dropped=3, complete=False)
    with pytest.raises(InvalidArgument, match="3 exchanges were dropped"):
        replay(cut, backend, prepare=lambda emulator: None)


def test_time_and_quirks_are_replayed_too(emu: Emulator, http: httpx.Client, again: Callable[[], Replay]) -> None:
    emu.quirks.set("jobs.pending_s", 600.0, for_s=60)
    make_job(http)
    emu.quirks.set("http.fail", 503, times=1, endpoint="get_job")
    states = [http.get(f"{JOBS}/j1").json().get("state") for _ in range(2)]
    emu.clock.advance(700)
    states.append(http.get(f"{JOBS}/j1").json()["state"])
    assert states == [None, "JOB_STATE_PENDING", "JOB_STATE_RUNNING"]
    emu.quirks.clear()
    make_job(http, "j2")
    found = again()
    assert found.identical, found


def test_what_was_done_by_hand_is_done_again(emu: Emulator, http: httpx.Client, again: Callable[[], Replay]) -> None:
    emu.platform.jobs.create("local", JobSpec(base_model=BASE), "j1")
    wire = Wire(http)
    wire.run("optim_step", 1)
    emu.platform.jobs.preempt("local", "j1")
    assert http.get(f"{JOBS}/j1").json()["state"] == "JOB_STATE_FAILED"
    assert wire.send("optim_step", {"model_id": wire.model_id, "seq_id": 2}).status_code == 404
    found = again()
    assert found.identical, found


def test_calls_that_hung_while_others_came_are_replayed_at_once(
    emu: Emulator, http: httpx.Client, again: Callable[[], Replay]
) -> None:
    make_job(http)
    wire = Wire(http)
    late = wire.submit("optim_step", 2)  # waits for the call before it
    answers: list[object] = []
    poll = threading.Thread(target=lambda: answers.append(wire.result(late)))
    poll.start()
    while len(emu.journal.of("retrieve_future")) < 2:
        threading.Event().wait(0.005)
    wire.run("optim_step", 1)
    poll.join(10)
    assert answers
    found = again()
    assert found.identical, found


def test_another_world_answers_differently_and_it_says_where(
    emu: Emulator, http: httpx.Client, backend: DictBackend
) -> None:
    make_job(http)
    http.get(f"{JOBS}/j1")
    Wire(http)
    kept = saved(emu)
    kept.header["seed"] = 6
    found = replay(kept, backend)
    assert {"create_session"} <= {difference.endpoint for difference in found.differences}
    assert "body.session_id" in {difference.field for difference in found.differences}
    kept.header["seed"] = 5
    answer = next(entry for entry in kept.exchanges if entry.endpoint == "get_job")
    answer.response = answer.response.replace(b"RUNNING", b"FAILED")
    (only,) = replay(kept, backend).differences
    assert str(only) == f"#{answer.began} get_job body.state: 'JOB_STATE_FAILED' was 'JOB_STATE_RUNNING'"


def test_a_journal_with_a_gap_is_not_replayed(emu: Emulator, http: httpx.Client, backend: DictBackend) -> None:
    make_job(http)
    emu.journal.clear()
    http.get(f"{JOBS}/j1")
    with pytest.raises(InvalidArgument, match="empty world"):
        replay(saved(emu), backend)


def test_what_was_cut_or_hidden_is_said_to_be_left_out(
    emu: Emulator, http: httpx.Client, again: Callable[[], Replay]
) -> None:
    http.post("/v1/completions", json={"prompt": "x" * 1_100_000})
    http.post("/v1/completions", json={"prompt": f"my key is {emu.api_key}"})
    found = again()
    assert [line.split(": ", 1)[1][:12] for line in found.skipped] == ["its body was", "a key or sig"]


@pytest.mark.parametrize(
    ("one", "other", "paths"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ["x.a[1].b"]),
        ({"a": 1}, {}, ["x.a"]),
        ({}, {"a": 1}, ["x.a"]),
        ([1], [1, 2], ["x"]),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.9Z", []),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:02Z", ["x"]),
        ("2026-01-01T00:00:00Z", 7, ["x"]),
    ],
)
def test_differences_are_named_by_their_path(one: object, other: object, paths: list[str]) -> None:
    assert [path for path, _, _ in different(one, other, "x")] == paths
