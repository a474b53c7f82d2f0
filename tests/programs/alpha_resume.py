"""A serverless run with alpha 64: saved with its optimizer, gone on with by another client to the same numbers.

Usage: alpha_resume.py BASE_MODEL STEPS. Prints one line of JSON.
"""

import json
import sys
from inspect import signature

from fireworks.training.sdk.client import FiretitanServiceClient

from tests.programs import loopback
from tests.programs.steps import close, step
from tests.sdk import types


def main(base: str, steps: int) -> None:
    loopback.stay()
    service = FiretitanServiceClient()
    known = "alpha" in signature(service.create_lora_training_client).parameters  # since 1.2
    first = service.create_lora_training_client(base, rank=4, **({"alpha": 64} if known else {}))
    losses = [-sum(step(first, types)) for _ in range(steps)]
    path = first.save_state("step-1").result().path
    other = FiretitanServiceClient()
    second = other.create_training_client_from_state_with_optimizer(path)
    differences = [abs(a - b) for _ in range(3) for a, b in zip(step(first, types), step(second, types), strict=True)]
    print(json.dumps({"alpha": known, "losses": losses, "difference": max(differences)}))
    close(service)
    close(other)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
