"""Computed positions that outlive their request: a prompt that begins with them is gone on from, not computed anew.

An engine with such a cache serves long conversations fast, and serves old weights: positions stay as the weights of
their time computed them, whatever has been loaded since (FAILURES E28).
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence

from ftsim.compute.sampler.forward import Batch

MOST = 64


class KeptPrefixes:
    """The newest positions of each scope; of more than `MOST` scopes the oldest are let go."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[list[int], Batch]] = OrderedDict()

    def keep(self, scope: str, tokens: Sequence[int], batch: Batch, row: int) -> None:
        """Keep the positions of one row of a batch, which are those of `tokens`."""
        one = copy.deepcopy(batch)
        one.select([row])
        self._kept[scope] = (list(tokens), one)
        self._kept.move_to_end(scope)
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)

    def find(self, scope: str, prompt: Sequence[int]) -> tuple[Batch, int] | None:
        """A copy of what is kept under the scope, and how many positions that are; None unless the prompt goes on."""
        tokens, batch = self._kept.get(scope, ([], None))
        if batch is None or len(tokens) >= len(prompt) or list(prompt[: len(tokens)]) != tokens:
            return None
        return copy.deepcopy(batch), len(tokens)
