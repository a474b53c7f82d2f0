"""forward, forward_backward and optim_step: chunking, accumulation, AdamW to the bit, and what errors leave behind."""

import math
from typing import Any

import pytest
import torch

from emulator.backend import BackendError, BaseModel, LoraSpec, ModelSpec
from ftsim.compute.execution import Execution
from ftsim.compute.trainer import head, losses
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import ADAM, BASE, VOCABULARY, Start, batch, datum, gradients, same, tensor, weights

LENGTHS = (5, 31, 3, 17, 9, 9, 24, 1)


def _run(trainer: TorchTrainer, steps: int = 3, first: int = 0) -> None:
    for step in range(first, first + steps):
        trainer.forward_backward("m", batch(seed=step))
        trainer.optim_step("m", ADAM, "num_loss_tokens")


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_gradient_does_not_depend_on_micro_batches_nor_on_requests(start: Start, name: str) -> None:
    request = batch(name, LENGTHS)
    whole, small, split = start("dense"), start("dense", micro_batch_tokens=20), start("dense")
    answer = whole.forward_backward("m", request)
    others = [small.forward_backward("m", request)]
    parts = [split.forward_backward("m", request | {"data": request["data"][i : i + 3]}) for i in (0, 3, 6)]
    others.append({"loss_fn_outputs": [output for part in parts for output in part["loss_fn_outputs"]]})
    for trainer, other in zip((small, split), others, strict=True):
        held, reference = trainer._model("m"), whole._model("m")
        assert (held.loss_tokens, held.loss_sequences) == (reference.loss_tokens, reference.loss_sequences)
        for key, grad in gradients(trainer).items():
            torch.testing.assert_close(grad, gradients(whole)[key], rtol=1e-4, atol=1e-5)
        for mine, theirs in zip(other["loss_fn_outputs"], answer["loss_fn_outputs"], strict=True):
            assert mine["logprobs"]["data"] == pytest.approx(theirs["logprobs"]["data"], abs=1e-5)


def test_outputs_come_in_request_order_and_target_shape(start: Start) -> None:
    request = batch(lengths=LENGTHS)
    answer = start("dense", micro_batch_tokens=16).forward("m", request)
    assert [output["logprobs"]["shape"] for output in answer["loss_fn_outputs"]] == [[n] for n in LENGTHS]
    assert answer["loss_fn_output_type"] == "ArrayRecord"
    assert set(answer["metrics"]) == {"loss:sum"}
    alone = start("dense").forward("m", request | {"data": [request["data"][3]]})
    assert alone["loss_fn_outputs"][0]["logprobs"]["data"] == pytest.approx(
        answer["loss_fn_outputs"][3]["logprobs"]["data"], abs=1e-5
    )


def test_top_k_is_descending_and_agrees_with_the_target(start: Start) -> None:
    trainer = start("dense")
    best = trainer.forward("m", batch(lengths=(6,), top_k=4))["loss_fn_outputs"][0]
    assert best["top_k_indices"]["shape"] == best["top_k_logprobs"]["shape"] == [6, 4]
    rows = torch.tensor(best["top_k_logprobs"]["data"]).reshape(6, 4)
    assert bool((rows[:, :-1] >= rows[:, 1:]).all())
    tokens = batch(lengths=(6,))["data"][0]["model_input"]["chunks"][0]["tokens"]
    picked = [best["top_k_indices"]["data"][i * 4] for i in range(6)]
    again = trainer.forward("m", {"data": [datum(tokens, picked)], "loss_fn": "cross_entropy"})
    assert again["loss_fn_outputs"][0]["logprobs"]["data"] == rows[:, 0].tolist()


@pytest.mark.parametrize("top_k", [-1, VOCABULARY + 1, True, "3"])
def test_a_senseless_top_k_is_the_users_error(start: Start, top_k: Any) -> None:
    with pytest.raises(BackendError, match="top_k"):
        start("dense").forward("m", batch(top_k=top_k))


def test_an_impossible_log_probability_is_a_finite_number(start: Start) -> None:
    trainer = start("untied")
    held = trainer._model("m")
    with torch.no_grad():
        held.bare.get_output_embeddings().weight[9] = -1e32
        held.bare.get_output_embeddings().weight[8] = 1e32
    answer = trainer.forward("m", {"data": [datum([1, 2], [8, 9])], "loss_fn": "cross_entropy"})
    assert all(math.isfinite(value) for value in answer["loss_fn_outputs"][0]["logprobs"]["data"])


def test_a_forward_touches_nothing(start: Start) -> None:
    quiet, busy = start("dense"), start("dense")
    for trainer in (quiet, busy):
        trainer.forward_backward("m", batch())
        if trainer is busy:
            trainer.forward("m", batch(seed=5, top_k=2))
        trainer.optim_step("m", ADAM, None)
    assert same(weights(quiet), weights(busy))


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_two_runs_of_one_program_give_the_same_bits(start: Start, kind: str, rank: int) -> None:
    runs = [start(kind, rank, seed=3) for _ in range(2)]
    for trainer in runs:
        _run(trainer)
    assert same(weights(runs[0]), weights(runs[1]))


def test_another_seed_is_another_adapter(start: Start) -> None:
    assert same(weights(start("dense", 4, seed=1)), weights(start("dense", 4, seed=1)))
    assert not same(weights(start("dense", 4, seed=1)), weights(start("dense", 4, seed=2)))


@pytest.mark.parametrize(
    ("flags", "modules"),
    [
        ({"train_mlp": False, "train_unembed": False}, {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ({"train_attn": False, "train_unembed": False}, {"gate_proj", "up_proj", "down_proj"}),
        ({"train_attn": False, "train_mlp": False}, {"lm_head"}),
    ],
)
def test_lora_sits_where_it_was_asked_to(start: Start, flags: dict[str, bool], modules: set[str]) -> None:
    names = weights(start("untied", 2, lora=flags))
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names} == modules


def test_lora_of_a_mixture_of_experts_trains_the_experts(start: Start) -> None:
    trainer = start("moe", 2, lora={"train_attn": False, "train_unembed": False})
    before = weights(trainer)
    _run(trainer, 2)
    assert before
    assert all(".experts." in name for name in before)
    assert all(not torch.equal(before[name], value) for name, value in weights(trainer).items())


def test_nora_columns_have_length_one_over_the_rank(start: Start) -> None:
    for name, value in weights(start("dense", 4, lora={"init_method": "nora"})).items():
        if "lora_A" in name:
            torch.testing.assert_close(value.norm(dim=0), torch.ones(value.shape[1]))


@pytest.mark.parametrize(
    "lora", [{"init_method": "magic"}, {"train_attn": False, "train_mlp": False, "train_unembed": False}]
)
def test_lora_settings_without_meaning_are_refused(start: Start, lora: dict[str, Any]) -> None:
    with pytest.raises(BackendError):
        start("dense", 2, lora=lora)


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("normalization", [None, "none", "num_loss_tokens", "num_sequences"])
def test_a_step_is_torchs_adamw_on_the_normalised_gradient(
    start: Start, normalization: str | None, clip: float
) -> None:
    trainer = start("dense")
    held = trainer._model("m")
    mine = {name: value.detach().clone().requires_grad_() for name, value in held.trained.items()}
    reference = torch.optim.AdamW(mine.values(), lr=1e-2, betas=(0.9, 0.95), eps=1e-12, weight_decay=0.01)
    zero = datum([1, 2, 3], [4, 5, 6], weights=[0.0, 0.0, 0.0])
    for seed in range(3):
        tokens = sequences = 0
        for part in range(2):
            request = batch(seed=10 * seed + part)
            tokens += sum(len(one["loss_fn_inputs"]["weights"]["data"]) for one in request["data"])
            sequences += len(request["data"])
            trainer.forward_backward("m", request | {"data": [*request["data"], zero]})
        divisor = {"num_loss_tokens": tokens, "num_sequences": sequences}.get(str(normalization), 1)
        for name, grad in gradients(trainer).items():
            mine[name].grad = grad / divisor
        if clip:
            torch.nn.utils.clip_grad_norm_(mine.values(), clip)
        reference.step()
        metrics = trainer.optim_step("m", ADAM | {"grad_clip_norm": clip}, normalization)
        assert (metrics["num_loss_tokens"], metrics["num_sequences"]) == (tokens, sequences)
        assert (metrics["step"], metrics["lr"]) == (seed + 1, 1e-2)
        assert same(weights(trainer), {name: value.detach() for name, value in mine.items()})


def test_a_clipped_token_has_no_gradient_and_is_not_counted(start: Start) -> None:
    trainer = start("dense")
    request = {"data": [datum([1, 2, 3], [4, 5, 6], logprobs=[-60.0, -7.0, -7.0], advantages=[1.0, 1.0, 0.0])]}
    trainer.forward_backward("m", request | {"loss_fn": "ppo", "loss_fn_config": {"clip_high_threshold": 1000.0}})
    metrics = trainer.optim_step("m", ADAM, "num_loss_tokens")
    assert (metrics["num_loss_tokens"], metrics["num_sequences"]) == (1, 1)


def test_a_step_without_gradients_is_a_step_on_zero_gradients(start: Start) -> None:
    trainer = start("dense")
    _run(trainer, 1)
    before = weights(trainer)
    metrics = trainer.optim_step("m", ADAM, "num_sequences")
    assert metrics["grad_norm"] == 0
    assert metrics["step"] == 2
    assert not same(before, weights(trainer))  # momentum and decay go on
    assert all(bool(value.isfinite().all()) for value in weights(trainer).values())


@pytest.mark.parametrize(
    ("mode", "present", "absent"),
    [
        (None, {"grad_norm"}, {"grad_norm_rms"}),
        ("off", {"lr", "step"}, {"grad_norm", "grad_norm_post_clip"}),
        (False, {"lr", "step"}, {"grad_norm"}),
        (True, {"grad_norm", "grad_norm_rms", "grad_norm_post_clip"}, {"grad_norm_mlp"}),
        ("detailed", {"grad_norm_rms", "grad_norm_attn", "grad_norm_mlp", "grad_norm_embed", "grad_norm_norm"}, set()),
    ],
)
def test_gradient_norms_are_reported_as_asked(start: Start, mode: Any, present: set[str], absent: set[str]) -> None:
    trainer = start("dense")
    trainer.forward_backward("m", batch())
    total = torch.stack([grad.square().sum() for grad in gradients(trainer).values()]).sum().sqrt()
    metrics = trainer.optim_step("m", ADAM | {"emit_grad_norm_metrics": mode, "grad_clip_norm": 0.25}, None)
    assert present <= set(metrics)
    assert not absent & set(metrics)
    if "grad_norm" in metrics:
        assert metrics["grad_norm"] == pytest.approx(float(total), rel=1e-5)
        assert metrics["grad_norm_post_clip"] == pytest.approx(0.25, rel=1e-4)
    if mode == "detailed":
        parts = [value for name, value in metrics.items() if name.startswith("grad_norm_") and name[10:] in BUCKETS]
        assert math.sqrt(sum(part**2 for part in parts)) == pytest.approx(metrics["grad_norm"], rel=1e-5)


BUCKETS = ("embed", "attn", "experts", "mlp", "norm", "lm_head", "projection", "other")


@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate": -1},
        {"learning_rate": math.nan},
        {"beta1": 1.0},
        {"eps": 0.0},
        {"weight_decay": "0.1"},
        {"grad_clip_norm": -1},
        {"momentum": 0.9},
        {"emit_grad_norm_metrics": "loud"},
        {"emit_grad_norm_metrics": []},
    ],
)
def test_a_refused_step_keeps_the_gradients(start: Start, params: dict[str, Any]) -> None:
    refused, plain = start("dense"), start("dense")
    for trainer in (refused, plain):
        trainer.forward_backward("m", batch())
    with pytest.raises(BackendError):
        refused.optim_step("m", ADAM | params, "num_loss_tokens")
    with pytest.raises(BackendError, match="expected one of"):
        refused.optim_step("m", ADAM, "per_token")
    for trainer in (refused, plain):
        trainer.optim_step("m", ADAM, "num_loss_tokens")
    assert same(weights(refused), weights(plain))


def test_settings_left_out_are_the_clients_defaults(start: Start) -> None:
    left, right = start("dense"), start("dense")
    defaults = {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12, "weight_decay": 0.0}
    for trainer, params in ((left, {}), (right, defaults)):
        trainer.forward_backward("m", batch())
        trainer.optim_step("m", params, None)
    assert same(weights(left), weights(right))


def _with(one: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    return one | {"loss_fn_inputs": {k: v for k, v in (one["loss_fn_inputs"] | inputs).items() if v is not None}}


GOOD = datum([1, 2, 3], [4, 5, 6], weights=[1.0, 1.0, 1.0])
IMAGE = {"type": "image", "data": "aGk=", "format": "png"}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (_with(GOOD, target_tokens=None), "missing required field 'target_tokens'"),
        (_with(GOOD, target_tokens=tensor([4, 5], "int64")), "length 2"),
        (_with(GOOD, weights=tensor([1.0, 1.0])), "length 2"),
        (_with(GOOD, weights=tensor([[1.0], [1.0], [1.0]])), "has shape"),
        (_with(GOOD, target_tokens=tensor([4, 5, VOCABULARY], "int64")), "outside the vocabulary"),
        (_with(GOOD, target_tokens=tensor([4, 5, -100], "int64")), "outside the vocabulary"),
        (_with(GOOD, target_tokens=tensor([4, 5, 1.5], "int64")), "whole numbers"),
        (datum([1, VOCABULARY, 3], [4, 5, 6]), "outside the vocabulary"),
        (_with(GOOD, weights={"data": [1.0, math.nan, 1.0]}), "NaN or infinity"),
        (_with(GOOD, weights={"data": [1.0, 1e39, 1.0]}), "NaN or infinity"),
        (_with(GOOD, weights={"data": [1.0, None, 1.0]}), "flat list of numbers"),
        (_with(GOOD, weights={"data": ["1", "1", "1"]}), "flat list of numbers"),
        (_with(GOOD, weights={"data": [[1.0], [1.0, 2.0]]}), "flat list of numbers"),
        (_with(GOOD, weights={"data": [1.0, 1.0, 1.0], "shape": [2, 2]}), "its shape is"),
        (_with(GOOD, weights={"data": [1.0, 1.0, 1.0], "shape": [3, "x"]}), "expected one or two"),
        (_with(GOOD, weights=[1.0, 1.0, 1.0]), "must be a tensor"),
        (_with(GOOD, rewards=tensor([1.0, 1.0, 1.0])), "known ones are"),
        (datum(list(range(300)), list(range(300))), "longer than the context of 256"),
        (datum([], []), "empty"),
        (GOOD | {"model_input": {"chunks": [IMAGE]}}, "this model reads text alone"),
        (GOOD | {"model_input": {"chunks": []}}, "at least one chunk"),
        (GOOD | {"model_input": None}, "needs a 'model_input'"),
        (7, "needs a 'model_input'"),
        (
            _with(
                GOOD, weights={"data": [1.0], "shape": [3, 1], "sparse_crow_indices": [0, 1], "sparse_col_indices": [0]}
            ),
            "row pointers",
        ),
        (
            _with(
                GOOD,
                weights={
                    "data": [1.0],
                    "shape": [3, 1],
                    "sparse_crow_indices": [0, 1, 1, 1],
                    "sparse_col_indices": [4],
                },
            ),
            "column indices",
        ),
        (_with(GOOD, weights={"data": [1.0], "sparse_crow_indices": [0, 1]}), "two-dimensional shape"),
    ],
)
def test_a_bad_datum_is_named_and_changes_nothing(start: Start, wrong: Any, reason: str) -> None:
    trainer = start("dense")
    trainer.forward_backward("m", batch())
    before = gradients(trainer)
    with pytest.raises(BackendError, match=reason) as error:
        trainer.forward_backward("m", {"data": [GOOD, wrong], "loss_fn": "cross_entropy"})
    assert error.value.category == "user"
    assert "datum 1" in error.value.message
    assert same(before, gradients(trainer))
    assert trainer.optim_step("m", ADAM, "num_sequences")["num_sequences"] == 3


@pytest.mark.parametrize("data", [None, [], {}])
def test_a_request_without_datums_is_refused(start: Start, data: Any) -> None:
    with pytest.raises(BackendError, match="at least one datum"):
        start("dense").forward("m", {"data": data, "loss_fn": "cross_entropy"})


def test_a_failure_in_the_middle_of_a_request_changes_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = start("dense", micro_batch_tokens=8)
    trainer.forward_backward("m", batch())
    before, counted = gradients(trainer), trainer._model("m").loss_tokens
    calls: list[int] = []

    def out_of_memory(*_: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return original(*_)

    original = head.differentiate
    monkeypatch.setattr(head, "differentiate", out_of_memory)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.forward_backward("m", batch(lengths=LENGTHS))
    assert same(before, gradients(trainer))
    assert trainer._model("m").loss_tokens == counted


def test_diverged_weights_are_reported_and_gradients_survive(start: Start) -> None:
    trainer = start("dense")
    trainer.forward_backward("m", batch())
    before = gradients(trainer)
    with torch.no_grad():
        trainer._model("m").bare.get_input_embeddings().weight.mul_(math.nan)
    for operation in (trainer.forward, trainer.forward_backward):
        with pytest.raises(BackendError, match="diverged"):
            operation("m", batch())
    assert same(before, gradients(trainer))


def test_a_gradient_that_overflows_is_not_accumulated(start: Start) -> None:
    trainer = start("dense")
    huge = {"data": [datum([1, 2], [3, 4], weights=[3.4e38, 3.4e38])], "loss_fn": "cross_entropy"}
    with pytest.raises(BackendError, match="NaN or infinite"):
        trainer.forward_backward("m", huge)
    assert all(bool(grad.isfinite().all()) for grad in gradients(trainer).values())


def test_a_norm_that_overflows_drops_the_gradients(start: Start) -> None:
    trainer = start("dense")
    before = weights(trainer)
    trainer.forward_backward("m", {"data": [datum([1, 2], [3, 4], weights=[1e35, 1e35])], "loss_fn": "cross_entropy"})
    with pytest.raises(BackendError, match="were dropped"):
        trainer.optim_step("m", ADAM, None)
    assert same(before, weights(trainer))
    _run(trainer, 1)
    assert not same(before, weights(trainer))


def test_a_reference_model_runs_forward_and_nothing_else(start: Start) -> None:
    trainer, policy = start("dense", base_only=True), start("dense")
    assert trainer.forward("m", batch()) == policy.forward("m", batch())
    for operation in (
        lambda: trainer.forward_backward("m", batch()),
        lambda: trainer.optim_step("m", ADAM, None),
    ):
        with pytest.raises(BackendError, match="base_only"):
            operation()


def test_several_models_live_on_one_trainer(folders: dict[str, Any]) -> None:
    trainer = TorchTrainer(lambda base: folders["dense"], lora_rank=8)
    trainer.create_model(ModelSpec("policy", BASE, LoraSpec(4)))
    trainer.create_model(ModelSpec("reference", BASE, base_only=True))
    before = trainer.forward("reference", batch())
    trainer.forward_backward("policy", batch())
    trainer.optim_step("policy", ADAM, None)
    assert trainer.forward("reference", batch()) == before
    assert trainer.forward("policy", batch()) != before
    assert trainer.info("policy").lora_rank == 4
    assert trainer.info("reference").lora_rank == 0
    trainer.unload_model("policy")
    trainer.unload_model("policy")
    with pytest.raises(BackendError, match="not loaded"):
        trainer.forward("policy", batch())
    trainer.close()


@pytest.mark.parametrize(
    ("allowed", "asked", "reason"),
    [(0, 4, "initialized without LoRA config"), (8, 16, "between 1 and 8"), (8, 0, "between")],
)
def test_a_model_has_a_rank_its_trainer_allows(folders: dict[str, Any], allowed: int, asked: int, reason: str) -> None:
    trainer = TorchTrainer(lambda base: folders["dense"], lora_rank=allowed)
    with pytest.raises(BackendError, match=reason):
        trainer.create_model(ModelSpec("m", BaseModel("x"), LoraSpec(asked)))


@pytest.mark.parametrize("rank", [0, 4])
def test_bfloat16_trains(start: Start, rank: int) -> None:
    trainer = start("dense", rank, how=Execution("bfloat16"))
    request = batch(lengths=(12, 12))
    first = trainer.forward_backward("m", request)["metrics"]["loss:sum"]
    for _ in range(3):
        trainer.optim_step("m", ADAM, "num_loss_tokens")
        last = trainer.forward_backward("m", request)["metrics"]["loss:sum"]
    assert last < first
    plain = start("dense", rank).forward("m", request)["loss_fn_outputs"][0]["logprobs"]["data"]
    start_again = start("dense", rank, how=Execution("bfloat16")).forward("m", request)
    assert start_again["loss_fn_outputs"][0]["logprobs"]["data"] == pytest.approx(plain, abs=0.1)


MASKED = _with(GOOD, weights=tensor([0.5, 0.0, 2.0]))


@pytest.mark.parametrize("name", ["mask", "loss_mask"])
def test_a_mask_beside_the_weights_changes_nothing_or_is_refused(start: Start, name: str) -> None:
    trainer = start("dense")
    plain = trainer.forward_backward("m", {"data": [MASKED], "loss_fn": "cross_entropy"})
    before = gradients(trainer)
    trainer.optim_step("m", ADAM | {"learning_rate": 0.0}, None)
    for mask in ([1.0, 1.0, 1.0], [1.0, 0.0, 1.0]):
        datums = [_with(MASKED, **{name: tensor(mask)})]
        assert trainer.forward_backward("m", {"data": datums, "loss_fn": "cross_entropy"}) == plain
        assert same(before, gradients(trainer))
        trainer.optim_step("m", ADAM | {"learning_rate": 0.0}, None)
    for wrong, reason in (([1.0, 1.0, 0.0], "leaves out positions"), ([[1.0]] * 3, "has shape"), ([1.0], "length 1")):
        datums = [MASKED, _with(MASKED, **{name: tensor(wrong)})]
        with pytest.raises(BackendError, match=f"datum 1: '{name}' .*{reason}"):
            trainer.forward_backward("m", {"data": datums, "loss_fn": "cross_entropy"})
    without = {"data": [_with(MASKED, weights=None, **{name: tensor([1.0, 0.0, 1.0])})], "loss_fn": "cross_entropy"}
    with pytest.raises(BackendError, match="leaves out positions that 'weights' trains"):
        trainer.forward_backward("m", without)
    policy = _with(GOOD, logprobs=tensor([-7.0] * 3), advantages=tensor([1.0, 0.0, 1.0]), **{name: tensor([1, 0, 1])})
    trainer.forward_backward("m", {"data": [policy], "loss_fn": "ppo"})
    policy = _with(policy, advantages=tensor([0.0, 1.0, 1.0]))
    with pytest.raises(BackendError, match="that 'advantages' trains"):
        trainer.forward_backward("m", {"data": [policy], "loss_fn": "ppo"})


def test_a_forward_takes_tensors_that_its_loss_does_not_use(start: Start) -> None:
    trainer = start("dense")
    plain = trainer.forward("m", {"data": [GOOD], "loss_fn": "cross_entropy"})
    more = _with(GOOD, loss_mask=tensor([0.0, 1.0, 1.0]), rewards=tensor([3.0]), advantages=tensor([1.0, 1.0, 1.0]))
    assert trainer.forward("m", {"data": [more], "loss_fn": "cross_entropy"}) == plain
    assert (
        trainer.forward("m", {"data": [more, GOOD], "loss_fn": "cross_entropy"})["loss_fn_outputs"][1:]
        == (plain["loss_fn_outputs"])
    )
    broken = _with(GOOD, rewards={"data": [1.0, 2.0], "shape": [3]})
    with pytest.raises(BackendError, match="datum 0: 'rewards' holds 2 numbers"):
        trainer.forward("m", {"data": [broken], "loss_fn": "cross_entropy"})
