"""Replicas: which one answers, how long it stays: many models at once, names used again, deployments that go."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.backend import BackendError, BaseModel, GenerateRequest, Generation, SavedState, Tell, Transition
from emulator.core.names import CheckpointScope, OwnerName
from emulator.platform.checkpoints.checkpoints import Origin
from emulator.platform.checkpoints.promotion import PromoteRequest
from emulator.platform.deployments.replicas import SHARED_KEPT
from emulator.platform.deployments.spec import DeploymentSpec
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from emulator.state import references
from tests.doubles import BASE, SIZE, DictBackend, DictReplica, pack, write_base

SHAPE = "accounts/fireworks/deploymentShapes/ds-qwen3-8b"
HOT_LOAD = "/hot_load/v1/models/hot_load"
GENERATION_S = 0.005


class LaggingReplica(DictReplica):
    """Answers a moment later, and not at all when it is closed meanwhile, as an engine that samples would."""

    def __init__(self, base: list[float], at: Callable[[str], None]) -> None:
        super().__init__(base)
        self.closed = False
        self._at = at

    def generate(self, request: GenerateRequest, tell: Tell | None = None) -> "Future[Generation]":
        result = super().generate(request).result()
        late: Future[Generation] = Future()

        def end() -> None:
            time.sleep(GENERATION_S)
            if self.closed:
                late.set_exception(BackendError("the replica was closed", "server"))
            else:
                late.set_result(result)

        threading.Thread(target=end, daemon=True).start()
        return late

    def load_base(self, folder: Path, identity: str, transition: Transition = "ASYNC") -> None:
        self._at("applying")
        super().load_base(folder, identity, transition)

    def close(self) -> None:
        self.closed = True


class LaggingBackend(DictBackend):
    """Keeps every replica it ever opened. A load waits at `held` ("opening" or "applying") until `go` is set."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.replicas: list[LaggingReplica] = []
        self.held = ""
        self.reached, self.go = threading.Event(), threading.Event()

    def open_replica(self, base_model: BaseModel, *, max_context_length: int) -> LaggingReplica:
        self._wait_at("opening")
        plain = super().open_replica(base_model, max_context_length=max_context_length)
        self.replicas.append(LaggingReplica(plain._base, self._wait_at))
        return self.replicas[-1]

    def open_ones(self) -> list[LaggingReplica]:
        return [replica for replica in self.replicas if not replica.closed]

    def _wait_at(self, place: str) -> None:
        if place == self.held:
            self.reached.set()
            assert self.go.wait(20)


@pytest.fixture
def backend(tmp_path: Path) -> LaggingBackend:
    return LaggingBackend(tmp_path / "base")


@pytest.fixture
def emulator(backend: LaggingBackend) -> Iterator[Emulator]:
    with Emulator(backend) as started:
        yield started
        backend.go.set()


@pytest.fixture
def http(emulator: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as client:
        yield client


def ask(http: httpx.Client, model: str) -> httpx.Response:
    body = {"model": model, "prompt": [97], "max_tokens": 2, "logprobs": True, "echo": True, "temperature": 0}
    return http.post("/inference/v1/completions", json=body)


def save(emulator: Emulator, name: str, weights: list[float]) -> None:
    """A promotable row of the job "t1"."""
    jobs, checkpoints = emulator.platform.jobs, emulator.platform.checkpoints
    known = emulator.world.jobs.get(f"accounts/{emulator.account}/rlorTrainerJobs/t1")
    job = known or jobs.create(emulator.account, JobSpec(BASE), "t1")
    staged = emulator.platform.blobs.stage()
    write_base(staged, weights)
    checkpoints.save(Origin(CheckpointScope(job.name), BASE, 0, "m0", "test"), name, staged, SavedState(1))


def promote(emulator: Emulator, row: str, model: str) -> str:
    owner = OwnerName(emulator.account, "rlorTrainerJobs", "t1")
    name = f"accounts/{emulator.account}/models/{model}"
    emulator.platform.promotion.promote(PromoteRequest(emulator.account, owner, row, name, base_model=BASE))
    return name


def test_more_models_at_once_than_are_kept_open_all_answer(
    emulator: Emulator, backend: LaggingBackend, http: httpx.Client
) -> None:
    catalogue = emulator.platform.catalogue.models.values()
    models = [model.name for model in catalogue if model.kind != "EMBEDDING_MODEL"][: 2 * SHARED_KEPT]
    assert len(models) == 8
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda turn: ask(http, models[turn % len(models)]), range(60)))
    assert [(answer.status_code, answer.text) for answer in answers if answer.status_code != 200] == []
    assert len(backend.open_ones()) == SHARED_KEPT


def test_a_model_under_a_name_used_before_serves_its_own_weights(emulator: Emulator, http: httpx.Client) -> None:
    said = []
    for row, likely in (("step-1", 1), ("step-2", 3)):
        save(emulator, row, [5.0 * (token == likely) for token in range(SIZE)])
        model = promote(emulator, row, "mine")
        (choice,) = ask(http, model).json()["choices"]
        said.append([entry["token_id"] % SIZE for entry in choice["logprobs"]["content"][1:]])
        assert http.delete(f"/v1/{model}").status_code == 200
        assert ask(http, model).status_code == 400
    assert said == [[1, 1], [3, 3]]


def spec(account: str) -> DeploymentSpec:
    return DeploymentSpec(
        BASE,
        enable_hot_load=True,
        hot_load_trainer_job=f"accounts/{account}/rlorTrainerJobs/t1",
        deployment_shape=SHAPE,
    )


def hard_delete(http: httpx.Client, url: str) -> httpx.Response:
    return http.delete(url, params={"hard": "true"})


def soft_delete(http: httpx.Client, url: str) -> httpx.Response:
    return http.delete(url)


def scale_to_zero(http: httpx.Client, url: str) -> httpx.Response:
    return http.patch(url + ":scale", json={"replicaCount": 0})


@pytest.mark.parametrize("held", ["opening", "applying"])
@pytest.mark.parametrize("end", [hard_delete, soft_delete, scale_to_zero])
def test_a_load_that_ends_late_brings_nothing_back(
    emulator: Emulator,
    backend: LaggingBackend,
    http: httpx.Client,
    held: str,
    end: Callable[[httpx.Client, str], httpx.Response],
) -> None:
    weights = [0.0, 0.0, 5.0, 0.0]
    save(emulator, "step-1", weights)
    deployments, account = emulator.platform.deployments, emulator.account
    deployments.create(account, spec(account), "d1")
    url = f"/v1/accounts/{account}/deployments/d1"
    backend.held = held
    with ThreadPoolExecutor(2) as pool:
        loading = pool.submit(load, http, account)
        assert backend.reached.wait(20)
        ending = pool.submit(end, http, url)  # it waits for a replica that is being opened
        assert until(lambda: (found := emulator.world.deployments.get(url[4:])) is None or not found.pods)
        backend.go.set()
        assert [answer.result(20).status_code for answer in (ending, loading)] == [200, 200]
    backend.held = ""
    assert (http.get(url).status_code == 404) is (end is hard_delete)
    assert (url[4:] in emulator.world.deployments) is (end is not hard_delete)
    assert backend.open_ones() == []
    if end is hard_delete:
        deployments.create(account, spec(account), "d1")
    elif end is soft_delete:
        deployments.undelete(account, "d1")
    else:
        deployments.scale(account, "d1", 1)
    (pod,) = deployments.get(account, "d1").pods
    assert (pod.current, pod.coming) == (None, None)
    assert not references.loads_of(emulator.world, deployments.get(account, "d1"), pod)
    assert load(http, account).status_code == 200
    assert [replica.fingerprint() for replica in backend.open_ones()] == [pack(weights).hex()]


@pytest.mark.parametrize(("end", "status"), [(hard_delete, 400), (soft_delete, 400), (scale_to_zero, 503)])
def test_a_replica_that_a_completion_opens_too_late_does_not_stay(
    emulator: Emulator,
    backend: LaggingBackend,
    http: httpx.Client,
    end: Callable[[httpx.Client, str], httpx.Response],
    status: int,
) -> None:
    emulator.platform.jobs.create(emulator.account, JobSpec(BASE), "t1")
    found = emulator.platform.deployments.create(emulator.account, spec(emulator.account), "d1")
    backend.held = "opening"
    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(ask, http, found.name)
        assert backend.reached.wait(20)
        ending = pool.submit(end, http, f"/v1/{found.name}")
        assert until(lambda: not found.pods)
        backend.go.set()
        assert (ending.result(20).status_code, asking.result(20).status_code) == (200, status)
    assert backend.open_ones() == []


def test_whoever_looks_or_samples_does_not_wait_for_a_load_under_way(
    emulator: Emulator, backend: LaggingBackend, http: httpx.Client
) -> None:
    save(emulator, "step-1", [0.0, 0.0, 5.0, 0.0])
    found = emulator.platform.deployments.create(emulator.account, spec(emulator.account), "d1")
    backend.held = "applying"
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, http, emulator.account)
        assert backend.reached.wait(20)
        (seen,) = stages(http, emulator.account)
        assert ask(http, found.name).status_code == 200
        assert not loading.done()
        backend.go.set()
        assert loading.result(20).status_code == 200
    assert (seen, stages(http, emulator.account)) == ("loading", ["done"])


def stages(http: httpx.Client, account: str) -> list[str]:
    answer = http.get(HOT_LOAD, headers=headers(account))
    return [replica["loading_state"]["stage"] for replica in answer.json()["replicas"]]


def load(http: httpx.Client, account: str) -> httpx.Response:
    return http.post(HOT_LOAD, headers=headers(account), json={"identity": "step-1"})


def headers(account: str) -> dict[str, str]:
    return {"fireworks-deployment": f"accounts/{account}/deployments/d1", "fireworks-model": BASE}


def until(holds: Callable[[], Any], within_s: float = 20.0) -> bool:
    ends = time.monotonic() + within_s
    while not (held := bool(holds())) and time.monotonic() < ends:
        time.sleep(0.002)
    return held
