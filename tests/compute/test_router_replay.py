"""Router replay: the sampler tells which experts it used, and a trainer uses exactly those, forward and backward."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emulator.backend import BackendError, BaseModel, GenerateRequest, Generation, LoraSpec, ModelSpec
from ftsim.compute.execution import FLOAT32, Execution
from ftsim.compute.models.catalogue import base_folder
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import batch, datum, gradients, same

MODELS = "accounts/fireworks/models/"
FAMILIES = ("qwen3-30b-a3b", "kimi-k2-instruct", "glm-5")
BIASED = ("kimi-k2-instruct", "glm-5")
"""Families whose routers choose by a bias that their weights do not feel."""
TEXT = "Nora said that the cat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    cache = tmp_path_factory.mktemp("bases")
    return lambda name: base_folder(MODELS + name, cache)


@pytest.fixture
def sample(folder: Callable[[str], Path]) -> Callable[..., tuple[list[int], list[Generation]]]:
    def make(name: str, count: int = 1, **settings: Any) -> tuple[list[int], list[Generation]]:
        replica = TorchReplica(folder(name), max_context_length=256)
        prompt = replica.encode(TEXT)
        requests = [
            GenerateRequest(
                prompt[: len(prompt) - at], max_tokens=12, seed=at, echo=True, routing=True, ignore_eos=True, **settings
            )
            for at in range(count)
        ]
        futures = [replica.generate(request) for request in requests]
        answers = [future.result() for future in futures]
        replica.close()
        return prompt, answers

    return make


def trained(folder: Path, *, rank: int = 0, nudge: float = 0.0, how: Execution = FLOAT32) -> TorchTrainer:
    trainer = TorchTrainer(lambda base: folder, lora_rank=rank, how=how)
    told = trainer.create_model(ModelSpec("m", BaseModel("x"), LoraSpec(rank) if rank else None))
    assert told["supports_router_replay"] is True
    torch.manual_seed(1)
    for router in trainer._model("m").routers._routers:
        if nudge:
            bias = router.e_score_correction_bias
            assert isinstance(bias, torch.Tensor)
            bias.add_(nudge * torch.randn_like(bias))
    return trainer


def replay(answer: Generation, *, routed: bool = True) -> dict[str, Any]:
    """The datum of an answer: the row of a token has the experts of the position before it."""
    rows = [*answer.prompt_tokens, *answer.tokens]
    ids = [row.token_id for row in rows]
    one = datum(ids[:-1], ids[1:])
    if routed:
        one["model_input"]["routing_matrices"] = [base64.b64encode(row.routing or b"").decode() for row in rows[1:]]
    return one


def far(trainer: TorchTrainer, answers: list[Generation], *, routed: bool) -> float:
    """The largest distance between the trainer's log-probabilities and the sampler's."""
    data = [replay(answer, routed=routed) for answer in answers]
    outputs = trainer.forward("m", {"data": data, "loss_fn": "cross_entropy"})["loss_fn_outputs"]
    mine: list[float] = [value for output in outputs for value in output["logprobs"]["data"]]
    theirs = [row.logprob for answer in answers for row in [*answer.prompt_tokens, *answer.tokens][1:]]
    return max(abs(left - right) for left, right in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_replayed_is_what_was_sampled(folder: Any, sample: Any, name: str) -> None:
    _, answers = sample(name, 3)
    shape = trained(folder(name))._model("m").routers.shape
    assert shape is not None
    for answer in answers:
        routes = [row.routing for row in (*answer.prompt_tokens, *answer.tokens)]
        assert routes[0] is None
        assert {len(route or b"") for route in routes[1:]} == {shape.size}
    assert far(trained(folder(name)), answers, routed=True) < 1e-5


@pytest.mark.parametrize("name", BIASED)
@pytest.mark.parametrize("rank", [0, 4])
def test_with_a_nudged_router_replayed_log_probabilities_are_the_samplers_and_free_ones_are_not(
    folder: Any, sample: Any, name: str, rank: int
) -> None:
    _, answers = sample(name, 3)
    trainer = trained(folder(name), rank=rank, nudge=1.0)
    assert far(trainer, answers, routed=True) < 1e-5
    assert far(trainer, answers, routed=False) > 1e-3


@pytest.mark.parametrize("name", BIASED)
def test_layers_that_run_again_in_the_backward_take_the_replayed_experts_again(
    folder: Any, sample: Any, name: str
) -> None:
    _, answers = sample(name, 2)
    request = {"data": [replay(answer) for answer in answers], "loss_fn": "cross_entropy"}
    plain = trained(folder(name), nudge=1.0)
    frugal = trained(folder(name), nudge=1.0, how=Execution(checkpointing=True))
    assert plain.forward_backward("m", request) == frugal.forward_backward("m", request)
    assert same(gradients(plain), gradients(frugal))


@pytest.mark.parametrize("name", BIASED)
def test_gradients_go_through_the_replayed_experts(folder: Any, sample: Any, name: str) -> None:
    _, answers = sample(name, 2)
    request = {"data": [replay(answer) for answer in answers], "loss_fn": "cross_entropy"}
    plain, nudged = trained(folder(name)), trained(folder(name), nudge=1.0)
    for trainer in (plain, nudged):
        trainer.forward_backward("m", request)
    left, right = gradients(plain), gradients(nudged)
    assert all(torch.allclose(left[key], right[key], atol=1e-5) for key in left)
    free = trained(folder(name), nudge=1.0)
    free.forward_backward("m", {"data": [replay(one, routed=False) for one in answers], "loss_fn": "cross_entropy"})
    assert not all(torch.allclose(left[key], value, atol=1e-5) for key, value in gradients(free).items())


def test_an_empty_entry_lets_the_model_choose(folder: Any, sample: Any) -> None:
    _, (answer,) = sample("kimi-k2-instruct")
    trainer = trained(folder("kimi-k2-instruct"), nudge=1.0)
    one = replay(answer)
    one["model_input"]["routing_matrices"] = [""] * len(one["model_input"]["routing_matrices"])
    free = replay(answer, routed=False)
    answers = [trainer.forward("m", {"data": [given], "loss_fn": "cross_entropy"}) for given in (one, free)]
    assert answers[0] == answers[1]
    mixed = replay(answer)
    mixed["model_input"]["routing_matrices"][5:] = [""] * len(mixed["model_input"]["routing_matrices"][5:])
    together = trainer.forward("m", {"data": [mixed, free, replay(answer)], "loss_fn": "cross_entropy"})
    logprobs = [output["logprobs"]["data"] for output in together["loss_fn_outputs"]]
    assert logprobs[0][:5] == pytest.approx(logprobs[2][:5], abs=1e-5)
    assert logprobs[0] != pytest.approx(logprobs[2], abs=1e-3)


def test_wrong_routes_are_refused_with_datum_and_position(folder: Any, sample: Any) -> None:
    _, (answer,) = sample("kimi-k2-instruct")
    trainer = trained(folder("kimi-k2-instruct"))
    shape = trainer._model("m").routers.shape
    assert shape is not None
    good = replay(answer)
    routes = good["model_input"]["routing_matrices"]

    def encoded(*values: int) -> str:
        return base64.b64encode(bytes(values)).decode()

    for wrong, says in (
        (routes[:-1], f"has {len(routes) - 1} entries but the model input has {len(routes)} tokens"),
        ([*routes[:3], encoded(1), *routes[4:]], "at position 3 has 1 bytes"),
        ([*routes[:3], encoded(*[shape.experts] * shape.size), *routes[4:]], "at position 3 names expert"),
        ([*routes[:3], encoded(*[0] * shape.size), *routes[4:]], "at position 3 names an expert twice"),
        ([*routes[:3], "?", *routes[4:]], "at position 3 is not base64"),
        ("routes", "must be a list of strings"),
    ):
        bad = replay(answer)
        bad["model_input"]["routing_matrices"] = wrong
        with pytest.raises(BackendError, match=f"datum 1: .*{says}"):
            trainer.forward_backward("m", {"data": [good, bad], "loss_fn": "cross_entropy"})
    with_files = replay(answer)
    with_files["model_input"]["routing_matrix_format"] = "parquet_v1"
    with pytest.raises(BackendError, match="datum 0: routes kept as files are not read here"):
        trainer.forward("m", {"data": [with_files], "loss_fn": "cross_entropy"})


def test_a_dense_model_has_no_routes(folder: Any) -> None:
    trainer = TorchTrainer(lambda base: folder("qwen3-8b"))
    assert trainer.create_model(ModelSpec("m", BaseModel("x")))["supports_router_replay"] is False
    data = batch()
    data["data"][1]["model_input"]["routing_matrices"] = ["AAAA"] * 9
    with pytest.raises(BackendError, match="datum 1: 'routing_matrices' needs a model with routers"):
        trainer.forward("m", data)
    replica = TorchReplica(folder("qwen3-8b"), max_context_length=64)
    with pytest.raises(BackendError, match="include_routing_matrix: this model has no routers"):
        replica.generate(GenerateRequest([1, 2], routing=True))
    replica.close()
