"""Reinforcement learning on the serverless pool that samples ahead: rollouts of one policy while the next is trained.

Usage: async_rl.py BASE_MODEL STEPS. Prints one line of JSON.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from statistics import mean
from typing import Any

from fireworks.training.sdk import types
from fireworks.training.sdk.client import FiretitanServiceClient

from tests.programs import loopback
from tests.programs.rl_reference import Sample, inputs, reward, rollout, tensor


def datums(groups: list[list[Sample]]) -> list[types.Datum]:
    """The samples with the log-probabilities of the policy that drew them, which may be an older one."""
    made = []
    for group in groups:
        baseline = mean(reward(one.tokens) for _, one in group)
        for prompt, one in group:
            model_input, tensors = inputs(prompt, one)
            del tensors["loss_mask"]
            head = [0.0] * (len(prompt) - 1)
            gain = reward(one.tokens) - baseline
            tensors |= {
                "logprobs": tensor(head + list(one.logprobs)),
                "advantages": tensor(head + [gain] * len(one.tokens)),
            }
            made.append(types.Datum(model_input=model_input, loss_fn_inputs=tensors))
    return made


def main(base: str, steps: int) -> None:
    loopback.stay()
    service = FiretitanServiceClient()
    policy = service.create_lora_training_client(base, rank=8, seed=1)

    def draw(sampler: Any) -> list[list[Sample]]:
        try:
            return rollout(sampler, replay=False)
        finally:
            sampler.close()

    def publish(trained: int, draws: int) -> tuple[int, Any]:
        """Save the policy after so many steps and begin to draw from it, while the caller goes on."""
        path = policy.save_weights_for_sampler_ext(f"draw-{draws}").path
        return trained, ahead.submit(draw, service.create_sampling_client(model_path=path))

    rewards: list[float] = []
    lags: list[int] = []
    with ThreadPoolExecutor(1) as ahead:
        drawn = publish(0, 0)
        for step in range(steps):
            trained, groups = drawn[0], drawn[1].result()
            if step + 1 < steps:
                drawn = publish(step, step + 1)
            rewards.append(mean(reward(one.tokens) for group in groups for _, one in group))
            lags.append(step - trained)
            policy.forward_backward(datums(groups), "importance_sampling").result()
            policy.optim_step(types.AdamParams(learning_rate=0.02)).result()
    print(json.dumps({"rewards": rewards, "lags": lags}))
    service.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
