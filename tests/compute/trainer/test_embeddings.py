"""Embeddings, projections, similarities and the contrastive loss, against plain autograd."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModelForCausalLM

from emulator.backend import BackendError, BaseModel, LoraSpec, ModelSpec
from ftsim.compute.models.catalogue import base_folder
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import ADAM, Start, datum, gradients, same, tensor
from tests.zoo import folders

MODELS = "accounts/fireworks/models/"

SHIPPED = ("qwen3-8b", "qwen3-30b-a3b", "kimi-k2-instruct", "glm-5")
OTHERS = ("bamba", "cohere2", "gemma3", "gpt_oss", "granite", "llama4", "minimax", "mistral", "qwen3_5", "qwen3_next")
TEXTS = [[1, 2, 3], [4, 5], [6, 7, 8, 9], [10]]


def _request(
    output: str, texts: list[list[int]] = TEXTS, grads: Any = None, field: str = "embedding", **config: Any
) -> Any:
    data = [datum(text, text) for text in texts]
    for one, grad in zip(data, grads if grads is not None else [None] * len(data), strict=True):
        one["loss_fn_inputs"] = {} if grad is None else {f"{field}_grads": tensor(grad)}
    return {"data": data, "loss_fn": "cross_entropy", "loss_fn_config": {"output": output, **config}}


GOOD: dict[str, Any] = {"num_queries": 2, "temperature": 0.05}


def _hidden(trainer: TorchTrainer) -> list[torch.Tensor]:
    body = trainer._model("m").bare.base_model
    return [body(input_ids=torch.tensor([text])).last_hidden_state[0] for text in TEXTS]


def _values(answer: Any, field: str = "embedding") -> list[torch.Tensor]:
    return [torch.tensor(o[field]["data"]).reshape(o[field]["shape"]) for o in answer["loss_fn_outputs"]]


def _reference_gradients(trainer: TorchTrainer, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    held = trainer._model("m")
    grads = torch.autograd.grad(loss, list(held.trained.values()), allow_unused=True)
    return {name: grad for name, grad in zip(held.trained, grads, strict=True) if grad is not None}


def _agree(mine: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    for name, grad in wanted.items():
        torch.testing.assert_close(mine[name], grad, rtol=1e-4, atol=1e-3 * float(grad.abs().max()))


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("name", [*SHIPPED, *OTHERS])
def test_every_family_embeds_what_its_head_is_given(name: str, rank: int, tmp_path: Path) -> None:
    folder = folders.write(name, tmp_path / name) if name in OTHERS else base_folder(MODELS + name, tmp_path)
    trainer = TorchTrainer(lambda base: folder, lora_rank=rank)
    lora = LoraSpec(rank, seed=0) if rank else None
    trainer.create_model(ModelSpec("m", BaseModel(MODELS + name), lora))
    with quiet(), torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        given: list[torch.Tensor] = []
        model.get_output_embeddings().register_forward_pre_hook(lambda _, args: given.append(args[0]))
        for text in TEXTS:
            model(input_ids=torch.tensor([text]), use_cache=False)
    found = _values(trainer.forward("m", _request("embedding")))
    for one, states in zip(found, given, strict=True):
        torch.testing.assert_close(one, states[0].mean(0), rtol=1e-4, atol=1e-5)
    trainer.forward_backward("m", _request("contrastive_loss", **GOOD))
    assert any(float(grad.abs().max()) > 0 for grad in gradients(trainer).values())


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_an_embedding_and_its_gradient(start: Start, pooling: str) -> None:
    trainer = start("dense", micro_batch_tokens=6)
    pooled = [h.mean(0) if pooling == "mean" else h[-1] for h in _hidden(trainer)]
    for got, right in zip(_values(trainer.forward("m", _request("embedding", pooling=pooling))), pooled, strict=True):
        torch.testing.assert_close(got, right.detach(), rtol=1e-4, atol=1e-5)
    wanted = _reference_gradients(trainer, sum((p.square().sum() for p in pooled), torch.zeros(())))
    slopes = [(2 * p).tolist() for p in pooled]
    trainer.forward_backward("m", _request("embedding", grads=slopes, pooling=pooling))
    _agree(gradients(trainer), wanted)
    counts = trainer.optim_step("m", ADAM, "num_loss_tokens")
    assert counts["num_loss_tokens"] == (10 if pooling == "mean" else 4)
    assert counts["num_sequences"] == 4


def test_a_similarity_matrix_and_its_gradient(start: Start) -> None:
    trainer = start("dense")
    unit = normalize(torch.stack([h.mean(0) for h in _hidden(trainer)]), dim=-1)
    matrix = unit @ unit.T
    got = torch.stack(_values(trainer.forward("m", _request("cos_similarity_matrix"))))
    torch.testing.assert_close(got, matrix.detach(), rtol=1e-4, atol=1e-5)
    slopes = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    wanted = _reference_gradients(trainer, (matrix * slopes).sum())
    trainer.forward_backward("m", _request("cos_similarity_matrix", grads=slopes.tolist()))
    _agree(gradients(trainer), wanted)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_projection_is_trained_with_the_model(start: Start, rank: int) -> None:
    trainer = start("dense", rank, projection=8)
    head = trainer._model("m").projection
    assert head is not None
    projected = [head(h) for h in _hidden(trainer)]
    answer = trainer.forward("m", _request("projection", pooling="mean"))
    assert [list(value.shape) for value in _values(answer, "projection")] == [[len(text), 8] for text in TEXTS]
    wanted = _reference_gradients(trainer, sum((p.sum() for p in projected), torch.zeros(())))
    slopes = [torch.ones_like(p).tolist() for p in projected]
    trainer.forward_backward("m", _request("projection", grads=slopes, field="projection"))
    assert "projection.weight" in gradients(trainer)
    _agree(gradients(trainer), wanted)


@pytest.mark.parametrize("negatives", [0, 1])
def test_the_contrastive_loss_is_bidirectional_info_nce(start: Start, negatives: int) -> None:
    trainer = start("dense", micro_batch_tokens=6)
    texts = [*TEXTS, *([[11, 12]] if negatives else [])]
    body = trainer._model("m").bare.base_model
    pooled = torch.stack([body(input_ids=torch.tensor([text])).last_hidden_state[0, -1] for text in texts])
    unit = normalize(pooled, dim=-1)
    scores = unit[:2] @ unit[2:].T / 0.05
    q2d, d2q = cross_entropy(scores, torch.arange(2)), cross_entropy(scores[:, :2].T, torch.arange(2))
    wanted = _reference_gradients(trainer, (q2d + d2q) / 2)
    config: dict[str, Any] = {
        "num_queries": 2,
        "temperature": 0.05,
        "pooling": "last",
        "num_extra_negatives": negatives,
    }
    answer = trainer.forward_backward("m", _request("contrastive_loss", texts, **config))
    assert answer["loss_fn_outputs"] == [{}] * len(texts)
    assert answer["metrics"]["loss_q2d"] == pytest.approx(float(q2d.detach()), abs=1e-3)
    assert answer["metrics"]["loss_d2q"] == pytest.approx(float(d2q.detach()), abs=1e-3)
    assert answer["metrics"]["loss"] == answer["metrics"]["loss:sum"]
    assert 0 <= answer["metrics"]["in_batch_recall_at_1"] <= 1
    _agree(gradients(trainer), {k: v for k, v in wanted.items()})
    only_loss = start("dense").forward("m", _request("contrastive_loss", texts, **config))
    assert only_loss["metrics"]["loss"] == pytest.approx(answer["metrics"]["loss"], abs=1e-3)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (_request("vectors"), "unknown output"),
        (_request("embedding", top_k=2), "unknown loss_fn_config key 'top_k'"),
        (_request("embedding", pooling="max"), "unknown pooling"),
        (_request("projection"), "projection_head_dim"),
        (_request("embedding"), "missing required field 'embedding_grads'"),
        (_request("embedding", grads=[[1.0]] * 4), "expected \\[64\\]"),
        (_request("contrastive_loss", **GOOD | {"num_queries": 0}), "num_queries"),
        (_request("contrastive_loss", **GOOD | {"temperature": 0}), "temperature"),
        (_request("contrastive_loss", **GOOD | {"num_queries": 3}), "got 4 datums"),
    ],
)
def test_a_senseless_request_changes_nothing(start: Start, request_: Any, reason: str) -> None:
    trainer = start("dense")
    trainer.forward_backward("m", _request("contrastive_loss", **GOOD))
    before = gradients(trainer)
    with pytest.raises(BackendError, match=reason):
        trainer.forward_backward("m", request_)
    assert same(before, gradients(trainer))


def test_an_embedding_needs_something_to_train(start: Start) -> None:
    trainer = start("untied", 2, lora={"train_attn": False, "train_mlp": False})
    with pytest.raises(BackendError, match="no trained weight lies below"):
        trainer.forward_backward("m", _request("contrastive_loss", **GOOD))
    trainer.forward("m", _request("contrastive_loss", **GOOD))
