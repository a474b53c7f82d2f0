"""The service of tinker's own client: what the story of fixtures/wire does not tell."""

import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard

from emulator import Emulator
from emulator.http.tinker.messages import INT64, message
from tests.doubles import BASE, DictBackend
from tests.http import exchanges
from tests.http.gateway.conftest import plain

PROTOBUF = {"Content-Type": "application/x-protobuf"}
ACCEPTS = {"Accept": "application/x-protobuf, application/json"}


class Client:
    """A session with one LoRA model."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.session = self.post("create_session", tags=[], sdk_version="0.38.0")["session_id"]
        self.seq = 0
        self.model = self.done("create_model", **self.numbered(0), base_model=BASE, lora_config={"rank": 8})["model_id"]

    def numbered(self, number: int) -> dict[str, Any]:
        return {"session_id": self.session, "model_seq_id": number}

    def post(self, verb: str, /, **body: Any) -> Any:
        answer = self.http.post(f"/tinker/api/v1/{verb}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def done(self, verb: str, /, **body: Any) -> Any:
        """The result of an operation."""
        return self.post("retrieve_future", request_id=self.post(verb, **body)["request_id"])

    def next(self, verb: str, /, **body: Any) -> Any:
        """The result of the model's next operation."""
        self.seq += 1
        return self.done(verb, model_id=self.model, seq_id=self.seq, **body)

    def get(self, path: str) -> Any:
        answer = self.http.get(f"/tinker/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def step(self) -> Any:
        batch = {"data": [plain(1, 2, 3)], "loss_fn": "cross_entropy"}
        self.next("forward_backward", forward_backward_input=batch)
        return self.next("optim_step", adam_params={"learning_rate": 0.1})


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with exchanges.running() as client:
        yield client


@pytest.fixture
def client(http: httpx.Client) -> Iterator[Client]:
    opened = Client(http)
    yield opened
    http.delete(f"/v1/accounts/local/trainingSessions/{opened.session}").raise_for_status()


def refused(http: httpx.Client, verb: str, /, **body: Any) -> tuple[int, str]:
    answer = http.post(f"/tinker/api/v1/{verb}", json=body)
    return answer.status_code, answer.text


@pytest.mark.parametrize("packed", [False, True])
def test_a_step_may_come_and_go_as_protobuf(client: Client, packed: bool) -> None:
    sent = message("ForwardBackwardRequest")(model_id=client.model, seq_id=1, loss_fn="cross_entropy")
    datum = sent.data.add()
    datum.model_input.add().encoded_text.tokens = array("i", [1, 2, 3]).tobytes()
    target = datum.loss_fn_inputs["target_tokens"]
    target.dense, target.dtype = array("q", [1, 2, 3]).tobytes(), INT64
    body, headers = sent.SerializeToString(), dict(PROTOBUF)
    if packed:
        body, headers = zstandard.ZstdCompressor().compress(body), {**headers, "Content-Encoding": "zstd"}
    accepted = client.http.post("/tinker/api/v1/forward_backward", content=body, headers=headers).json()
    asked = {"request_id": accepted["request_id"]}
    answer = client.http.post("/tinker/api/v1/retrieve_future", json=asked, headers=ACCEPTS)
    assert answer.headers["content-type"] == "application/x-protobuf"
    made = message("ForwardBackwardOutput").FromString(answer.content)
    told = client.http.post("/tinker/api/v1/retrieve_future", json=asked).json()
    (record,) = made.loss_fn_outputs
    logprobs = array("f", record.fields["logprobs"].data).tolist()
    assert logprobs == pytest.approx(told["loss_fn_outputs"][0]["logprobs"]["data"])
    assert dict(made.metrics) == told["metrics"]


def test_an_operation_that_failed_says_so_as_json(client: Client) -> None:
    accepted = client.post(
        "forward_backward", model_id=client.model, seq_id=1, forward_backward_input={"data": [], "loss_fn": "none"}
    )
    asked = {"request_id": accepted["request_id"]}
    answer = client.http.post("/tinker/api/v1/retrieve_future", json=asked, headers=ACCEPTS)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["category"] == "user"


def test_a_model_is_made_from_a_state_in_one_request(client: Client) -> None:
    client.step()
    path = client.next("save_weights", path="half")["path"]
    assert path == f"tinker://{client.model}/weights/half"
    client.done("load_weights", **client.numbered(1), path=path, optimizer=True)
    other = f"{client.session}:train:1"
    told = client.post("get_info", model_id=other)
    assert (told["model_id"], told["lora_rank"]) == (other, 8)
    batch = {"data": [plain(1, 2, 3)], "loss_fn": "cross_entropy"}
    went_on = client.done("forward", model_id=other, seq_id=1, forward_input=batch)
    assert went_on["metrics"] == client.next("forward", forward_input=batch)["metrics"]


def test_a_state_and_a_samplers_weights_may_have_one_name(client: Client) -> None:
    client.next("save_weights", path="both")
    client.next("save_weights_for_sampler", path="both")
    listed = client.get(f"training_runs/{client.model}/checkpoints")["checkpoints"]
    assert [one["checkpoint_id"] for one in listed] == ["weights/both", "sampler_weights/both"]
    assert client.post("weights_info", tinker_path=listed[1]["tinker_path"])["is_lora"] is True
    sampled = f"tinker://{client.model}/sampler_weights/both"
    status, said = refused(client.http, "load_weights", model_id=client.model, seq_id=3, path=sampled, optimizer=False)
    accepted = httpx.Response(status, text=said).json()
    assert "no optimizer" in client.post("retrieve_future", request_id=accepted["request_id"])["error"]


def test_a_save_without_a_name_is_sampled_and_not_listed(client: Client) -> None:
    client.step()
    saved = client.next("save_weights_for_sampler", sampling_session_seq_id=4)
    assert saved["sampling_session_id"] == f"{client.session}:sample:4"
    prompt = {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]}
    answer = client.done(
        "asample",
        sampling_session_id=saved["sampling_session_id"],
        prompt=prompt,
        num_samples=2,
        prompt_logprobs=True,
        sampling_params={"max_tokens": 2, "seed": 1},
    )
    assert len(answer["sequences"]) == 2
    assert len(answer["prompt_logprobs"]) == 3
    assert answer["prompt_logprobs"][0] is None
    assert client.get(f"training_runs/{client.model}/checkpoints")["checkpoints"] == []
    assert saved["sampling_session_id"] in client.get(f"sessions/{client.session}")["sampler_ids"]


def test_a_checkpoint_expires_and_is_deleted(client: Client) -> None:
    path = client.next("save_weights", path="a", ttl_seconds=3600)["path"]
    of = f"/tinker/api/v1/training_runs/{client.model}/checkpoints/weights/a"
    assert client.get("checkpoints")["checkpoints"][0]["expires_at"] is not None
    assert client.http.put(f"{of}/ttl", json={"ttl_seconds": None}).status_code == 200
    assert client.get("checkpoints")["checkpoints"][0]["expires_at"] is None
    short = client.http.put(f"{of}/ttl", json={"ttl_seconds": 60})
    assert (short.status_code, "3600" in short.text) == (400, True)
    assert client.http.delete(of).status_code == 200
    assert client.http.delete(of).status_code == 404
    assert refused(client.http, "weights_info", tinker_path=path)[0] == 404
    assert "at least 3600" in client.next("save_weights", path="b", ttl_seconds=60)["error"]


def test_base_models_go_by_their_names_on_the_hub(client: Client) -> None:
    told = client.get("get_server_capabilities")["supported_models"]
    assert "Qwen/Qwen3-8B" in {one["model_name"] for one in told}
    opened = client.post(
        "create_sampling_session", session_id=client.session, sampling_session_seq_id=9, base_model="Qwen/Qwen3-8B"
    )
    assert client.get(f"samplers/{opened['sampling_session_id']}")["base_model"] == "Qwen/Qwen3-8B"
    status, said = refused(client.http, "create_model", **client.numbered(5), base_model="nobody/knows")
    assert (status, "nobody/knows" in said) == (404, True)


@pytest.mark.parametrize(
    ("verb", "body", "says"),
    [
        ("create_model", {"base_model": BASE, "optimizer_config": {"type": "dimuon"}}, "dimuon"),
        ("load_weights", {"path": "half", "optimizer": False}, "tinker://<run>/weights/<name>"),
        ("asample", {"prompt": {"chunks": []}, "num_samples": 0}, "num_samples"),
        ("asample", {"prompt": {"chunks": []}, "prompt_alt_tokens_k": 2}, "prompt_alt_tokens_k"),
        ("copy_weights", {}, "there is one project"),
        ("nothing", {}, "docs/tinker.md"),
    ],
)
def test_what_is_not_done_is_refused_in_a_sentence(client: Client, verb: str, body: dict[str, Any], says: str) -> None:
    status, said = refused(client.http, verb, **{**client.numbered(7), **body})
    assert (status, says in said) == (400, True), said


def test_a_prompt_that_cannot_be_read_fails_its_future(client: Client) -> None:
    opened = client.post(
        "create_sampling_session", session_id=client.session, sampling_session_seq_id=0, base_model=BASE
    )
    for chunks, says in ([], "empty"), ([{"type": "image"}], "image"), ([{"tokens": ["a"]}], "whole number"):
        answer = client.done(
            "asample", prompt={"chunks": chunks}, **{"sampling_session_id": opened["sampling_session_id"]}
        )
        assert says in answer["error"]


def test_a_model_that_is_unloaded_frees_its_place_where_that_is_so(client: Client) -> None:
    def switched(name: str, value: object) -> None:
        client.http.post("/_ftsim/quirks", json={"name": name, "value": value}).raise_for_status()

    def another(number: int) -> Any:
        return client.done("create_model", **client.numbered(number), base_model=BASE, lora_config={"rank": 8})

    switched("sessions.quota", 1)
    try:
        assert "may have 1" in str(another(1)["error"])
        switched("sessions.unload_frees_place", True)
        client.done("unload_model", model_id=client.model)
        assert "error" not in another(2)
    finally:
        client.http.delete("/_ftsim/quirks").raise_for_status()


def test_one_sample_too_many_at_a_time_is_refused_until_another_is_over(tmp_path: Path) -> None:
    backend, go_on = DictBackend(tmp_path / "base"), threading.Event()

    def held(_at: int) -> None:
        assert go_on.wait(30)

    backend.before_token = held
    with (
        Emulator(backend) as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http,
    ):
        emulator.quirks.set("inference.capacity", 2)
        client = Client(http)
        numbered = {"session_id": client.session, "sampling_session_seq_id": 1}
        opened = client.post("create_sampling_session", **numbered, base_model=BASE)
        asked: dict[str, Any] = {
            "sampling_session_id": opened["sampling_session_id"],
            "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]},
            "num_samples": 3,
            "sampling_params": {"max_tokens": 2},
        }
        begun = [client.post("asample", **asked)["request_id"] for _ in range(2)]
        status, said = refused(http, "asample", **asked)
        assert (status, "answers 2 requests at a time" in said) == (429, True)
        beside = http.post("/v1/completions", json={"model": BASE, "prompt": [1]})
        assert beside.status_code == 429  # both count the same requests
        go_on.set()
        for request_id in begun:
            assert len(client.post("retrieve_future", request_id=request_id)["sequences"]) == 3
        assert len(client.done("asample", **asked)["sequences"]) == 3
