"""Models of our own for the stand-ins: the numbers, names and files of transformers, which stays the judge."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from emulator.backend import BackendError
from ftsim.compute.checkpoints.names import tensors_of
from ftsim.compute.checkpoints.source import open_model
from ftsim.compute.models.routing import Routers
from ftsim.compute.sampler.forward import Forward
from ftsim.compute.sampler.precision import widen
from ftsim.compute.standins.config import ARCHITECTURES
from ftsim.compute.standins.model import StandIn
from tests.compute.standins.conftest import Opened

SHAPES = ((1, 16), (3, 90))
FolderOf = Callable[[str], Path]


def tokens(*shape: int) -> Tensor:
    return torch.randint(0, 2048, shape, generator=torch.Generator().manual_seed(3))


def furthest(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_the_model_of_transformers(opened: Opened, architecture: str) -> None:
    mine, theirs = opened(architecture), opened(architecture, through_library=True)
    assert isinstance(mine, StandIn)
    assert isinstance(theirs, PreTrainedModel)
    assert [name for name, _ in mine.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    for shape in SHAPES:
        ids = tokens(*shape)
        for model in (mine, theirs):
            model.zero_grad()
            scores = model(input_ids=ids, use_cache=False).logits
            torch.autograd.backward(cross_entropy(scores[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))
        with torch.no_grad():
            ours, judge = (model(input_ids=ids, use_cache=False).logits for model in (mine, theirs))
        assert furthest(ours, judge) <= (0 if architecture == "qwen3" else 1e-6 * float(judge.abs().max()))
        gradients = dict(theirs.named_parameters())
        for name, value in mine.named_parameters():
            assert value.grad is not None, name
            assert furthest(value.grad, gradients[name].grad) <= 1e-5, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_wide_prompts_padded_rows_and_steps_are_those_of_transformers(opened: Opened, architecture: str) -> None:
    """In float64 nothing hides: what a sampler computes is equal to 1e-6, whatever the rows."""
    mine, theirs = (Forward(widen(opened(architecture, through_library=library))) for library in (False, True))
    prompts = [tokens(5).tolist(), tokens(23).tolist()]
    with torch.inference_mode():
        assert theirs.together
        assert mine.together
        (batch, ours), (other, judge) = mine.prefill(prompts), theirs.prefill(prompts)
        assert ours.dtype == torch.float64
        assert furthest(ours, judge) < 1e-6
        for token in (7, 9, 11):
            drawn = torch.tensor([token, token + 1])
            assert furthest(mine.step(batch, drawn), theirs.step(other, drawn)) < 1e-6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_are_computed_together(opened: Opened, architecture: str) -> None:
    """It is taken for granted of a stand-in: padded and merged rows have the logits of lonely ones."""
    with torch.inference_mode():
        assert Forward(widen(opened(architecture))).trial() == ""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prompt_in_pieces_is_the_prompt(opened: Opened, architecture: str) -> None:
    model, ids = widen(opened(architecture)), tokens(2, 40)
    with torch.inference_mode():
        whole = model(input_ids=ids, use_cache=True).logits
        first = model(input_ids=ids[:, :15], use_cache=True)
        rest = model(input_ids=ids[:, 15:], use_cache=True, past_key_values=first.past_key_values)
    assert furthest(torch.cat((first.logits, rest.logits), dim=1), whole) < 1e-9
    assert rest.past_key_values.get_seq_length() == 40


def test_positions_are_chosen_as_transformers_chooses_them(opened: Opened) -> None:
    mine, theirs, ids = opened("qwen3"), opened("qwen3", through_library=True), tokens(1, 12)
    for kept in (0, 1, 5, torch.tensor([2, 7])):
        found = [model(input_ids=ids, logits_to_keep=kept, use_cache=False).logits for model in (mine, theirs)]
        assert torch.equal(*found)


@pytest.mark.parametrize("architecture", ["qwen3_moe", "glm4_moe", "deepseek_v3"])
def test_experts_are_chosen_noted_and_replayed_as_in_transformers(opened: Opened, architecture: str) -> None:
    mine, theirs, ids = opened(architecture), opened(architecture, through_library=True), tokens(1, 20)
    found = []
    for model in (mine, theirs):
        routers = Routers(model)
        with torch.no_grad(), routers.noted() as choices:
            model(input_ids=ids, use_cache=False)
        routes = torch.stack(choices, dim=1)
        turned = (routes + 1) % 4
        with torch.no_grad(), routers.replayed(turned):
            logits = model(input_ids=ids, use_cache=False).logits
        found.append((routers.shape, routes, logits))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1].sort(-1).values, found[1][1].sort(-1).values)
    assert furthest(found[0][2], found[1][2]) < 1e-6 * float(found[1][2].abs().max())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_names_on_disk_are_those_of_transformers(opened: Opened, folder_of: FolderOf, architecture: str) -> None:
    ours, judge = tensors_of(opened(architecture)), tensors_of(opened(architecture, through_library=True))
    assert ours.keys() == judge.keys() == load_file(folder_of(architecture) / "model.safetensors").keys()
    assert all(torch.equal(ours[name], judge[name]) for name in judge)


def changed(folder: Path, target: Path, **settings: Any) -> Path:
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_bytes()) | settings
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize(
    ("settings", "ours"),
    [
        ({"max_position_embeddings": 77, "eos_token_id": 3}, True),
        ({"rms_norm_eps": 1e-5}, False),
        ({"pad_token_id": 3}, False),
        ({"sliding_window": 8}, False),
        ({"attention_dropout": 0.1}, False),
        ({"something_new": 1}, False),
    ],
)
def test_only_a_folder_with_the_very_settings_is_ours(
    folder_of: FolderOf, tmp_path: Path, settings: dict[str, Any], ours: bool
) -> None:
    folder = changed(folder_of("qwen3"), tmp_path / "folder", **settings)
    assert isinstance(open_model(folder, torch.float32), StandIn) is ours


def test_half_precision_is_left_to_transformers(opened: Opened) -> None:
    """It rounds between its steps, in places of its own."""
    assert isinstance(opened("qwen3", torch.bfloat16), PreTrainedModel)


@pytest.mark.parametrize("harm", ["lost", "shape", "torn"])
def test_what_is_not_whole_is_refused_in_the_words_for_any_folder(
    folder_of: FolderOf, tmp_path: Path, harm: str
) -> None:
    folder = changed(folder_of("qwen3_moe"), tmp_path / "folder")
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.experts.2.up_proj.weight"
    weights[name] = weights[name][:-1]
    if harm == "lost":
        del weights["model.norm.weight"], weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    if harm == "torn":
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(BackendError, match=r"folder does not (open as a model|hold the weights of its architecture)"):
        open_model(folder, torch.float32)


TRAINS = """
import sys, tempfile
from pathlib import Path
from emulator.backend import BaseModel, GenerateRequest, LoraSpec, ModelSpec
from ftsim.compute.backend import TorchBackend
backend, base = TorchBackend(Path(tempfile.mkdtemp())), BaseModel("accounts/fireworks/models/qwen3-8b")
datum = {"model_input": {"chunks": [{"tokens": [1, 2, 3]}]},
         "loss_fn_inputs": {"target_tokens": {"data": [2, 3, 4], "dtype": "int64", "shape": [3]}}}
trainer = backend.open_trainer(base, lora_rank=4, max_context_length=64)
trainer.create_model(ModelSpec("m", base, LoraSpec(4)))
trainer.forward_backward("m", {"data": [datum], "loss_fn": "cross_entropy"})
trainer.optim_step("m", {"learning_rate": 1e-3}, None)
state, adapter = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
trainer.save_state("m", state)
trainer.load_state("m", state, optimizer=True)
trainer.save_sampler("m", adapter, identity="one")
assert backend.describe(adapter, base).lora_rank == 4
replica = backend.open_replica(base, max_context_length=64)
replica.load_adapter(adapter, "one")
assert replica.decode([token.token_id for token in replica.generate(GenerateRequest((5, 6), 4)).result().tokens])
replica.close()
heavy = "transformers", "peft", "accelerate", "sympy", "torch._dynamo", "torch.distributed.checkpoint"
print([name for name in heavy if name in sys.modules])
"""


def test_training_saving_and_sampling_a_stand_in_needs_torch_alone() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
