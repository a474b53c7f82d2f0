"""Reinforcement learning with a reference model on the serverless pool: BASE_MODEL dense, or with router replay.

Usage: rl_reference.py BASE_MODEL STEPS. Prints one line of JSON.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any, Literal

from fireworks.training.sdk import types
from fireworks.training.sdk.client import FiretitanSamplingParams, FiretitanServiceClient

from tests.programs import loopback

PROMPTS = ([300, 301, 302, 303], [40, 41, 42])
SAMPLES, TOKENS, KL = 8, 10, 0.001
Sample = tuple[list[int], Any]
"""A prompt, and a sequence that was sampled for it."""


def tensor(values: Iterable[float], dtype: Literal["int64", "float32"] = "float32") -> types.TensorData:
    data = list(values)
    return types.TensorData(data=data, dtype=dtype, shape=[len(data)])


def reward(tokens: Sequence[int]) -> float:
    """The share of tokens with an even id."""
    return mean(token % 2 == 0 for token in tokens)


def rollout(sampler: Any, replay: bool) -> list[list[Sample]]:
    params = FiretitanSamplingParams(max_tokens=TOKENS, temperature=1.0, include_routing_matrix=replay)
    groups: list[list[Sample]] = []
    for prompt in PROMPTS:
        future = sampler.sample(types.ModelInput.from_ints(prompt), num_samples=SAMPLES, sampling_params=params)
        groups.append([(prompt, one) for one in future.result().sequences])
    return groups


def inputs(prompt: Sequence[int], one: Any) -> tuple[types.ModelInput, dict[str, types.TensorData]]:
    """The model input, and the targets with the mask that this loop keeps beside them."""
    tokens = [*prompt, *one.tokens]
    head = len(prompt) - 1
    routes = None if one.routing_matrices is None else [""] * head + list(one.routing_matrices)
    model_input = types.ModelInput.from_ints(tokens[:-1])
    if routes is not None:
        model_input = types.ModelInput(chunks=model_input.chunks, routing_matrices=routes)
    mask = [0.0] * head + [1.0] * len(one.tokens)
    return model_input, {"target_tokens": tensor(tokens[1:], "int64"), "loss_mask": tensor(mask)}


def logprobs(client: Any, samples: Sequence[Sample]) -> list[list[float]]:
    """The log-probabilities that a model gives to the tokens of each sample, by a forward that is sent the mask too."""
    datums = []
    for prompt, one in samples:
        model_input, tensors = inputs(prompt, one)
        datums.append(types.Datum(model_input=model_input, loss_fn_inputs=tensors))
    outputs = client.forward(datums, "cross_entropy").result().loss_fn_outputs
    pairs = zip(outputs, samples, strict=True)
    return [list(out["logprobs"].data)[-len(one.tokens) :] for out, (_, one) in pairs]


def main(base: str, steps: int) -> None:
    loopback.stay()
    service = FiretitanServiceClient()
    policy = service.create_lora_training_client(base, rank=8, seed=1)
    reference = policy.create_base_training_client(base)
    replay = bool(policy.supports_router_replay)
    rewards: list[float] = []
    distances: list[float] = []
    routed = 0
    for step in range(steps):
        path = policy.save_weights_for_sampler_ext(f"s{step}").path
        sampler = service.create_sampling_client(model_path=path)
        groups = rollout(sampler, replay)
        sampler.close()
        samples = [sample for group in groups for sample in group]
        rewards.append(mean(reward(one.tokens) for _, one in samples))
        routed += sum(one.routing_matrices is not None for _, one in samples)
        mine, theirs = logprobs(policy, samples), logprobs(reference, samples)
        distances.append(
            max(
                abs(a - b)
                for row, (_, one) in zip(mine, samples, strict=True)
                for a, b in zip(row, one.logprobs, strict=True)
            )
        )
        base_rewards = [mean(reward(one.tokens) for _, one in group) for group in groups for _ in group]
        datums = []
        for (prompt, one), baseline, row, other in zip(samples, base_rewards, mine, theirs, strict=True):
            model_input, tensors = inputs(prompt, one)
            head = [0.0] * (len(prompt) - 1)
            gains = [reward(one.tokens) - baseline - KL * (a - b) for a, b in zip(row, other, strict=True)]
            del tensors["loss_mask"]
            tensors |= {"logprobs": tensor(head + list(one.logprobs)), "advantages": tensor(head + gains)}
            datums.append(types.Datum(model_input=model_input, loss_fn_inputs=tensors))
        policy.forward_backward(datums, "importance_sampling").result()
        policy.optim_step(types.AdamParams(learning_rate=0.02)).result()
    told = {"replay": replay, "routed": routed, "samples": steps * len(PROMPTS) * SAMPLES}
    print(json.dumps({**told, "rewards": rewards, "distance": max(distances)}))
    service.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
