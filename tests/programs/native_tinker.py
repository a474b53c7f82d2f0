"""A program of tinker's own client: it trains, saves, goes on in another process's place, samples, lists and tidies up.

Usage: native_tinker.py BASE_MODEL STEPS, under `ftsim run --tinker`. Prints one line of JSON.
"""

import json
import sys
import warnings
from importlib.metadata import version
from typing import Any

import tinker
from tinker import types

from tests.programs import loopback
from tests.programs.steps import ROWS, step


def made(client: Any) -> Any:
    """A client, which newer releases give as a future of one."""
    return client.result() if hasattr(client, "result") else client


def main(base: str, steps: int) -> None:
    loopback.stay()
    service = tinker.ServiceClient()
    client = made(service.create_lora_training_client(base_model=base, rank=8, seed=1))
    losses = [-sum(step(client, types)) for _ in range(steps)]
    state = client.save_state(name="half").result().path
    again = made(service.create_training_client_from_state_with_optimizer(state))
    differences = [abs(a - b) for _ in range(2) for a, b in zip(step(client, types), step(again, types), strict=True)]

    sampler = made(client.save_weights_and_get_sampling_client())
    row = types.ModelInput.from_ints(list(ROWS[0]))
    scored = sampler.compute_logprobs(row).result()
    trained = step(client, types)[: len(ROWS[0]) - 1]
    asked = types.SamplingParams(max_tokens=3, temperature=0.0)
    start = types.ModelInput.from_ints(list(ROWS[0][:3]))
    sampled = sampler.sample(start, num_samples=2, sampling_params=asked).result()

    named = client.save_weights_for_sampler(name="half").result().path
    rest = service.create_rest_client()
    run = state.removeprefix("tinker://").partition("/")[0]
    listed = [one.checkpoint_id for one in rest.list_checkpoints(run).result().checkpoints]
    rest.delete_checkpoint_from_tinker_path(named).result()
    left = [one.checkpoint_id for one in rest.list_checkpoints(run).result().checkpoints]
    told = {
        "tinker": version("tinker"),
        "losses": losses,
        "difference": max(differences),
        "scored": max(abs(a - b) for a, b in zip(scored[1:], trained, strict=True)),
        "unscored": scored[0],
        "sampled": [list(map(int, one.tokens)) for one in sampled.sequences],
        "expected": list(ROWS[0][3:]),
        "listed": listed,
        "left": left,
        "runs": len(rest.list_training_runs().result().training_runs),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    warnings.simplefilter("ignore", FutureWarning)  # newer releases announce what they will drop
    main(sys.argv[1], int(sys.argv[2]))
