"""Losses that the caller computes, and outputs that are not log-probabilities, through the vendor's client on real
models: the gradients a trainer is left with are autograd's of the same loss (WIRE 2.8, 9.5)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from fireworks.training.sdk.client import FiretitanServiceClient, FiretitanTrainingClient
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize

import ftsim
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from ftsim.compute.trainer.live import LiveModel
from ftsim.testing.trainer_state import live_model
from tests.doubles import BASE
from tests.http.gateway.conftest import gateway
from tests.sdk import types

TEXTS = ([17, 42, 99, 7, 23], [3, 8, 1], [61, 90, 2, 5], [11, 12])
WIDTH = 6
"""Of the projection head."""


@pytest.fixture(scope="module")
def emu() -> Iterator[Emulator]:
    with ftsim.Emulator() as emulator:
        yield emulator


Open = Callable[..., tuple[FiretitanTrainingClient, LiveModel]]


@pytest.fixture
def connect(emu: Emulator) -> Iterator[Open]:
    """A client, and the model that it trains as it is in memory."""
    services = []

    def open_client(rank: int = 0, **more: Any) -> tuple[FiretitanTrainingClient, LiveModel]:
        emu.reset()
        emu.platform.jobs.create(emu.account, JobSpec(base_model=BASE, lora_rank=rank), "j1")
        service = FiretitanServiceClient(base_url=gateway(emu, "j1"), api_key=emu.api_key)
        services.append(service)
        client = service.create_training_client(base_model=BASE, lora_rank=rank, **more)
        held = live_model(emu, client.model_id)
        if rank:  # an adapter as it begins has B = 0, and then A no gradient
            with torch.no_grad():
                for number, weight in enumerate(held.trained.values()):
                    weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(number))
        return client, held

    yield open_client
    for service in services:
        service.close()


def data(targets: bool = False) -> list[types.Datum]:
    def tensor(text: Sequence[int]) -> types.TensorData:
        return types.TensorData(data=list(text[1:]), dtype="int64", shape=[len(text) - 1])

    return [
        types.Datum(model_input=types.ModelInput.from_ints(text[:-1]), loss_fn_inputs={"target_tokens": tensor(text)})
        if targets
        else types.Datum(model_input=types.ModelInput.from_ints(text), loss_fn_inputs={})
        for text in TEXTS
    ]


def logprobs(held: LiveModel) -> list[Tensor]:
    found = []
    for text in TEXTS:
        scores = log_softmax(held.bare(input_ids=torch.tensor([text[:-1]])).logits[0].float(), dim=-1)
        found.append(scores.gather(1, torch.tensor(text[1:])[:, None])[:, 0])
    return found


def hidden(held: LiveModel) -> list[Tensor]:
    body: Any = held.bare.base_model
    return [body(input_ids=torch.tensor([text])).last_hidden_state[0].float() for text in TEXTS]


def mean(held: LiveModel) -> list[Tensor]:
    return [states.mean(0) for states in hidden(held)]


def last(held: LiveModel) -> list[Tensor]:
    return [states[-1] for states in hidden(held)]


def similarities(held: LiveModel) -> list[Tensor]:
    unit = normalize(torch.stack(mean(held)), dim=-1)
    return list((unit @ unit.T).unbind())


def projections(held: LiveModel) -> list[Tensor]:
    assert held.projection is not None
    return [held.projection(states) for states in hidden(held)]


def contrast(pooled: Sequence[Tensor]) -> Tensor:
    """Two queries and their two documents, both ways."""
    unit = normalize(torch.stack(list(pooled)), dim=-1)
    scores, truth = unit[:2] @ unit[2:].T / 0.5, torch.arange(2)
    return (cross_entropy(scores, truth) + cross_entropy(scores.T, truth)) / 2


def uneven(values: Sequence[Tensor]) -> Tensor:
    """A loss that is linear in nothing, and weighs every value differently."""
    return sum(
        (
            (number + 1) * (value.flatten() * torch.linspace(0.5, 1.5, value.numel())).square().sum().add(1).log()
            for number, value in enumerate(values)
        ),
        torch.zeros(()),
    )


def asked(data: Any, values: Sequence[Tensor]) -> tuple[Tensor, dict[str, float]]:
    loss = uneven(values)
    return loss, {"mine": float(loss.detach())}


def wanted(held: LiveModel, loss: Tensor) -> dict[str, Tensor]:
    parameters = dict(held.trained)
    if held.projection is not None:
        parameters |= {f"projection.{name}": value for name, value in held.projection.named_parameters()}
    grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: grad for name, grad in zip(parameters, grads, strict=True) if grad is not None and grad.any()}


def agree(held: LiveModel, expected: dict[str, Tensor]) -> None:
    """Every gradient that autograd finds is what the trainer holds, and there is a good number of them."""
    parameters = dict(held.trained)
    if held.projection is not None:
        parameters |= {f"projection.{name}": value for name, value in held.projection.named_parameters()}
    assert len(expected) >= 4
    for name, grad in expected.items():
        found = parameters[name].grad
        assert found is not None, name
        torch.testing.assert_close(found, grad, rtol=1e-3, atol=1e-4 * float(grad.abs().max()))


@pytest.mark.parametrize("rank", [0, 4])
def test_a_loss_of_the_callers_has_the_gradients_of_autograd(connect: Open, rank: int) -> None:
    client, held = connect(rank)
    values = logprobs(held)
    expected, loss = wanted(held, uneven(values)), float(uneven(values).detach())
    seen: list[list[Tensor]] = []

    def mine(sent: Any, given: Sequence[Tensor]) -> tuple[Tensor, dict[str, float]]:
        seen.append([value.detach() for value in given])
        return asked(sent, given)

    result = client.forward_backward_custom(data(targets=True), mine).result()
    assert result.metrics["mine"] == pytest.approx(loss, rel=1e-4)
    for found, value in zip(seen[0], values, strict=True):
        torch.testing.assert_close(found, value.detach(), rtol=1e-4, atol=1e-4)
    agree(held, expected)
    before = {name: value.detach().clone() for name, value in held.trained.items()}
    client.optim_step(types.AdamParams(learning_rate=0.01)).result()
    name = max(expected, key=lambda name: float(expected[name].abs().max()) if name in before else 0.0)
    at = expected[name].abs().argmax()
    moved = (held.trained[name].detach() - before[name]).flatten()[at]
    assert float(moved) == pytest.approx(-0.01 * float(expected[name].flatten()[at].sign()), rel=1e-2)


@pytest.mark.parametrize(
    ("output", "pooling", "reference", "more"),
    [
        ("embedding", "mean", mean, {}),
        ("embedding", "last", last, {}),
        ("cos_similarity_matrix", "mean", similarities, {}),
        ("projection", "mean", projections, {"projection_head_dim": WIDTH}),
    ],
)
@pytest.mark.parametrize("rank", [0, 4])
def test_a_loss_over_another_output_has_the_gradients_of_autograd(
    connect: Open,
    rank: int,
    output: Any,
    pooling: Any,
    reference: Callable[[LiveModel], list[Tensor]],
    more: dict[str, int],
) -> None:
    client, held = connect(rank, **more)
    values = reference(held)
    expected, loss = wanted(held, uneven(values)), float(uneven(values).detach())
    result = client.forward_backward_custom(data(), asked, output=output, pooling=pooling).result()
    assert result.metrics["mine"] == pytest.approx(loss, rel=1e-4)
    agree(held, expected)


def test_projections_come_back_by_token(connect: Open) -> None:
    client, held = connect(projection_head_dim=WIDTH)
    outputs = client.forward_projection(data()).result().loss_fn_outputs
    for found, value in zip(outputs, projections(held), strict=True):
        tensor = torch.tensor(found["projection"].data).reshape(found["projection"].shape or [])
        torch.testing.assert_close(tensor, value.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("rank", [0, 4])
def test_the_contrastive_loss_has_the_gradients_of_autograd(connect: Open, rank: int, pooling: Any) -> None:
    client, held = connect(rank)
    loss = contrast({"mean": mean, "last": last}[pooling](held))
    expected = wanted(held, loss)
    result = client.forward_backward_contrastive(data(), num_queries=2, temperature=0.5, pooling=pooling).result()
    assert result.metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    agree(held, expected)
