"""Opens what a run left, with torch, transformers and peft alone: run as a file of its own, it never imports ftsim.

    python checker.py      reads the path of a request from stdin, prints one JSON object a line for each finding

The request: `{"pairs": {label: [folder, folder]}, "models": [{"name", "folder", "base", "blob", "prompt"}]}`.
"""

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def main(request: Path) -> None:
    """Answer a request; an exception is a finding too."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    asked = json.loads(request.read_text("utf-8"))
    for label, (one, other) in asked["pairs"].items():
        report({"pair": label, **compare(Path(one), Path(other))})
    for model in asked["models"]:
        report(
            {"model": model["name"], **open_model(**{key: model[key] for key in ("folder", "base", "blob", "prompt")})}
        )
    foreign = sorted({name.split(".")[0] for name in sys.modules} & {"ftsim", "emulator"})
    report({"imported": foreign})


def report(finding: dict[str, Any]) -> None:
    print(json.dumps(finding), flush=True)


def compare(one: Path, other: Path) -> dict[str, Any]:
    """Number of tensors of two blobs, their elements, and the names of those that differ in any bit."""
    mine, theirs = tensors(one), tensors(other)
    differ = sorted(set(mine) ^ set(theirs)) + [
        name for name in mine if name in theirs and not same(mine[name], theirs[name])
    ]
    return {"tensors": len(mine), "values": sum(value.numel() for value in mine.values()), "differ": differ}


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit for bit."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.contiguous().flatten().view(torch.uint8), other.contiguous().flatten().view(torch.uint8))


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a DCP, Hugging Face or PEFT folder."""
    if (folder / ".metadata").exists():
        return distributed(folder)
    shards = sorted(folder.glob("*.safetensors"))
    return {name: value for shard in shards for name, value in load_file(shard).items()}


def distributed(folder: Path) -> dict[str, torch.Tensor]:
    """A `torch.distributed.checkpoint` folder, through torch's own reader."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = FileSystemReader(folder)
    state: dict[str, Any] = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in reader.read_metadata().state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    load(state, storage_reader=reader, no_dist=True)
    return state


def open_model(folder: str, base: str, blob: str, prompt: list[dict[str, str]]) -> dict[str, Any]:
    """Load a promoted model, check it against the row's blob, and continue a prompt greedily."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = (Path(folder) / "adapter_config.json").exists()
    model: Any = AutoModelForCausalLM.from_pretrained(base if adapter else folder, dtype=torch.float32)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(base if adapter else folder)
    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        made = model.eval().generate(**ids, max_new_tokens=24, do_sample=False)
    answer = tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    library = "peft" if adapter else "transformers"
    return {"opened_by": library, "answer": answer, **compare(Path(folder), Path(blob))}


if __name__ == "__main__":
    import peft  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    main(Path(sys.stdin.readline().strip()))
