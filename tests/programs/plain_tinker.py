"""Supervised training with tinker alone: trained, saved, gone on with by another run to the same numbers.

Usage: plain_tinker.py BASE_MODEL STEPS. Prints one line of JSON.
"""

import json
import sys
from importlib.metadata import version

import tinker
from tinker import types

from tests.programs import loopback
from tests.programs.steps import step


def main(base: str, steps: int) -> None:
    loopback.stay()
    service = tinker.ServiceClient()
    client = service.create_lora_training_client(base_model=base, rank=8, seed=1)
    losses = [-sum(step(client, types)) for _ in range(steps)]
    state = client.save_state(name="half").result().path
    again = service.create_lora_training_client(base_model=base, rank=8, seed=2)
    loading = getattr(again, "load_state_with_optimizer", again.load_state)
    loading(state).result()
    differences = [abs(a - b) for _ in range(2) for a, b in zip(step(client, types), step(again, types), strict=True)]
    path = client.save_weights_for_sampler(name="end").result().path
    told = {"tinker": version("tinker"), "losses": losses, "difference": max(differences), "path": path}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
