"""A sample does not depend on the requests it shared a batch with, to the last bit."""

import random
from pathlib import Path

import pytest
import torch

from emulator.backend import GenerateRequest, Generation, Replica
from ftsim.compute.checkpoints.source import open_model
from ftsim.compute.execution import Execution
from ftsim.compute.models.catalogue import base_folder
from ftsim.compute.sampler import precision
from ftsim.compute.sampler.forward import Forward
from ftsim.compute.sampler.replica import TorchReplica, open_replica
from tests.zoo import folders


def seen(generation: Generation) -> list[tuple[int, float, float | None]]:
    return [(token.token_id, token.logprob, token.sampling_logprob) for token in generation.tokens]


def generate(replica: Replica, requests: list[GenerateRequest], order: list[int], width: int) -> list[list[object]]:
    found: dict[int, list[object]] = {}
    for at in range(0, len(order), width):
        futures = {index: replica.generate(requests[index]) for index in order[at : at + width]}
        found |= {index: list(seen(future.result())) for index, future in futures.items()}
    return [found[index] for index in range(len(requests))]


def test_a_sample_is_the_same_bits_in_any_company(tmp_path: Path) -> None:
    replica = open_replica(base_folder("accounts/fireworks/models/qwen3-4b", tmp_path))
    words = ["fox", "owl", "hen", "goat", "red", "blue", "box", "key", "lamp", "book"]
    draw = random.Random(3)
    requests = []
    for seed in range(48):
        said = " ".join(draw.sample(words, draw.randint(1, 5)))
        prompt = replica.render_chat([{"role": "user", "content": f"Copy: {said}"}])
        requests.append(GenerateRequest(prompt=prompt, max_tokens=12, temperature=1.0, seed=seed))
    order = list(range(len(requests)))
    together = generate(replica, requests, order, len(order))
    draw.shuffle(order)
    apart = generate(replica, requests, order, 5)
    replica.close()
    assert together == apart


@pytest.mark.parametrize(
    ("device", "dtype", "size", "wanted"),
    [
        ("cpu", torch.float32, 1000, True),
        ("cuda", torch.float32, 1000, False),
        ("cpu", torch.bfloat16, 1000, False),
        ("cpu", torch.float32, precision.LARGEST_BYTES + 1, False),
    ],
)
def test_only_small_models_on_a_cpu_are_served_in_float64(
    tmp_path: Path, device: str, dtype: torch.dtype, size: int, wanted: bool
) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(size)
    assert precision.is_batch_invariant(tmp_path, device, dtype) is wanted


@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "kimi-k2-instruct", "glm-5"])
def test_mixtures_of_experts_answer_in_float64(tmp_path: Path, name: str) -> None:
    replica = open_replica(base_folder(f"accounts/fireworks/models/{name}", tmp_path))
    done = replica.generate(GenerateRequest(prompt=[5, 6, 7], max_tokens=4, seed=1)).result(60)
    replica.close()
    assert len(done.tokens) <= 4
    assert all(token.logprob <= 0 for token in done.tokens)


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3_5", "qwen3_moe", "gpt_oss", "kimi_like", "minimax"])
def test_a_renamed_formula_gives_the_bits_of_one_whose_calls_are_looked_at(tmp_path: Path, name: str) -> None:
    folder = folders.write(name, tmp_path / name)
    found = []
    for looked_at in (False, True):
        forward = Forward(precision.widen(open_model(folder, torch.float32)))
        if looked_at:
            forward._precision.step = forward._precision.everywhere  # type: ignore[method-assign]
        with torch.inference_mode():
            batch, _ = forward.prefill([[1, 2, 3, 4]])
            found.append(torch.cat([forward.step(batch, torch.tensor([token])) for token in range(5, 11)]))
        renamed = [module for module in forward.model.modules() if "forward" in vars(module)]
        assert bool(renamed) is not looked_at or batch.cache is None
    assert found[0].dtype is torch.float64
    assert torch.equal(*found)


class Shouting(torch.nn.Module):
    """Calls Python's own float beside the tensor's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float() * float("2")


def test_a_formula_that_cannot_be_renamed_is_looked_at() -> None:
    assert precision._wider(Shouting.forward) is None
    assert precision._wider(torch.no_grad()(Shouting.forward)) is None


def test_a_batch_variant_replica_samples_in_float32_and_says_nearly_the_same(tmp_path: Path) -> None:
    folder = base_folder("accounts/fireworks/models/qwen3-4b", tmp_path)
    said = []
    for how in (Execution(), Execution.parse("batch-variant")):
        replica = TorchReplica(folder, how=how)
        assert replica._model.dtype == (torch.float32 if how.batch_variant else torch.float64)
        prompt = replica.render_chat([{"role": "user", "content": "Copy: fox"}])
        said.append(replica.generate(GenerateRequest(prompt, max_tokens=12, temperature=0.0)).result().tokens)
        replica.close()
    assert [token.token_id for token in said[0]] == [token.token_id for token in said[1]]
    assert [token.logprob for token in said[0]] == pytest.approx([token.logprob for token in said[1]], abs=1e-4)


def test_a_way_to_compute_is_written_as_it_is_read() -> None:
    for words in ("float32", "float32,batch-variant", "bfloat16,checkpointing,compile,batch-variant"):
        assert Execution.parse(words).words() == words
    saved = {"precision": "float32", "compiled": False}
    assert Execution.parse("batch-variant").why_other(saved) == "", "sampling is no part of a training state"
