"""Long prompts that are computed in pieces, between decoding steps: nobody waits for the whole of another's prompt."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ftsim.compute.sampler.forward import Batch, Forward
from ftsim.compute.sampler.row import Row

LONG = 512
"""Tokens of a prompt from which on it is computed in pieces; always, so that its numbers do not depend on others."""
_WORK = 1 << 17
"""Positions of a piece times the positions that they look at: some milliseconds of a small model."""
MOST, _LEAST = 256, 16
"""Positions of a piece, whatever it looks at."""


@dataclass(eq=False)
class Begun:
    """A prompt that is being computed, for rows that all have it."""

    rows: list[Row]
    batch: Batch = field(default_factory=lambda: Batch(None, torch.zeros(1, dtype=torch.long), []))

    @property
    def prompt(self) -> Sequence[int]:
        return self.rows[0].request.prompt

    def advance(self, forward: Forward) -> Tensor | None:
        """Compute one more piece; gives the logits (1, V) behind the last one."""
        started, done = time.perf_counter(), self.batch.columns
        size = max(_LEAST, min(MOST, _WORK // max(1, done)))
        logits = forward.extend(self.batch, torch.tensor([self.prompt[done : done + size]]))
        for order, row in enumerate(self.rows):
            row.prefill_started = row.prefill_started or started
            row.prefilled, row.shared = time.perf_counter(), order > 0
        return logits if self.batch.columns == len(self.prompt) else None


def apart(group: Sequence[list[Row]]) -> tuple[list[list[Row]], list[list[Row]]]:
    """Those prompts of a group that are computed in pieces, and the others; each with all its rows."""
    return [rows for rows in group if _is_long(rows)], [rows for rows in group if not _is_long(rows)]


def _is_long(rows: Sequence[Row]) -> bool:
    """Tell whether rows of one prompt want nothing of its positions, of which there are many."""
    first = rows[0]
    told = any(row.echoed or row.request.routing or row.request.prefix or row.limit < 1 for row in rows)
    return len(first.request.prompt) > LONG and not told
