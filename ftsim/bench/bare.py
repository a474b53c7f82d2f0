"""The bare side: the same model and the same work in plain PyTorch, as a good engineer would write it."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.nn import functional

from ftsim.backend import THREADS
from ftsim.bench.stand import ADAM


class BareTrainer:
    """A model, its AdamW, and the files it can write."""

    def __init__(self, base: Path, lora_rank: int = 0) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        if threads := int(os.environ.get(THREADS, "1")):  # as many as the emulator's trainer computes with
            torch.set_num_threads(threads)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(base)
        self.model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if lora_rank:
            from peft import LoraConfig, get_peft_model

            config = LoraConfig(r=lora_rank, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
            self.model = get_peft_model(self.model, config)
        self.trained = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), lr=ADAM["learning_rate"], betas=(ADAM["beta1"], ADAM["beta2"]), eps=ADAM["eps"],
            weight_decay=ADAM["weight_decay"],
        )  # fmt: skip

    def step(self, rows: Sequence[Sequence[int]]) -> float:
        """Forward, backward, clip, step; returns the loss, as one that is logged must be read."""
        ids = torch.tensor(rows)  # (B, T + 1)
        logits = self.model(ids[:, :-1], use_cache=False).logits  # (B, T, V)
        loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.trained.values(), ADAM["grad_clip_norm"])
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """Weights and moments, as one flat state."""
        state: dict[str, Any] = {f"model.{name}": value.detach() for name, value in self.trained.items()}
        for name, value in self.trained.items():
            for moment, tensor in self.optimizer.state[value].items():
                state[f"optimizer.{moment}.{name}"] = tensor
        return state

    def save_state(self, folder: Path) -> None:
        """A DCP folder, written aside, synced, renamed."""
        aside = folder.with_name(f".{folder.name}")
        writer = FileSystemWriter(aside, sync_files=False)
        state_dict_saver.save(self.state(), storage_writer=writer, no_dist=True)
        _settle(aside, folder)

    def load_state(self, folder: Path) -> None:
        """Read a DCP folder back into weights and moments, in place."""
        state_dict_loader.load(self.state(), storage_reader=FileSystemReader(folder), no_dist=True)

    def save_pretrained(self, folder: Path) -> None:
        """A Hugging Face folder of model and tokenizer, written aside, synced, renamed."""
        aside = folder.with_name(f".{folder.name}")
        self.model.save_pretrained(aside)
        self.tokenizer.save_pretrained(aside)
        _settle(aside, folder)

    def save_safetensors(self, file: Path) -> None:
        """The weights alone, synced."""
        save_file(self.weights(), file, {"format": "pt"})
        _sync(file)

    def save_delta(self, old: dict[str, torch.Tensor], folder: Path, base: Path) -> None:
        """What the vendor's codec makes of `old` and the weights now, beside the small files; synced, renamed."""
        from fireworks_delta_compression import delta_compress_dicts_to_file

        aside = folder.with_name(f".{folder.name}")
        aside.mkdir()
        delta_compress_dicts_to_file(
            src=old, dst=self.weights(), diff_file=str(aside / "model.safetensors"), compression_format="arc_v2"
        )
        for file in base.iterdir():
            if file.suffix != ".safetensors":
                shutil.copyfile(file, aside / file.name)
        _settle(aside, folder)

    def weights(self) -> dict[str, torch.Tensor]:
        """The tensors of a Hugging Face file: tied ones once."""
        return {name: value.detach() for name, value in self.model.named_parameters()}


def _settle(aside: Path, folder: Path) -> None:
    """Make a written folder durable under its name."""
    for path in (*aside.iterdir(), aside):
        _sync(path)
    aside.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
