"""The matrix of every folder of the zoo: each cell is equal, or refused with a sentence; there is no third.

`python -m tests.zoo.matrix [NAME...]` runs it and, over the whole zoo, writes the table of docs/models.md.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from emulator.backend import BackendError, BaseModel, GenerateRequest, LoraSpec, ModelSpec
from ftsim.compute.checkpoints import delta
from ftsim.compute.execution import FLOAT32, Execution
from ftsim.compute.images.sight import SEEING
from ftsim.compute.models.describe import describe
from ftsim.compute.quiet import quiet
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.compute.sampler.weights import read_shards
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.zoo import folders

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
SLICE = ("llama_tied", "qwen3_5_vision", "deepseek_v3", "gpt_oss", "gemma2", "llama_fp8")
"""Those of the default suite: a tied one, one that sees, latent attention, sinks and windows, soft caps, float8."""
_BASE = BaseModel("accounts/fireworks/models/tiny")
_ADAM = {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12, "weight_decay": 0.01, "grad_clip_norm": 0.0}
_TEXT = [3 + 7 * at for at in range(24)]


class Unequal(AssertionError):
    """A difference that nobody was told of."""


def _record(values: list[int], dtype: str = "int64") -> dict[str, Any]:
    return {"data": values, "dtype": dtype, "shape": [len(values)]}


def _batch(tokens: list[int]) -> dict[str, Any]:
    chunk = {"type": "encoded_text", "tokens": tokens[:-1]}
    datum = {"model_input": {"chunks": [chunk]}, "loss_fn_inputs": {"target_tokens": _record(tokens[1:])}}
    return {"data": [datum], "loss_fn": "cross_entropy"}


def trainer_of(folder: Path, rank: int = 0, steps: int = 0, how: Execution = FLOAT32) -> TorchTrainer:
    """A trainer of this folder, after some steps; of rank 0 it trains all weights."""
    trainer = TorchTrainer(lambda _: folder, lora_rank=rank, how=how)
    trainer.create_model(ModelSpec("m", _BASE, LoraSpec(rank, seed=0) if rank else None))
    _train(trainer, steps)
    return trainer


def _train(trainer: TorchTrainer, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        trainer.forward_backward("m", _batch([token + step for token in _TEXT]))
        trainer.optim_step("m", _ADAM, "num_loss_tokens")


def _said(trainer: TorchTrainer, tokens: list[int]) -> torch.Tensor:
    outputs = trainer.forward("m", _batch(tokens))["loss_fn_outputs"]
    return torch.tensor(outputs[0]["logprobs"]["data"])


@torch.no_grad()
def _opened(model: Any, tokens: list[int]) -> torch.Tensor:
    logits = model.eval()(input_ids=torch.tensor([tokens[:-1]]), use_cache=False).logits[0].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]


def _load(folder: Path) -> Any:
    seeing = AutoConfig.from_pretrained(folder).model_type in SEEING
    opened = AutoModelForImageTextToText if seeing else AutoModelForCausalLM
    with quiet():
        model, report = opened.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    if report["missing_keys"] or report["mismatched_keys"]:
        raise Unequal(f"transformers misses {report['missing_keys'] or report['mismatched_keys']}")
    return model


def _equal(found: torch.Tensor, right: torch.Tensor, allowed: float) -> None:
    far = float((found - right).abs().max())
    if not far <= allowed:
        raise Unequal(f"off by {far:.2g}")


def _save(trainer: TorchTrainer, folder: Path, **how: Any) -> Path:
    folder.mkdir()
    trainer.save_sampler("m", folder, identity=folder.name, **how).acknowledged()
    return folder


def _served(folder: Path, trainer: TorchTrainer) -> None:
    """Four rows, one of them first alone, each 64 tokens past any window, against the trainer's forward."""
    replica = TorchReplica(folder)
    try:
        prompts = [[5 + 37 * row + at for at in range(2 + 11 * row)] for row in range(4)]
        asked = [
            GenerateRequest(prompt, max_tokens=64, ignore_eos=True, seed=row) for row, prompt in enumerate(prompts)
        ]
        results = [future.result(120) for future in map(replica.generate, asked)]
        alone = replica.generate(asked[1]).result(120)
    finally:
        replica.close()
    for prompt, result in zip(prompts, results, strict=True):
        tokens = [*prompt, *(token.token_id for token in result.tokens)]
        found = torch.tensor([token.logprob for token in result.tokens])
        _equal(found, _said(trainer, tokens)[-len(found) :], 1e-4)
    if [(t.token_id, t.logprob) for t in alone.tokens] != [(t.token_id, t.logprob) for t in results[1].tokens]:
        raise Unequal("a row is not the same bits alone and in company")


def sampled(folder: Path, _: Path) -> None:
    _served(folder, trainer_of(folder))


def _resumed(folder: Path, place: Path, rank: int) -> None:
    trainer, other = trainer_of(folder, rank, 2), trainer_of(folder, rank)
    (place / f"state-{rank}").mkdir()
    trainer.save_state("m", place / f"state-{rank}")
    other.load_state("m", place / f"state-{rank}", optimizer=True)
    for one in (trainer, other):
        _train(one, 2, first=2)
    mine, theirs = trainer._model("m").trained, other._model("m").trained
    if not all(torch.equal(mine[name], theirs[name]) for name in mine):
        raise Unequal("a resumed run has other bits")


def full_resume(folder: Path, place: Path) -> None:
    _resumed(folder, place, 0)


def lora_resume(folder: Path, place: Path) -> None:
    _resumed(folder, place, 4)


def base_export(folder: Path, place: Path) -> None:
    trainer = trainer_of(folder, 0, 2)
    _equal(_opened(_load(_save(trainer, place / "base")), _TEXT), _said(trainer, _TEXT), 1e-5)


def delta_chain(folder: Path, place: Path) -> None:
    trainer = trainer_of(folder, 0, 1)
    held = read_shards(_save(trainer, place / "s0"))
    for link in range(1, 6):
        _train(trainer, 1, link)
        held = delta.apply_delta(held, _save(trainer, place / f"s{link}", checkpoint_type="delta"))
    whole = load_file(_save(trainer, place / "whole") / "model.safetensors")
    made = held["model.safetensors"]
    if made.keys() != whole.keys() or not all(torch.equal(made[name], whole[name]) for name in whole):
        raise Unequal("five deltas give other weights")


def adapter_export(folder: Path, place: Path) -> None:
    trainer = trainer_of(folder, 4, 2)
    _save(trainer, place / "adapter")
    from ftsim.compute.checkpoints import peft
    from ftsim.compute.checkpoints.source import open_model

    (place / "names").mkdir()
    opened = peft.open_over(open_model(folder, torch.float32), place / "adapter", place / "names")
    _equal(_opened(opened, _TEXT), _said(trainer, _TEXT), 1e-5)
    if (place / "names" / "adapter_config.json").exists():  # a text model of a folder that also sees
        return
    with quiet():
        merged = PeftModel.from_pretrained(open_model(folder, torch.float32), place / "adapter").merge_and_unload()
    _equal(_opened(merged, _TEXT), _said(trainer, _TEXT), 1e-5)


def merged_base(folder: Path, place: Path) -> None:
    """In the types of the source: half precision rounds what is merged."""
    trainer = trainer_of(folder, 4, 2)
    written = _save(trainer, place / "merged", checkpoint_type="merged_base")
    half = any(v.dtype == torch.bfloat16 for v in load_file(written / "model.safetensors").values())
    _equal(_opened(_load(written), _TEXT), _said(trainer, _TEXT), 0.5 if half else 2e-5)


def promoted(folder: Path, place: Path) -> None:
    """A promoted model is described, served, and trained again."""
    trainer = trainer_of(folder, 0, 2)
    written = _save(trainer, place / "promoted")
    describe(written)
    _served(written, trainer)
    again = trainer_of(written)
    _equal(_said(again, _TEXT), _said(trainer, _TEXT), 1e-5)
    _train(again, 1)


CELLS: dict[str, Callable[[Path, Path], None]] = {
    "sampled as trained": sampled,
    "full step, resume": full_resume,
    "LoRA step, resume": lora_resume,
    "base": base_export,
    "delta × 5": delta_chain,
    "adapter": adapter_export,
    "merged_base": merged_base,
    "promote, serve, train again": promoted,
}


def cell(name: str, folder: Path, place: Path) -> str:
    """`equal`, or `refused: ` and the sentence; raises Unequal for a silent difference."""
    try:
        CELLS[name](folder, place)
    except BackendError as error:
        return f"refused: {error.message}"
    return "equal"


def row(animal: str, place: Path) -> list[str]:
    """Every cell of one folder."""
    folder = folders.write(animal, place / animal)
    found = []
    for number, name in enumerate(CELLS):
        (place / str(number)).mkdir()
        found.append(cell(name, folder, place / str(number)))
    return found


def table(rows: dict[str, list[str]]) -> str:
    """The table of docs/models.md."""
    head = ["folder", "architecture", *CELLS]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, cells in rows.items():
        lines.append("| " + " | ".join([name, folders.ZOO[name].model_type, *cells]) + " |")
    return "\n".join(lines) + "\n"


def page(rows: dict[str, list[str]]) -> str:
    """docs/models.md with these rows in its table."""
    before, _, rest = PAGE.read_text("utf-8").partition("| folder |")
    return before + table(rows) + rest[rest.index("\n\n") + 1 :]


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    rows = {}
    for name in names or folders.ZOO:
        with tempfile.TemporaryDirectory() as place:
            rows[name] = row(name, Path(place))
        print(name, rows[name], flush=True)
    if not names:
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
