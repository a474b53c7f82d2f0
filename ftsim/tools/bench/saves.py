"""Saves and loads through the SDK against the same weights written bare, at hidden 64 and at 40 MB of weights.

The bare side asks as much as the vendor's client does: `round_trips_ms` is what a save takes that is refused, of a
small one a large part. `without_requests_x` is the ratio without them.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor

from ftsim.tools.bench.measure import Result, milliseconds, ratio, round_trips
from ftsim.tools.bench.stand import Stand

NO_NAME = "-"
"""A name that no checkpoint may have."""

_numbers = count(1)


def save_state(stand: Stand) -> Iterator[Result]:
    """Weights and optimizer as a `torch.distributed.checkpoint` folder."""
    _stepped(stand)
    client, folder = stand.full, _place(stand)
    found = ratio(
        "save_state",
        lambda: client.save_state(f"state-{next(_numbers)}").result(),
        lambda: stand.bare.save_state(folder / f"state-{next(_numbers)}"),
        1.3,
    )
    yield found.with_requests(refused_save(client))


def save_sampler(stand: Stand) -> Iterator[Result]:
    """Full weights as a Hugging Face folder, against one synced safetensors file."""
    yield _sampler("save_sampler", stand, lambda to: stand.bare.save_safetensors(to.with_suffix(".safetensors")), 1.3)


def save_sampler_folder(stand: Stand) -> Iterator[Result]:
    """The same, against `save_pretrained` of model and tokenizer, which writes the same files."""
    yield _sampler("save_sampler_folder", stand, stand.bare.save_pretrained, None)


def save_sampler_40mb(stand: Stand) -> Iterator[Result]:
    """As `save_sampler`, where bytes weigh more than the requests."""
    yield replace(next(save_sampler(stand.large)), name="save_sampler_40mb")


def _sampler(name: str, stand: Stand, bare: Callable[[Path], object], target: float | None) -> Result:
    _stepped(stand)
    client, folder = stand.full, _place(stand)
    found = ratio(
        name,
        lambda: client.save_weights_for_sampler_ext(f"sampler-{next(_numbers)}", checkpoint_type="base"),
        lambda: bare(folder / f"sampler-{next(_numbers)}"),
        target,
    )
    return found.with_requests(refused_save(client))


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
    """A delta over the snapshot before, against the vendor's codec alone, which syncs nothing."""
    yield _delta("save_delta", stand, stand.bare.compress_delta, 1.3)


def save_delta_folder(stand: Stand) -> Iterator[Result]:
    """The same, against the codec writing the same folder as durably."""
    yield _delta("save_delta_folder", stand, partial(stand.bare.save_delta, base=stand.base_folder), None)


def save_delta_40mb(stand: Stand) -> Iterator[Result]:
    """As `save_delta`, where bytes weigh more than the requests."""
    yield _delta("save_delta_40mb", stand.large, stand.large.bare.compress_delta, 1.3, rounds=8)


def _delta(
    name: str,
    stand: Stand,
    bare_delta: Callable[[dict[str, Tensor], Path], object],
    target: float | None,
    rounds: int = 13,
) -> Result:
    _stepped(stand)
    client, bare, folder = stand.full, stand.bare, _place(stand)
    client.save_weights_for_sampler_ext(f"delta-base-{next(_numbers)}", checkpoint_type="base")
    old = {key: value.clone() for key, value in bare.weights().items()}
    bare.step(stand.rows)
    ours, theirs = [], []
    for number in (next(_numbers) for _ in range(rounds)):
        stand.step(client)  # not timed: a delta of nothing would be no delta
        ours.append(milliseconds(partial(client.save_weights_for_sampler_ext, f"d-{number}", checkpoint_type="delta")))
        theirs.append(milliseconds(partial(bare_delta, old, folder / f"d-{number}")))
    one, other = statistics.median(ours[3:]), statistics.median(theirs[3:])
    found = Result(name, one / other, "x", target, parts={"emulated_ms": one, "codec_ms": other})
    return found.with_requests(refused_save(client), bare="codec_ms")


def refused_save(client: Any) -> float:
    """Always of the sampler kind: both take two requests, but a refused `save_state` also waits for telemetry."""
    return round_trips(lambda: client.save_weights_for_sampler_ext(NO_NAME, checkpoint_type="base"))


def _stepped(stand: Stand) -> None:
    """Both sides have moments to save."""
    stand.step(stand.full)
    stand.bare.step(stand.rows)


def _place(stand: Stand) -> Path:
    folder = stand.folder / "bare"
    folder.mkdir(exist_ok=True)
    return folder
