"""The vendor's training clients on an emulator over the torch-free backend."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fireworks.training.sdk.client import FiretitanServiceClient, FiretitanTrainingClient

from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from emulator.state.entities import Job
from tests.doubles import BASE, DictBackend
from tests.sdk import types


@pytest.fixture
def backend(tmp_path: Path) -> DictBackend:
    return DictBackend(tmp_path / "backend")


@pytest.fixture
def emu(backend: DictBackend) -> Iterator[Emulator]:
    with Emulator(backend) as emulator:
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-API-Key": emu.api_key}) as client:
        yield client


@pytest.fixture
def new_job(emu: Emulator) -> Callable[..., Job]:
    """Create a job without HTTP."""

    def create(job_id: str = "j1", **facts: object) -> Job:
        return emu.platform.jobs.create(emu.account, JobSpec(**{"base_model": BASE, **facts}), job_id)  # type: ignore[arg-type]

    return create


@pytest.fixture
def connect(emu: Emulator, new_job: Callable[..., Job]) -> Iterator[Callable[..., FiretitanTrainingClient]]:
    """A training client of a job, which is created unless it exists."""
    services: list[FiretitanServiceClient] = []

    def open_client(job_id: str = "j1", lora_rank: int = 0, **facts: object) -> FiretitanTrainingClient:
        if f"accounts/{emu.account}/rlorTrainerJobs/{job_id}" not in emu.world.jobs:
            new_job(job_id, lora_rank=lora_rank, **facts)
        service = FiretitanServiceClient(base_url=gateway(emu, job_id), api_key=emu.api_key)
        services.append(service)
        return service.create_training_client(base_model=BASE, lora_rank=lora_rank)

    yield open_client
    for service in services:
        service.close()


class Wire:
    """A client that says exactly what it is told, as an old SDK might."""

    def __init__(self, http: httpx.Client, job_id: str = "j1", **model: object) -> None:
        self._http = http
        self._base = f"/training/v1/rlorTrainerJobs/local/{job_id}/api/v1/"
        session = self.post("create_session", {"tags": [], "sdk_version": "0.16.1"})["session_id"]
        body = {"session_id": session, "model_seq_id": 0, "base_model": BASE, **model}
        self.created = body
        self.model_id = self.result(self.post("create_model", body))["model_id"]

    def send(self, verb: str, body: dict[str, object]) -> httpx.Response:
        return self._http.post(self._base + verb, json=body)

    def post(self, verb: str, body: dict[str, object]) -> dict[str, object]:
        answer = self.send(verb, body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def submit(self, verb: str, seq: int, **body: object) -> str:
        return str(self.post(verb, {"model_id": self.model_id, "seq_id": seq, **body})["request_id"])

    def result(self, accepted: dict[str, object] | str) -> dict[str, object]:
        request_id = accepted if isinstance(accepted, str) else accepted["request_id"]
        return self.post("retrieve_future", {"request_id": request_id})

    def run(self, verb: str, seq: int, **body: object) -> dict[str, object]:
        return self.result(self.submit(verb, seq, **body))


@pytest.fixture
def wire(http: httpx.Client, new_job: Callable[..., Job]) -> Wire:
    """A full-parameter model on job j1."""
    new_job("j1")
    return Wire(http)


def gateway(emu: Emulator, job_id: str) -> str:
    return f"{emu.url}/training/v1/rlorTrainerJobs/{emu.account}/{job_id}"


def datum(*tokens: int, weights: list[float] | None = None) -> types.Datum:
    """Tokens that are to predict themselves: the double only looks at targets."""
    inputs = {"target_tokens": types.TensorData(data=list(tokens), dtype="int64", shape=[len(tokens)])}
    if weights is not None:
        inputs["weights"] = types.TensorData(data=weights, dtype="float32", shape=[len(weights)])
    return types.Datum(model_input=types.ModelInput.from_ints(list(tokens)), loss_fn_inputs=inputs)


def plain(*tokens: int) -> dict[str, object]:
    """The same as an April client writes it: no `type`, no weights."""
    return {
        "model_input": {"chunks": [{"tokens": list(tokens)}]},
        "loss_fn_inputs": {"target_tokens": {"data": list(tokens), "dtype": "int64"}},
    }


def batch(*tokens: int) -> dict[str, object]:
    return {"data": [plain(*tokens)], "loss_fn": "cross_entropy"}
