"""On-policy distillation: a student samples, a teacher's forward judges, the reverse KL between them falls.

Usage: distillation.py BASE_MODEL STEPS. Prints one line of JSON.
"""

import json
import sys
from statistics import mean

from fireworks.training.sdk import types
from fireworks.training.sdk.client import FiretitanServiceClient

from tests.programs import loopback
from tests.programs.rl_reference import inputs, logprobs, rollout, tensor
from tests.programs.steps import step

LESSONS = 3
"""Steps of supervised training that make the teacher differ from the base model."""

ROLLOUTS = 4
"""For each step; of fewer samples one unlikely token decides, and the student runs away from its teacher."""


def main(base: str, steps: int) -> None:
    loopback.stay()
    service = FiretitanServiceClient()
    teacher = service.create_lora_training_client(base, rank=8, seed=1)
    for _ in range(LESSONS):
        step(teacher, types)
    student = service.create_lora_training_client(base, rank=8, seed=2)
    distances: list[float] = []
    for number in range(steps):
        sampler = service.create_sampling_client(model_path=student.save_weights_for_sampler_ext(f"s{number}").path)
        samples = [one for _ in range(ROLLOUTS) for group in rollout(sampler, replay=False) for one in group]
        sampler.close()
        judged = logprobs(teacher, samples)
        gaps = [
            [mine - theirs for mine, theirs in zip(one.logprobs, row, strict=True)]
            for (_, one), row in zip(samples, judged, strict=True)
        ]
        distances.append(mean(gap for row in gaps for gap in row))
        usual = distances[-1]  # what every token costs alike says nothing about which to prefer
        data = []
        for (prompt, one), row in zip(samples, gaps, strict=True):
            model_input, tensors = inputs(prompt, one)
            del tensors["loss_mask"]
            head = [0.0] * (len(prompt) - 1)
            tensors |= {
                "logprobs": tensor(head + list(one.logprobs)),
                "advantages": tensor(head + [max(-1.0, min(1.0, usual - gap)) for gap in row]),
            }
            data.append(types.Datum(model_input=model_input, loss_fn_inputs=tensors))
        student.forward_backward(data, "importance_sampling").result()
        student.optim_step(types.AdamParams(learning_rate=0.01)).result()
    print(json.dumps({"reverse_kl": distances}))
    service.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
