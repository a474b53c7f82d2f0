"""Adapters on stand-ins: places, first values, product and files are those of peft."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy

from emulator.backend import BaseModel, LoraSpec, ModelSpec
from ftsim.compute.checkpoints import peft
from ftsim.compute.checkpoints.names import tensors_of
from ftsim.compute.execution import Execution
from ftsim.compute.quiet import quiet
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.compute.standins.adapters import TRAINED, AdaptedStandIn
from ftsim.compute.standins.model import StandIn
from ftsim.compute.trainer import live, lora
from ftsim.compute.trainer.live import LiveModel
from ftsim.compute.trainer.masters import Masters
from tests.compute.standins.conftest import BY_ARCHITECTURE, Opened
from tests.compute.standins.test_models import furthest, tokens

CPU = torch.device("cpu")
FolderOf = Callable[[str], Path]
ASKED = [
    LoraSpec(4, 8.0, seed=7),
    LoraSpec(3, 1.0, train_mlp=False, train_unembed=False),
    LoraSpec(2, 4.0, train_attn=False, init_method="nora"),
]


def built(folder: Path, architecture: str, spec: LoraSpec) -> LiveModel:
    return live.build(ModelSpec("m", BaseModel(BY_ARCHITECTURE[architecture]), spec), folder, CPU, Execution())


def by_peft(mine: LiveModel, model: Any, spec: LoraSpec) -> LiveModel:
    """The same adapters by peft on the model of transformers."""
    wrapped = lora.attach(model, spec).eval()
    trained = {name: value for name, value in wrapped.named_parameters() if value.requires_grad}
    return LiveModel(mine.spec, mine.source, wrapped, None, Masters(trained), mine.how, mine.optimizer, mine.routers)


def moved(one: LiveModel, other: LiveModel) -> None:
    """Give both the same adapters, as if they had been trained."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in one.trained.items():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
            other.trained[name].copy_(value)


@pytest.mark.parametrize("spec", ASKED)
@pytest.mark.parametrize("architecture", TRAINED)
def test_they_are_those_of_peft(
    opened: Opened, folder_of: FolderOf, tmp_path: Path, architecture: str, spec: LoraSpec
) -> None:
    mine = built(folder_of(architecture), architecture, spec)
    theirs = by_peft(mine, opened(architecture, through_library=True), spec)
    assert isinstance(mine.model, AdaptedStandIn)
    assert isinstance(theirs.model, PeftModel)
    assert list(mine.trained) == list(theirs.trained)
    assert all(torch.equal(value, theirs.trained[name]) for name, value in mine.trained.items())
    moved(mine, theirs)
    ids = tokens(2, 40)
    logits = []
    for held in (mine, theirs):
        logits.append(held.model(input_ids=ids, use_cache=False).logits)
        torch.autograd.backward(cross_entropy(logits[-1][:, :-1].flatten(0, 1), ids[:, 1:].flatten()))
    assert furthest(*logits) <= (0 if architecture == "qwen3" else 1e-6 * float(logits[1].detach().abs().max()))
    gradients = [(value.grad, theirs.trained[name].grad) for name, value in mine.trained.items()]
    assert all(one is not None and other is not None and furthest(one, other) <= 1e-5 for one, other in gradients)
    for held, name in ((mine, "mine"), (theirs, "theirs")):
        (tmp_path / name).mkdir()
        peft.save(held, tmp_path / name)
    for file in (peft.CONFIG, peft.WEIGHTS):
        assert (tmp_path / "mine" / file).read_bytes() == (tmp_path / "theirs" / file).read_bytes(), file


@pytest.mark.parametrize("architecture", TRAINED)
def test_folded_in_they_are_what_peft_folds_in(
    opened: Opened, folder_of: FolderOf, tmp_path: Path, architecture: str
) -> None:
    mine = built(folder_of(architecture), architecture, ASKED[0])
    moved(mine, mine)
    peft.save(mine, tmp_path)
    adapted = peft.stand_in_with(opened(architecture), tmp_path)
    assert adapted is not None
    with quiet():
        merged: Any = PeftModel.from_pretrained(opened(architecture, through_library=True), str(tmp_path))
        ours, judge = tensors_of(adapted.merge_and_unload()), tensors_of(merged.merge_and_unload())
    assert all(torch.equal(value, ours[name]) for name, value in judge.items())


def test_alpha_is_taken_over_from_what_is_loaded(folder_of: FolderOf, tmp_path: Path) -> None:
    mine, other = (built(folder_of("qwen3"), "qwen3", LoraSpec(4, alpha)) for alpha in (8.0, 16.0))
    moved(mine, mine)
    peft.save(mine, tmp_path)
    peft.load(other, tmp_path)
    other.take_alpha({"alpha": 4.0})
    with torch.no_grad():
        found, plain = (held.model(input_ids=tokens(1, 9)).logits for held in (other, mine))
    assert furthest(found, plain) > 0.01  # half of B at a quarter of the alpha
    other.take_alpha({"alpha": 16.0})
    with torch.no_grad():
        assert furthest(other.model(input_ids=tokens(1, 9)).logits, plain) < 1e-4


@pytest.mark.parametrize("architecture", ["glm4_moe", "deepseek_v3"])
def test_an_alpha_that_was_taken_over_is_the_one_that_is_saved(
    opened: Opened, folder_of: FolderOf, tmp_path: Path, architecture: str
) -> None:
    """Experts have a rank and an alpha of their own there, by peft's rules."""
    mine = built(folder_of(architecture), architecture, LoraSpec(4, 8.0))
    moved(mine, mine)
    mine.take_alpha({"alpha": 64.0})
    peft.save(mine, tmp_path)
    with quiet():
        theirs = PeftModel.from_pretrained(opened(architecture, through_library=True), str(tmp_path))
    with torch.no_grad():
        found, right = (model(input_ids=tokens(1, 9)).logits for model in (theirs, mine.model))
    assert furthest(found, right) < 1e-4


def edited(folder: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    config = json.loads((folder / peft.CONFIG).read_bytes())
    edit(config)
    (folder / peft.CONFIG).write_text(json.dumps(config))
    return folder


def served(base: Path, adapter: Path) -> tuple[Any, dict[str, Tensor]]:
    replica = TorchReplica(base, max_context_length=64)
    replica.load_adapter(adapter, "one")
    replica.close()
    return replica._model, tensors_of(replica._model)


@pytest.mark.parametrize(
    ("edit", "ours"),
    [
        (lambda config: config.update(peft_version="0.17.0", revision="main"), True),
        (lambda config: config.update(alpha_pattern={"q_proj": 16}), False),
        (lambda config: config.update(use_rslora=True), False),
        (lambda config: config.update(target_modules=r".*_proj|lm_head"), False),
        (lambda config: config.pop("layer_replication"), True),
    ],
)
def test_an_adapter_that_asks_for_more_is_served_through_peft(
    folder_of: FolderOf, tmp_path: Path, edit: Callable[[dict[str, Any]], None], ours: bool
) -> None:
    base = folder_of("qwen3")
    mine = built(base, "qwen3", LoraSpec(4, 8.0, seed=7))
    moved(mine, mine)
    peft.save(mine, tmp_path)
    plain, _ = served(base, tmp_path)
    model, weights = served(base, edited(tmp_path, edit))
    assert isinstance(plain, StandIn)
    assert isinstance(model, StandIn) is ours
    same = all(torch.equal(value, weights[name]) for name, value in tensors_of(plain).items())
    pattern = json.loads((tmp_path / peft.CONFIG).read_bytes())["target_modules"]
    assert same is (ours or isinstance(pattern, str))


@pytest.mark.parametrize("architecture", ["glm4_moe", "deepseek_v3"])
def test_where_peft_changes_ranks_and_places_the_adapters_are_its_own(folder_of: FolderOf, architecture: str) -> None:
    held = built(folder_of(architecture), architecture, LoraSpec(4))
    assert isinstance(held.model, PeftModel)
    assert held.model.peft_config["default"].rank_pattern, "peft has given this up: train them here"
