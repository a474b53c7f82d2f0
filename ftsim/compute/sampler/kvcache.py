"""A key-value cache of rows with lengths of their own, so that a batch can change between decoding steps.

Row i holds `lengths[i]` positions from the left; nothing is padded, so a row never sees what stands in another one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class RowCache:
    """What a transformers decoder calls during a decoding step: `update` and `get_seq_length`."""

    is_compileable = False

    def __init__(self) -> None:
        self.lengths = torch.zeros(0, dtype=torch.long)  # (B,)
        self._layers: list[tuple[Tensor, Tensor]] = []  # per layer two (B, H, capacity, D)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        return int(self._layers[0][0].shape[2]) if self._layers else 0

    def append(self, layers: Sequence[tuple[Tensor, Tensor]], row: int, length: int, room: int) -> None:
        """Add one row of a prefilled cache, its first `length` positions, and room for as many as `room` in all."""
        if not self._layers:
            self._layers = [(_empty(keys), _empty(values)) for keys, values in layers]
        self._grow(max(length + 1, min(room, length + 64)))
        for index, (new, held) in enumerate(zip(layers, self._layers, strict=True)):
            self._layers[index] = (_added(held[0], new[0][row], length), _added(held[1], new[1][row], length))
        self.lengths = torch.cat([self.lengths, self.lengths.new_tensor([length])])

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, in this order."""
        index = torch.tensor(rows, dtype=torch.long)
        self.lengths = self.lengths[index]
        if len(rows):
            self._layers = [
                (keys[index.to(keys.device)], values[index.to(keys.device)]) for keys, values in self._layers
            ]
        else:
            self._layers = []

    def step(self) -> tuple[Tensor, Tensor]:
        """Make room for one more position per row: its position ids (B, 1) and the mask (B, 1, 1, S) to attend with."""
        positions = self.lengths.clone()
        self.lengths = self.lengths + 1
        longest = int(self.lengths.max())
        self._grow(longest)
        mask = torch.arange(longest)[None] < self.lengths[:, None]
        device = self._layers[0][0].device
        self._rows, self._at, self._longest = torch.arange(len(self)).to(device), positions.to(device), longest
        return positions[:, None].to(device), mask[:, None, None].to(device)

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the (B, H, 1, D) of this step and give back everything the rows may attend to, (B, H, S, D)."""
        held_keys, held_values = self._layers[layer]
        held_keys[self._rows, :, self._at] = keys[:, :, 0]
        held_values[self._rows, :, self._at] = values[:, :, 0]
        return held_keys[:, :, : self._longest], held_values[:, :, : self._longest]

    def get_seq_length(self, layer: int = 0) -> int:
        return int(self.lengths.max()) if len(self) else 0

    def _grow(self, wanted: int) -> None:
        if wanted > self.capacity:
            size = max(wanted, self.capacity + self.capacity // 2)
            self._layers = [(_widened(keys, size), _widened(values, size)) for keys, values in self._layers]


def _empty(like: Tensor) -> Tensor:
    return like.new_zeros((0, like.shape[1], 0, like.shape[3]))


def _widened(tensor: Tensor, size: int) -> Tensor:
    rows, heads, held, width = tensor.shape
    wider = tensor.new_zeros((rows, heads, size, width))
    wider[:, :, :held] = tensor
    return wider


def _added(tensor: Tensor, row: Tensor, length: int) -> Tensor:
    fresh = tensor.new_zeros((1, *tensor.shape[1:]))
    fresh[0, :, :length] = row[:, :length]
    return torch.cat([tensor, fresh])
