"""Rows that join a running batch leave the numbers of all rows as they are, whoever has the longer past."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ftsim.compute.checkpoints.source import open_model
from ftsim.compute.sampler.forward import Batch, Forward
from ftsim.compute.sampler.precision import widen
from tests.compute.sampler.conftest import FAMILIES

SHORT, LONG = [11, 12, 13], [*range(40, 60)]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("longer_joins", [True, False])
def test_a_join_after_some_steps_changes_no_logits(bases: Callable[[str], Path], name: str, longer_joins: bool) -> None:
    """By then the cache has room behind its positions, which must not be taken for positions."""
    model = open_model(bases(name), torch.float32)
    forward = Forward(widen(model))
    first, second = (SHORT, LONG) if longer_joins else (LONG, SHORT)
    with torch.inference_mode():
        said = [*first]
        running, _ = forward.prefill([first])
        for token in (21, 22, 23):
            forward.step(running, torch.tensor([token]))
            said.append(token)
        joining: Batch = forward.prefill([second])[0]
        running.join(joining)
        found = forward.step(running, torch.tensor([31, 32]))
        right = torch.cat([forward._anew([*said, 31])[:, -1], forward._anew([*second, 32])[:, -1]])
    torch.testing.assert_close(found, right, rtol=0, atol=1e-9 * float(right.abs().max()))
