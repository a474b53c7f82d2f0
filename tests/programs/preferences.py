"""Preferences: DPO on the serverless pool against a frozen reference, ORPO on a trainer of one's own without one.

Usage: preferences.py dpo|orpo BASE_MODEL STEPS. Prints one line of JSON.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from fireworks.training.sdk import types
from fireworks.training.sdk.client import FiretitanServiceClient
from torch.nn.functional import logsigmoid, softplus

from tests.programs import loopback
from tests.programs.dedicated import trainers
from tests.programs.rl_reference import tensor

BETA, ODDS = 0.1, 0.5
PROMPT = [300, 301, 302]
PAIRS = (([40, 41, 42], [50, 51, 52, 53]), ([60, 61], [70, 71]))
"""A chosen and a rejected answer to the prompt."""
Loss = Callable[[list[types.Datum], list[torch.Tensor]], tuple[torch.Tensor, dict[str, float]]]


def datum(answer: list[int]) -> types.Datum:
    tokens = [*PROMPT, *answer]
    weights = [0.0] * (len(PROMPT) - 1) + [1.0] * len(answer)
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": tensor(tokens[1:], "int64"), "weights": tensor(weights)},
    )


DATA = [datum(answer) for pair in PAIRS for answer in pair]


def of_answers(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the answers' log-probabilities: of the chosen ones, and of the rejected ones."""
    sums = torch.stack([row[len(PROMPT) - 1 :].sum() for row in rows])
    return sums[0::2], sums[1::2]


def dpo_loss(reference: list[list[float]]) -> Loss:
    chosen_ref, rejected_ref = of_answers([torch.tensor(row) for row in reference])

    def loss(data: list[types.Datum], rows: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
        chosen, rejected = of_answers(rows)
        margins = BETA * ((chosen - chosen_ref) - (rejected - rejected_ref))
        value = -logsigmoid(margins).mean()
        return value, {"dpo_loss": float(value.detach()), "margin": float(margins.detach().mean())}

    return loss


def orpo_loss(data: list[types.Datum], rows: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
    """The chosen answers' mean negative log-likelihood, and the odds of chosen over rejected."""
    answers = [row[len(PROMPT) - 1 :].mean() for row in rows]
    chosen, rejected = torch.stack(answers[0::2]), torch.stack(answers[1::2])
    odds = (chosen - rejected) - (torch.log1p(-torch.exp(chosen)) - torch.log1p(-torch.exp(rejected)))
    value = -chosen.mean() + ODDS * softplus(-odds).mean()
    return value, {"orpo_loss": float(value.detach()), "margin": float(odds.detach().mean())}


def learn(client: Any, loss: Loss, steps: int) -> list[dict[str, float]]:
    told = []
    for _ in range(steps):
        done = client.forward_backward_custom(DATA, loss).result()
        client.optim_step(types.AdamParams(learning_rate=0.01)).result()
        told.append({name.partition(":")[0]: value for name, value in done.metrics.items()})
    return told


def main(kind: str, base: str, steps: int) -> None:
    loopback.stay()
    if kind == "dpo":
        service = FiretitanServiceClient()
        client = service.create_lora_training_client(base, rank=8, seed=1)
        outputs = client.create_base_training_client(base).forward(DATA, "cross_entropy").result().loss_fn_outputs
        told = learn(client, dpo_loss([list(output["logprobs"].data) for output in outputs]), steps)
        service.close()
    else:
        with trainers(base) as connect:
            told = learn(connect("orpo", rank=8), orpo_loss, steps)
    losses, margins = ([one[name] for one in told] for name in (f"{kind}_loss", "margin"))
    print(json.dumps({"losses": losses, "margins": margins}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
