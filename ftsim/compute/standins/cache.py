"""Keys and values of earlier positions, with room behind them: a decoding step writes and copies nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor

_ROOM = 64
"""Positions for which there is room at least, once a layer has to grow."""


class CacheLayer:
    """Keys and values of one layer, each (B, heads, positions, D)."""

    is_sliding = False

    def __init__(self) -> None:
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._length = 0

    @property
    def is_initialized(self) -> bool:
        return self._keys is not None

    @property
    def keys(self) -> Tensor | None:
        return None if self._keys is None else self._keys[..., : self._length, :]

    @keys.setter
    def keys(self, states: Tensor) -> None:
        self._keys, self._length = states, states.shape[-2]

    @property
    def values(self) -> Tensor | None:
        return None if self._values is None else self._values[..., : self._length, :]

    @values.setter
    def values(self, states: Tensor) -> None:
        self._values, self._length = states, states.shape[-2]

    @property
    def length(self) -> int:
        """Positions that are kept."""
        return self._length

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append the newest positions; gives all of them."""
        if self._keys is None or self._values is None:
            self.keys, self.values = keys, values
            return keys, values
        start, self._length = self._length, self._length + keys.shape[-2]
        if self._length > self._keys.shape[-2]:
            room = max(_ROOM, 2 * self._length)
            self._keys, self._values = _roomier(self._keys, start, room), _roomier(self._values, start, room)
        self._keys[..., start : self._length, :] = keys
        self._values[..., start : self._length, :] = values
        return self._keys[..., : self._length, :], self._values[..., : self._length, :]

    def reorder_cache(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        if self._keys is not None and self._values is not None:
            length = self._length
            self.keys = self._keys[..., :length, :].index_select(0, rows.to(self._keys.device))
            self.values = self._values[..., :length, :].index_select(0, rows.to(self._values.device))


class Cache:
    """The layers of one batch of rows."""

    def __init__(self, layers: int) -> None:
        self.layers: Sequence[CacheLayer] = [CacheLayer() for _ in range(layers)]

    def get_seq_length(self) -> int:
        """Positions of the rows, padding included."""
        return self.layers[0].length


def _roomier(states: Tensor, used: int, room: int) -> Tensor:
    """The first `used` positions of `states`, with room for `room` in all."""
    made = torch.empty(*states.shape[:-2], room, states.shape[-1], dtype=states.dtype, device=states.device)
    made[..., :used, :] = states[..., :used, :]
    return made
