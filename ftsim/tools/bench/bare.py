"""The bare side: the same model and the same work in plain PyTorch, as a good engineer would write it."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from ftsim.compute.backend import THREADS
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer.losses import LOSSES
from ftsim.tools.bench.workload import ADAM

Row = tuple[list[int], dict[str, list[Any]]]
"""Tokens, and per token what a loss needs, `target_tokens` among them."""


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
            self.model = _adapted(self.model, lora_rank)
        self.trained = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.trained.values(),
            lr=ADAM["learning_rate"],
            betas=(ADAM["beta1"], ADAM["beta2"]),
            eps=ADAM["eps"],
            weight_decay=ADAM["weight_decay"],
        )

    def step(self, rows: Sequence[Sequence[int]]) -> float:
        """Forward, backward, clip, step; returns the loss, as one that is logged must be read."""
        ids = torch.tensor(rows)  # (B, T + 1)
        logits = self.model(ids[:, :-1], use_cache=False).logits  # (B, T, V)
        return self._update(functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))

    def step_on(self, rows: Sequence[Row], loss_fn: str) -> float:
        """As `step`, on rows of any length, padded, with one of the server's losses per real position."""
        loss = LOSSES[loss_fn]
        lengths = torch.tensor([len(tokens) for tokens, _ in rows])
        ids = pad_sequence([torch.tensor(tokens) for tokens, _ in rows], batch_first=True)  # (B, T)
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        flat = {name: torch.cat([torch.tensor(values[name]) for _, values in rows]) for name in rows[0][1]}  # (N,)
        logits = self.model(ids, use_cache=False).logits[real]  # (N, V)
        logprobs = -functional.cross_entropy(logits, flat.pop("target_tokens"), reduction="none")
        row = torch.repeat_interleave(torch.arange(len(rows)), lengths)
        return self._update(loss.summands(logprobs, flat, loss.configure({}), row).mean())

    def _update(self, loss: torch.Tensor) -> float:
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

    def save_folder(self, folder: Path, base: Path) -> None:
        """The weights beside the small files of `base`; written aside, synced, renamed."""
        aside = folder.with_name(f".{folder.name}")
        aside.mkdir()
        save_file(self.weights(), aside / "model.safetensors", {"format": "pt"})
        for file in base.iterdir():
            if file.suffix != ".safetensors":
                shutil.copyfile(file, aside / file.name)
        _settle(aside, folder)

    def compress_delta(self, old: dict[str, torch.Tensor], file: Path) -> None:
        """Write the delta that the vendor's codec makes of `old` and the weights now, not synced."""
        from fireworks_delta_compression import delta_compress_dicts_to_file

        delta_compress_dicts_to_file(src=old, dst=self.weights(), diff_file=str(file), compression_format="arc_v2")

    def save_delta(self, old: dict[str, torch.Tensor], folder: Path, base: Path) -> None:
        """The codec's file beside the small files of `base`; synced, renamed."""
        aside = folder.with_name(f".{folder.name}")
        aside.mkdir()
        self.compress_delta(old, aside / "model.safetensors")
        for file in base.iterdir():
            if file.suffix != ".safetensors":
                shutil.copyfile(file, aside / file.name)
        _settle(aside, folder)

    def weights(self) -> dict[str, torch.Tensor]:
        """The tensors of a Hugging Face file: tied ones once."""
        return {name: value.detach() for name, value in self.model.named_parameters()}


class BareFollower:
    """A second model that samples, kept at a trainer's weights through the vendor's codec."""

    def __init__(self, trainer: BareTrainer, base: Path, folder: Path) -> None:
        self._trainer, self._base, self._folder = trainer, base, folder
        self._model = BareTrainer(base).model
        self._count = 0
        folder.mkdir()
        self._served = folder / "served-0.safetensors"
        trainer.save_safetensors(self._served)
        self._old = {name: value.clone() for name, value in trainer.weights().items()}

    def sync(self) -> None:
        """Write a delta as durably as a save, apply it to a copy of what is served, take the tensors over, try them.

        The SDK's syncer too draws four tokens after every load.
        """
        from fireworks_delta_compression import delta_decompress_inplace

        self._count += 1
        delta, served = self._folder / f"delta-{self._count}", self._folder / f"served-{self._count}.safetensors"
        self._trainer.save_delta(self._old, delta, self._base)
        self._old = {name: value.clone() for name, value in self._trainer.weights().items()}
        shutil.copyfile(self._served, served)
        delta_decompress_inplace(
            base_path=str(served), diff_path=str(delta / "model.safetensors"), compression_format="arc_v2"
        )
        self._model.load_state_dict(load_file(served), strict=False)
        self._served = served
        self._draw([1, 2], 4)

    @torch.inference_mode()
    def _draw(self, tokens: list[int], count: int) -> list[int]:
        """The likeliest continuation, with a cache of keys and values."""
        drawn, cache = [], None
        step = torch.tensor([tokens])
        for _ in range(count):
            output = self._model(step, past_key_values=cache, use_cache=True)
            step, cache = output.logits[:, -1:].argmax(-1), output.past_key_values
            drawn.append(int(step))
        return drawn


def _adapted(model: Any, rank: int) -> Any:
    """Adapters where the service puts them by default: on every linear layer and on the output layer too.

    The latter is what peft's "all-linear" leaves out; its product has as many columns as the vocabulary.
    """
    from peft import LoraConfig, get_peft_model

    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    with quiet():  # peft warns of tied layers
        return get_peft_model(model, LoraConfig(r=rank, lora_alpha=32, target_modules=linear, task_type="CAUSAL_LM"))


def plain(datum: Any) -> Row:
    """A datum of the SDK as a bare loop would hold it."""
    return list(datum.model_input.to_ints()), {name: list(t.data) for name, t in datum.loss_fn_inputs.items()}


def large_model(like: Path, folder: Path) -> None:
    """A random model of 10 million weights with the tokenizer of `like`, as a Hugging Face folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config: Any = AutoConfig.from_pretrained(like)
    config.hidden_size, config.intermediate_size, config.head_dim = 384, 1024, 48
    config.num_hidden_layers, config.layer_types = 6, ["full_attention"] * 6
    config.num_attention_heads, config.num_key_value_heads = 8, 4
    shutil.copytree(like, folder)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)


def _settle(aside: Path, folder: Path) -> None:
    """Make a written folder durable under its name, its files side by side as the emulator's are."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_sync, (*aside.iterdir(), aside)))
    aside.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
