"""An optimizer step through the SDK against the same step in PyTorch: hidden 64, 2 layers, 8 rows of 128 tokens."""

import base64
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

from ftsim.tools.bench.measure import Result, ratio
from ftsim.tools.bench.stand import Stand
from ftsim.tools.bench.workload import MOE_MODEL

RANGES = {"weights": (0.5, 1.5), "logprobs": (-9.0, -6.0), "advantages": (-1.0, 1.0)}


def sdk_step(stand: Stand) -> Iterator[Result]:
    """Full-parameter."""
    client = stand.full
    yield ratio("sdk_step", lambda: stand.step(client), lambda: stand.bare.step(stand.rows), 1.4, rounds=40)


def sdk_step_lora(stand: Stand) -> Iterator[Result]:
    """LoRA of rank 8 on every linear layer, the output layer among them."""
    from ftsim.tools.bench.bare import BareTrainer

    client, bare = stand.client("bench-lora", lora_rank=8), BareTrainer(stand.base_folder, lora_rank=8)
    yield ratio("sdk_step_lora", lambda: stand.step(client), lambda: bare.step(stand.rows), 1.4, rounds=40)


def loss_steps(stand: Stand) -> Iterator[Result]:
    """The worst of the server's losses; `parts` has the ratio of each."""
    from fireworks.training.sdk import types

    from ftsim.compute.trainer.losses import LOSSES

    client, bare, drawn = stand.full, stand.bare, random.Random(1)
    parts = {}
    for name, loss in LOSSES.items():
        rows: list[Any] = []
        for row in stand.rows:
            values: dict[str, list[Any]] = {"target_tokens": row[1:]}
            values |= {key: [drawn.uniform(*RANGES[key]) for _ in row[1:]] for key in loss.tensors or ("weights",)}
            rows.append((row[:-1], values))
        datums = [
            types.Datum(
                model_input=types.ModelInput.from_ints(tokens),
                loss_fn_inputs={
                    key: types.TensorData(
                        data=data, dtype="int64" if key == "target_tokens" else "float32", shape=[len(data)]
                    )
                    for key, data in values.items()
                },
            )
            for tokens, values in rows
        ]
        found = ratio(name, partial(stand.step, client, datums, name), partial(bare.step_on, rows, name), 1.5, rounds=9)
        parts[f"{name}_x"] = found.value
    yield Result("loss_steps", max(parts.values()), "x", 1.5, parts=parts)


def router_replay(stand: Stand) -> Iterator[Result]:
    """A step of a mixture of experts on experts that were drawn for it, against the same step on its own choice."""
    from fireworks.training.sdk import types

    from ftsim.compute.models import catalogue

    config = catalogue.shipped_config("qwen3_moe")
    layers, chosen, experts = (config[key] for key in ("num_hidden_layers", "num_experts_per_tok", "num_local_experts"))
    drawn = random.Random(1)

    def routes() -> str:
        choice = bytes(one for _ in range(layers) for one in drawn.sample(range(experts), chosen))
        return base64.b64encode(choice).decode()

    datums = [
        types.Datum(
            model_input=types.ModelInput(
                chunks=datum.model_input.chunks, routing_matrices=[routes() for _ in range(datum.model_input.length)]
            ),
            loss_fn_inputs=datum.loss_fn_inputs,
        )
        for datum in stand.datums
    ]
    client = stand.client("bench-moe", base_model=MOE_MODEL)
    yield ratio("router_replay", lambda: stand.step(client, datums), lambda: stand.step(client), 1.15, rounds=20)
