"""An optimizer step through the SDK against the same step in PyTorch: hidden 64, 2 layers, 8 rows of 128 tokens."""

from collections.abc import Iterator

from ftsim.bench.measure import Result, ratio
from ftsim.bench.stand import Stand


def sdk_step(stand: Stand) -> Iterator[Result]:
    """Full-parameter."""
    client = stand.full
    yield ratio("sdk_step", lambda: stand.step(client), lambda: stand.bare.step(stand.rows), 1.4, rounds=40)


def sdk_step_lora(stand: Stand) -> Iterator[Result]:
    """LoRA of rank 8 on every linear layer."""
    from ftsim.bench.bare import BareTrainer

    client, bare = stand.client("bench-lora", lora_rank=8), BareTrainer(stand.base_folder, lora_rank=8)
    yield ratio("sdk_step_lora", lambda: stand.step(client), lambda: bare.step(stand.rows), 1.4, rounds=40)
