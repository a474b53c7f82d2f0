"""Exports by tinker-cookbook: trained weights downloaded, merged, made an adapter; with tinker's external saves.

Usage: cookbook_export.py BASE_MODEL BASE_ID FOLDER, under `ftsim run --tinker`; BASE_ID is the base model's id on the
service, whose weights `ftsim models pull` fetches. Prints one line of JSON.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyrage
import tinker
import torch
from peft import PeftModel
from safetensors.torch import load
from tinker_cookbook import checkpoint_utils, weights
from transformers import AutoModelForCausalLM

from tests.programs import loopback
from tests.programs.cookbook import ROWS, trained, turns

PROMPT = [300, 301, 302, 303, 304, 305]


def scored(model: Any) -> list[float]:
    """Log-probabilities that a model gives to the prompt's tokens, but for the first."""
    with torch.no_grad():
        rows = model(torch.tensor([PROMPT])).logits.float().log_softmax(-1)[0]
    return [float(row[token]) for row, token in zip(rows, PROMPT[1:], strict=False)]


def distance(mine: Sequence[float], theirs: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(mine, theirs, strict=True))


def downloaded(path: str, folder: Path) -> dict[str, bytes]:
    weights.download(tinker_path=path, output_dir=str(folder))
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def externally(service: tinker.ServiceClient, state: str, folder: Path) -> dict[str, Any]:
    """The same weights by tinker's own external saves: sealed for a key, and not."""
    client = service.create_training_client_from_state(state).result()
    identity = pyrage.x25519.Identity.generate()
    plain = downloaded(client.save_weights_external("plain").result().path, folder / "plain")
    recipients = [str(identity.to_public())]
    saved = client.save_weights_external("sealed", age_encryption_recipients=recipients).result().path
    sealed = downloaded(saved, folder / "sealed")
    opened = {name.removesuffix(".age"): pyrage.decrypt(data, [identity]) for name, data in sealed.items()}
    listed = service.create_rest_client().list_checkpoints(saved.split("/")[2]).result().checkpoints
    return {
        "files": sorted(sealed),
        "equal": opened["adapter_model.safetensors"] == plain["adapter_model.safetensors"],
        "listed": sorted(one.checkpoint_id for one in listed),
        "types": sorted({one.checkpoint_type for one in listed}),
    }


def refusals(sampler_path: str, folder: Path) -> list[str]:
    """The words of whoever refuses what cannot be downloaded."""
    said = []
    for path in (sampler_path, sampler_path.replace("sampler_weights", "external_weights")):
        try:
            weights.download(tinker_path=path, output_dir=str(folder))
        except weights._download.WeightsDownloadError as error:
            said.append(str(error))
    return said


def main(base: str, base_id: str, folder: Path) -> None:
    loopback.stay()
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"messages": turns(*row)}) + "\n" for row in ROWS), "utf-8")
    trained(base, folder / "run", rows)
    last = checkpoint_utils.get_last_checkpoint(str(folder / "run"))
    assert last is not None
    assert last.state_path
    assert last.sampler_path
    adapter = downloaded(last.state_path, folder / "adapter")
    command = [sys.executable, "-m", "ftsim", "models", "pull", base_id, str(folder / "base")]
    subprocess.run(command, check=True, capture_output=True)
    export = {"base_model": str(folder / "base"), "adapter_path": str(folder / "adapter")}
    weights.build_hf_model(**export, output_path=str(folder / "merged"))
    weights.build_lora_adapter(**export, output_path=str(folder / "peft"))
    service = tinker.ServiceClient()
    sampler = service.create_sampling_client(model_path=last.sampler_path)
    logprobs = sampler.compute_logprobs(tinker.ModelInput.from_ints(PROMPT)).result()[1:]
    plain = AutoModelForCausalLM.from_pretrained(folder / "base")
    untrained = scored(plain)
    told = {
        "files": sorted(adapter),
        "tensors": len(load(adapter["adapter_model.safetensors"])),
        "merged": distance(scored(AutoModelForCausalLM.from_pretrained(folder / "merged")), logprobs),
        "peft": distance(scored(PeftModel.from_pretrained(plain, folder / "peft")), logprobs),
        "untrained": distance(untrained, logprobs),
        "external": externally(service, last.state_path, folder),
        "refused": refusals(last.sampler_path, folder / "none"),
        "left": [one.checkpoint_id for one in asyncio.run(_all(service)) if one.checkpoint_id.endswith("/download")],
    }
    print(json.dumps(told))


async def _all(service: tinker.ServiceClient) -> Any:
    return (await service.create_rest_client().list_user_checkpoints()).checkpoints


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
