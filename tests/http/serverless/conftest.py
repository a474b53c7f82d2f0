"""The vendor's clients on the serverless pool of an emulator over the torch-free backend."""

import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fireworks.training.sdk import FireworksClient
from fireworks.training.sdk.client import FiretitanServiceClient, FiretitanTrainingClient

from emulator.server import Emulator
from tests.doubles import BASE
from tests.http.gateway.conftest import datum
from tests.sdk import types

API = "/training/v1/serverless/api/v1/"
SESSIONS = "/v1/accounts/local/trainingSessions"

Serve = Callable[[], FiretitanServiceClient]


@pytest.fixture
def emulator_settings(tmp_path: Path) -> dict[str, Any]:
    return {"state_dir": tmp_path / "state", "api_key": "key1", "keys": {"key2": "other"}}


@pytest.fixture
def serve(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A service client with nothing but the environment: the pool is where it goes by itself."""
    for name, value in emu.env().items():
        monkeypatch.setenv(name, value)
    services: list[FiretitanServiceClient] = []

    def open_service() -> FiretitanServiceClient:
        services.append(FiretitanServiceClient())
        return services[-1]

    yield open_service
    for service in services:
        service.close()
    gc.collect()


@pytest.fixture
def client(emu: Emulator) -> Iterator[FireworksClient]:
    with FireworksClient(api_key=emu.api_key, base_url=emu.url) as opened:
        yield opened


def step(client: FiretitanTrainingClient, *tokens: int) -> None:
    client.forward_backward([datum(*tokens)], "cross_entropy").result()
    client.optim_step(types.AdamParams(learning_rate=0.5)).result()


def logprobs(client: FiretitanTrainingClient, *tokens: int) -> list[float]:
    outputs: list[float] = (
        client.forward([datum(*tokens)], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
    )
    return list(outputs)


def short(row: dict[str, Any]) -> str:
    return str(row["name"]).rsplit("/", 1)[-1]


class Pool:
    """A session that says exactly what it is told, and its newest model."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self.session = str(self.post("create_session", {})["session_id"])
        self.model_id = ""

    def send(self, verb: str, body: Mapping[str, object]) -> httpx.Response:
        return self._http.post(API + verb, json=body)

    def post(self, verb: str, body: Mapping[str, object]) -> dict[str, object]:
        answer = self.send(verb, body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def create(self, number: int = 0, **model: object) -> dict[str, object]:
        body = {"session_id": self.session, "model_seq_id": number, "base_model": BASE, "lora_config": {"rank": 8}}
        made = self.result(self.post("create_model", {**body, **model}))
        self.model_id = str(made.get("model_id", self.model_id))
        return made

    def run(self, verb: str, seq: int, **body: object) -> dict[str, object]:
        return self.result(self.post(verb, {"model_id": self.model_id, "seq_id": seq, **body}))

    def result(self, accepted: dict[str, object]) -> dict[str, object]:
        return self.post("retrieve_future", {"request_id": accepted["request_id"]})


@pytest.fixture
def pool(http: httpx.Client) -> Pool:
    return Pool(http)
