"""Routes of experts kept as files, through the vendor's sampler and trainer (FAILURES E40)."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fireworks.training.sdk import DeploymentSampler
from fireworks.training.sdk.routing import RoutingReferences, concat_routing, routing_model_input_kwargs

from ftsim.scenarios import shared_backend
from ftsim.scenarios.support import deployments
from ftsim.scenarios.support.stage import EXPERTS, Stage, open_stage
from tests.sdk import RequestFailedError, types

PROMPT = [1, 2, 3]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage(shared_backend()) as opened:
        opened.quirks.set("routing.trainer_format", "parquet_v1")
        opened.quirks.set("inference.routing_format", "parquet_v1")
        opened.quirks.set("jobs.inactivity_s", 0.0)
        opened.stop_the_clock()
        opened.job("moe", base_model=EXPERTS)
        deployments.deploy(opened, None, base_model=EXPERTS)
        yield opened


@pytest.fixture(scope="module")
def client(stage: Stage) -> Any:
    return stage.service("moe").create_training_client(base_model=EXPERTS, lora_rank=0)


def sample(stage: Stage, client: Any, **options: Any) -> Any:
    async def run() -> Any:
        model = f"accounts/{stage.account}/deployments/{deployments.DEPLOYMENT}"
        sampler = DeploymentSampler(inference_url=stage.url, model=model, api_key=stage.key)
        sampler.negotiate_routing_matrix_format(client.routing_matrix_format, client.r3_store_id)
        settings = {"n": 1, "max_tokens": 6, "temperature": 1.0, "logprobs": True, "include_routing_matrix": True}
        (one,) = await sampler.sample_with_prompt_tokens(PROMPT, **{**settings, **options})
        sampler.close()
        await asyncio.sleep(0.01)  # its connections close in a task
        return one

    return asyncio.run(run())


def datum(one: Any, references: Any) -> types.Datum:
    tokens = one.full_tokens
    targets = types.TensorData(data=tokens[1:], dtype="int64", shape=[len(tokens) - 1])
    chunks = types.ModelInput.from_ints(tokens[:-1]).chunks
    model_input = types.ModelInput(chunks=chunks, **routing_model_input_kwargs(references))
    return types.Datum(model_input=model_input, loss_fn_inputs={"target_tokens": targets})


def logprobs(client: Any, one: types.Datum) -> list[float]:
    return list(client.forward([one], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data)


def whole(one: Any) -> RoutingReferences:
    """References for each position of the trainer's input: those of the prompt choose by themselves."""
    joined = concat_routing([""] * (len(PROMPT) - 1), one.routing_matrices)
    assert isinstance(joined, RoutingReferences)
    return joined


@pytest.mark.parametrize("echo", [False, True])
def test_a_trainer_replays_what_a_sampler_has_kept(stage: Stage, client: Any, echo: bool) -> None:
    assert client.routing_matrix_format == "parquet_v1"
    one = sample(stage, client, echo=echo)
    references = one.routing_matrices
    assert isinstance(references, RoutingReferences)
    assert len(references) == len(one.full_tokens) - (1 if echo else len(PROMPT))
    assert all(span.get("file_index") == 0 for span in references.spans)
    found = logprobs(client, datum(one, references if echo else whole(one)))
    known = list(one.inference_logprobs)
    assert found[-len(known) :] == pytest.approx(known, abs=1e-5)


def test_the_same_routes_are_given_inline(stage: Stage, client: Any) -> None:
    one = sample(stage, client)
    model = f"accounts/{stage.account}/deployments/{deployments.DEPLOYMENT}"
    body = {"model": model, "prompt": PROMPT, "max_tokens": 6, "include_routing_matrix": True, "seed": 1}
    rows = stage.http.post("/inference/v1/completions", json=body).json()["choices"][0]["logprobs"]["content"]
    headers = {"x-fireworks-r3-store-id": client.r3_store_id}
    asked = {**body, "include_routing_matrix": False, "routing_matrix_format": "parquet_v1"}
    choice = stage.http.post("/inference/v1/completions", json=asked, headers=headers).json()["choices"][0]
    read = stage.emulator.platform.routes.inline(
        client.r3_store_id,
        {"data": [{"model_input": {key: choice[key] for key in ("routing_references", "routing_matrix_format")}}]},
    )
    assert read["data"][0]["model_input"]["routing_matrices"] == [row["routing_matrix"] for row in rows]
    assert choice["logprobs"] is None
    assert one.routing_matrices.files[0]["store_id"] == client.r3_store_id


def test_a_file_lives_for_its_time_and_no_longer(stage: Stage, client: Any) -> None:
    one, brief = sample(stage, client), sample(stage, client, r3_ttl_seconds=60)
    stage.clock.advance(61)
    logprobs(client, datum(one, whole(one)))
    with pytest.raises((RequestFailedError, RuntimeError), match="was kept for its time and is gone"):
        logprobs(client, datum(brief, whole(brief)))
    with stage.quirks.set("routing.ttl_s", 5.0):
        brief = sample(stage, client)
    stage.clock.advance(6)
    with pytest.raises((RequestFailedError, RuntimeError), match="was kept for its time and is gone"):
        logprobs(client, datum(brief, whole(brief)))


FILE = {"store_id": "store-moe", "format": "parquet_v1", "path": f"{'0' * 32}.parquet", "row_count": 3}
SPAN = {"input_token_start": 0, "count": 3, "file_index": 0, "file_row_start": 0}


@pytest.mark.parametrize(
    ("references", "says"),
    [
        ({"length": 3, "files": [FILE], "spans": [SPAN]}, "is not in store-moe"),
        ({"length": 3, "files": [{**FILE, "path": "../../key"}], "spans": [SPAN]}, "is not in store-moe"),
        ({"length": 3, "files": [{**FILE, "store_id": "other"}], "spans": [SPAN]}, "different shared storage domain"),
        ({"length": 3, "files": [{**FILE, "format": "csv"}], "spans": []}, "is not parquet_v1"),
        ({"length": 3, "files": [], "spans": [SPAN]}, "names no row of a file"),
        ({"length": 3, "files": [], "spans": [{**SPAN, "input_token_start": 1}]}, "cover each position once"),
        ({"length": 3, "files": [], "spans": [{"input_token_start": 0, "count": 2}]}, "cover 2 positions and say 3"),
        ({"length": 3, "spans": []}, "are not {length, files, spans}"),
        (["x"], "are not {length, files, spans}"),
    ],
)
def test_references_that_mean_nothing_fail_the_operation(stage: Stage, client: Any, references: Any, says: str) -> None:
    tensors = {"target_tokens": {"data": [2, 3, 4], "dtype": "int64", "shape": [3]}}
    model_input = {
        "chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}],
        "routing_matrix_format": "parquet_v1",
        "routing_references": references,
    }
    data = [{"model_input": model_input, "loss_fn_inputs": tensors}]
    body = {"forward_input": {"data": data, "loss_fn": "cross_entropy"}}
    told = stage.ask(client, "forward", "moe", **body)
    assert says in told["error"]
    assert told["error"].startswith("datum 0: routing_references")


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "needs the trainer's r3_store_id in x-fireworks-r3-store-id"),
        ({"x-fireworks-r3-store-id": "../x"}, "needs the trainer's r3_store_id"),
        ({"x-fireworks-r3-store-id": "s", "x-fireworks-r3-ttl-seconds": "0"}, "give whole seconds"),
    ],
)
def test_a_request_for_files_names_a_store(stage: Stage, headers: dict[str, str], says: str) -> None:
    model = f"accounts/{stage.account}/deployments/{deployments.DEPLOYMENT}"
    body = {"model": model, "prompt": PROMPT, "max_tokens": 1, "routing_matrix_format": "parquet_v1"}
    answer = stage.http.post("/inference/v1/completions", json=body, headers=headers)
    assert (answer.status_code, says in answer.text) == (400, True), answer.text


def test_a_stream_ends_with_the_references(stage: Stage) -> None:
    model = f"accounts/{stage.account}/deployments/{deployments.DEPLOYMENT}"
    body = {"model": model, "prompt": PROMPT, "max_tokens": 2, "routing_matrix_format": "parquet_v1", "stream": True}
    answer = stage.http.post("/inference/v1/completions", json=body, headers={"x-fireworks-r3-store-id": "s"})
    assert '"routing_references":{"length":2,' in answer.text


def test_a_reset_deletes_the_files(stage: Stage) -> None:
    routes = stage.emulator.platform.routes
    routes.keep("s", [b"1"], 60.0)
    routes.clear()
    assert not list(routes._folder.rglob("*.parquet"))
