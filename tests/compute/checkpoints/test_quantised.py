"""Merged exports with quantised experts: what is written, how far it is from the plain weights, who can open it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fireworks_prequant
import httpx
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from emulator.backend import BackendError, BaseModel, GenerateRequest, LoraSpec, ModelSpec
from emulator.core.kinds import CheckpointKind, detect
from emulator.platform.deployments.snapshot_checks import config_fault, weight_fault
from ftsim.compute.checkpoints import quantised
from ftsim.compute.checkpoints.source import open_model
from ftsim.compute.models.describe import describe
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import ADAM, datum
from tests.zoo import folders

TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]
EXPERT = "experts"
Made = Callable[[str], tuple[Path, Path, Path]]


def trainer_on(folder: Path, rank: int) -> TorchTrainer:
    trainer = TorchTrainer(lambda _: folder, lora_rank=rank)
    base = BaseModel("accounts/fireworks/models/tiny")
    trainer.create_model(ModelSpec("m", base, LoraSpec(rank, seed=0) if rank else None))
    trainer.forward_backward("m", {"data": [datum(TOKENS, TOKENS[::-1])], "loss_fn": "cross_entropy"})
    trainer.optim_step("m", ADAM, "num_loss_tokens")
    return trainer


def save(trainer: TorchTrainer, folder: Path, precision: str) -> Path:
    folder.mkdir()
    trainer.save_sampler("m", folder, identity=folder.name, checkpoint_type="merged_base", export_precision=precision)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The base's folder, the merged weights in bfloat16, and the same with experts in fp8."""
    done: dict[str, tuple[Path, Path, Path]] = {}

    def make(name: str) -> tuple[Path, Path, Path]:
        if name not in done:
            place = tmp_path_factory.mktemp(name)
            base = folders.write(name, place / "base")
            trainer = trainer_on(base, 4)
            done[name] = base, save(trainer, place / "bf16", "bf16"), save(trainer, place / "fp8", "fp8_block128")
        return done[name]

    return make


MOE = pytest.mark.parametrize("name", ["qwen3_moe", "deepseek_v3_bf16"])


@MOE
def test_experts_are_in_float8_with_a_scale_for_each_block_and_nothing_else_is(made: Made, name: str) -> None:
    _, plain, quantised_folder = made(name)
    tensors, before = (load_file(folder / "model.safetensors") for folder in (quantised_folder, plain))
    experts = {name for name in before if ".mlp.experts." in name}
    assert experts
    assert {tensors[name].dtype for name in experts} == {torch.float8_e4m3fn}
    assert {tensors[f"{name}_scale_inv"].dtype for name in experts} == {torch.float32}
    assert tensors.keys() == before.keys() | {f"{name}_scale_inv" for name in experts}
    assert all(torch.equal(tensors[name], before[name]) for name in before.keys() - experts)
    config = json.loads((quantised_folder / "config.json").read_bytes())
    assert config["quantization_config"] == fireworks_prequant.quantization_config("mxfp8_bw128")
    assert config["dtype"] == "bfloat16"


@MOE
def test_no_weight_is_further_off_than_the_stated_bound(made: Made, name: str) -> None:
    """16 of 448 parts of the largest weight of a block, of which the experts here have one each."""
    _, plain, quantised_folder = made(name)
    right, found = (open_model(folder, torch.float32).state_dict() for folder in (plain, quantised_folder))
    for key, value in right.items():
        if EXPERT in key and value.dim() == 3:
            off = (found[key] - value).abs().amax((1, 2))
            largest = value.abs().amax((1, 2))
            assert bool((off > 0).all())
            assert bool((off <= largest * 16 / 448 * 1.01).all())
        else:
            assert torch.equal(found[key], value)


@torch.no_grad()
def echoed(folder: Path) -> Tensor:
    logits = open_model(folder, torch.float32)(input_ids=torch.tensor([TOKENS])).logits[0, :-1]
    found: Tensor = torch.log_softmax(logits, -1).gather(1, torch.tensor(TOKENS[1:])[:, None])[:, 0]
    return found


@MOE
def test_it_is_a_model_that_is_promoted_hot_loaded_served_and_trained_again(made: Made, name: str) -> None:
    base, plain, folder = made(name)
    assert detect(folder) is CheckpointKind.INFERENCE_BASE
    assert describe(folder).parameter_count == describe(plain).parameter_count
    assert (config_fault(base, folder), weight_fault(folder)) == (None, None)
    replica = TorchReplica(base)
    try:
        replica.load_base(folder, "fp8")
        done = replica.generate(GenerateRequest(TOKENS, max_tokens=0, echo=True)).result(60)
    finally:
        replica.close()
    served = torch.tensor([token.logprob for token in done.prompt_tokens[1:]])
    torch.testing.assert_close(served, echoed(folder), rtol=0, atol=1e-4)
    assert 0 < float((served - echoed(plain)).abs().max()) < 0.5
    trainer_on(folder, 0)


@pytest.mark.parametrize(("precision", "kernel"), [("nvfp4", "triton"), ("mxfp8", "flashinfer")])
def test_a_format_that_needs_a_kernel_is_refused_by_name_without_one(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, kernel: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    base, *_ = made("qwen3_moe")
    with pytest.raises(BackendError, match=rf"'{precision}' .* \(a CUDA device and {kernel}\): use 'fp8_block128'"):
        save(trainer_on(base, 4), tmp_path / "s", precision)
    assert not any((tmp_path / "s").iterdir())


def test_where_a_kernel_is_the_format_is_computed_on_the_device(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def quantize(tensors: dict[str, Tensor], *, fmt: str, device: str) -> dict[str, Tensor]:
        asked.append((fmt, device))
        return tensors

    base, *_ = made("qwen3_moe")
    trainer = trainer_on(base, 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(quantised, "find_spec", lambda name: name)
    monkeypatch.setattr(fireworks_prequant, "quantize_state_dict", quantize)
    folder = save(trainer, tmp_path / "s", "nvfp4")
    assert asked == [("nvfp4", "cuda")]
    assert json.loads((folder / "config.json").read_bytes())["quantization_config"]["quant_method"] == "nvfp4"
    with pytest.raises(BackendError, match="quantised with nvfp4, which needs kernels that are not here"):
        describe(folder)


@pytest.mark.parametrize(
    ("precision", "reason"),
    [
        ("fp8_block128", "quantises the weights of experts alone, and this model has none"),
        ("int4", "unknown export_precision 'int4'; expected one of source, bf16, fp8_block128, mxfp8, nvfp4"),
    ],
)
def test_what_cannot_be_quantised_is_refused(tmp_path: Path, precision: str, reason: str) -> None:
    trainer = trainer_on(folders.write("llama", tmp_path / "llama"), 4)
    with pytest.raises(BackendError, match=reason) as error:
        save(trainer, tmp_path / "s", precision)
    assert error.value.category == "user"


def test_the_light_backend_quantises_nothing() -> None:
    from emulator.light.trainer import LightTrainer

    trainer: Any = LightTrainer([0.0])
    trainer.create_model(ModelSpec("m", BaseModel("accounts/fireworks/models/qwen3-8b"), LoraSpec(4)))
    with pytest.raises(BackendError, match="the light backend has nothing to quantise"):
        trainer.save_sampler("m", Path("s"), identity="s", checkpoint_type="merged_base", export_precision="nvfp4")


@pytest.mark.slow
def test_the_vendors_client_exports_promotes_and_hot_loads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with experts: what is served of the promoted model is the float8 weights', near to the trainer's."""
    from fireworks.training.sdk import DeploymentConfig, DeploymentManager, TrainerJobConfig, TrainerJobManager, types
    from fireworks.training.sdk.client import FiretitanServiceClient

    import ftsim

    base = "accounts/fireworks/models/qwen3-30b-a3b"
    with ftsim.Emulator() as emulator, httpx.Client(base_url=emulator.url, timeout=60) as http:
        for name, value in emulator.env().items():
            monkeypatch.setenv(name, value)
        http.headers["X-Api-Key"] = key = emulator.api_key
        manager = TrainerJobManager(api_key=key, base_url=emulator.url)
        job = manager.create_and_wait(TrainerJobConfig(base_model=base, lora_rank=4, requested_job_id="job"))
        service = FiretitanServiceClient(base_url=job.base_url, api_key=key)
        client = service.create_training_client(base_model=base, lora_rank=4)
        inputs = {
            "target_tokens": types.TensorData(data=TOKENS[1:], dtype="int64", shape=[7]),
            "weights": types.TensorData(data=[1.0] * 7, dtype="float32", shape=[7]),
        }
        batch = [types.Datum(model_input=types.ModelInput.from_ints(TOKENS[:-1]), loss_fn_inputs=inputs)]
        client.forward_backward(batch, "cross_entropy").result()
        client.optim_step(types.AdamParams(learning_rate=1e-3)).result()
        trained = client.forward(batch, "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
        how: dict[str, Any] = {"checkpoint_type": "merged_base", "export_precision": "fp8_block128"}
        saved = client.save_weights_for_sampler_ext("fp8", **how).snapshot_name
        (row,) = [row for row in manager.list_checkpoints("job") if row.get("promotable")]
        manager.promote_checkpoint(name=row["name"], output_model_id="small", base_model=base)
        deployments = DeploymentManager(api_key=key, base_url=emulator.url)
        name = f"accounts/{emulator.account}/rlorTrainerJobs/job"
        deployments.create_or_get(
            DeploymentConfig(deployment_id="d1", base_model=base, hot_load_trainer_job=name, min_replica_count=1)
        )
        deployments.wait_for_ready("d1")
        assert deployments.hotload_and_wait("d1", base, saved)
        for model in (f"accounts/{emulator.account}/models/small", f"accounts/{emulator.account}/deployments/d1"):
            body = {"model": model, "prompt": TOKENS, "max_tokens": 1, "echo": True, "logprobs": 0}
            answer = http.post("/inference/v1/completions", json=body)
            assert answer.status_code == 200, answer.text
            served = answer.json()["choices"][0]["logprobs"]["token_logprobs"][1 : len(TOKENS)]
            far = max(abs(one - other) for one, other in zip(served, trained, strict=True))
            assert 0 < far < 0.3
        service.close()
