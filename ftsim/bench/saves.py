"""Saves and loads through the SDK against the same files written bare, equally durable."""

import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from ftsim.bench.measure import Result, milliseconds, ratio
from ftsim.bench.stand import Stand

_numbers = count(1)


def save_state(stand: Stand) -> Iterator[Result]:
    """Weights and optimizer as a `torch.distributed.checkpoint` folder."""
    _stepped(stand)
    client, folder = stand.full, _place(stand)
    yield ratio(
        "save_state",
        lambda: client.save_state(f"state-{next(_numbers)}").result(),
        lambda: stand.bare.save_state(folder / f"state-{next(_numbers)}"),
        1.3,
    )


def save_sampler(stand: Stand) -> Iterator[Result]:
    """Full weights as a Hugging Face folder, against `save_pretrained` of model and tokenizer."""
    _stepped(stand)
    client, folder = stand.full, _place(stand)
    found = ratio(
        "save_sampler",
        lambda: client.save_weights_for_sampler_ext(f"sampler-{next(_numbers)}", checkpoint_type="base"),
        lambda: stand.bare.save_pretrained(folder / f"sampler-{next(_numbers)}"),
        1.3,
    )
    alone = [milliseconds(lambda: stand.bare.save_safetensors(folder / "alone.safetensors")) for _ in range(9)]
    yield replace(found, parts=dict(found.parts) | {"safetensors_alone_ms": statistics.median(alone)})


def load_state(stand: Stand) -> Iterator[Result]:
    """Weights and optimizer back from a `torch.distributed.checkpoint` folder."""
    _stepped(stand)
    client, folder = stand.full, _place(stand) / "to-load"
    client.save_state("to-load").result()
    stand.bare.save_state(folder)
    yield ratio(
        "load_state",
        lambda: client.load_state_with_optimizer("to-load").result(),
        lambda: stand.bare.load_state(folder),
        1.3,
    )


def save_delta(stand: Stand) -> Iterator[Result]:
    """A delta over the snapshot before, against the vendor's codec writing the same folder."""
    _stepped(stand)
    client, bare, folder = stand.full, stand.bare, _place(stand)
    client.save_weights_for_sampler_ext("delta-base", checkpoint_type="base")
    old = {name: value.clone() for name, value in bare.weights().items()}
    bare.step(stand.rows)
    ours, theirs = [], []
    for turn in range(18):
        stand.step(client)  # not timed: a delta of nothing would be no delta
        ours.append(milliseconds(partial(client.save_weights_for_sampler_ext, f"d-{turn}", checkpoint_type="delta")))
        theirs.append(milliseconds(partial(bare.save_delta, old, folder / f"d-{turn}", stand.base_folder)))
    one, other = statistics.median(ours[3:]), statistics.median(theirs[3:])
    yield Result("save_delta", one / other, "x", 1.3, parts={"emulated_ms": one, "codec_ms": other})


def _stepped(stand: Stand) -> None:
    """Both sides have moments to save."""
    stand.step(stand.full)
    stand.bare.step(stand.rows)


def _place(stand: Stand) -> Path:
    folder = stand.folder / "bare"
    folder.mkdir(exist_ok=True)
    return folder
