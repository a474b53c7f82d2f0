"""A small model in training, and whether a replica samples as it was trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emulator.backend import BaseModel, GenerateRequest, LoraSpec, ModelSpec, Replica
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.sampler.conftest import QWEN

ADAM = {"learning_rate": 5e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0, "grad_clip_norm": 0.0}


def datum(tokens: list[int], targets: list[int], weights: Sequence[float] = ()) -> dict[str, Any]:
    """A datum as the gateway hands it over."""
    inputs = {"target_tokens": {"data": targets, "dtype": "int64", "shape": [len(targets)]}}
    if weights:
        inputs["weights"] = {"data": list(weights), "dtype": "float32", "shape": [len(targets)]}
    return {"model_input": {"chunks": [{"type": "encoded_text", "tokens": tokens}]}, "loss_fn_inputs": inputs}


class Training:
    """A trainer with one model, trained a step at a time on the same text."""

    def __init__(self, folder: Path, lora_rank: int = 0) -> None:
        self.trainer = TorchTrainer(lambda base: folder, lora_rank=lora_rank)
        self.trainer.create_model(ModelSpec("m", BaseModel(QWEN), LoraSpec(lora_rank) if lora_rank else None))

    def step(self) -> None:
        tokens = list(range(300, 320))
        batch = {"data": [datum(tokens[:-1], tokens[1:], weights=[1.0] * 19)], "loss_fn": "cross_entropy"}
        self.trainer.forward_backward("m", batch)
        self.trainer.optim_step("m", ADAM, None)

    def save(self, folder: Path, identity: str = "", kind: str = "base") -> Path:
        """A save for sampling; its identity is the folder's name unless another is given."""
        folder.mkdir()
        saved = self.trainer.save_sampler("m", folder, identity=identity or folder.name, checkpoint_type=kind)  # type: ignore[arg-type]
        saved.acknowledged()
        return folder

    def logprobs(self, tokens: list[int]) -> list[float]:
        """Training-forward log-probabilities of tokens[1:]."""
        output = self.trainer.forward("m", {"data": [datum(tokens[:-1], tokens[1:])], "loss_fn": "cross_entropy"})
        values: list[float] = output["loss_fn_outputs"][0]["logprobs"]["data"]
        return values


def sampled_as_trained(training: Training, replica: Replica) -> float:
    """The largest difference between the sampler's log-probabilities and those of the training forward (WIRE 9.13)."""
    prompt = replica.encode("Nora said")
    result = replica.generate(GenerateRequest(prompt, max_tokens=24, seed=3, ignore_eos=True)).result(60)
    expected = training.logprobs([*prompt, *(token.token_id for token in result.tokens)])[len(prompt) - 1 :]
    return max(abs(token.logprob - value) for token, value in zip(result.tokens, expected, strict=True))
