"""A model that sees: which of its tokens stand for images, and what its forward is given beside the token ids."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emulator.backend import BackendError
from emulator.core.images import PAD
from ftsim.compute.images.pixels import Picture, Processor

SEEING = ("qwen3_vl",)
"""Model types that are opened with the tower that sees."""
Array = npt.NDArray[Any]
Row = tuple[Array, Sequence[Picture]]
"""Token ids (T,), and the pictures whose places are among them."""


def sees(settings: Any) -> bool:
    """Tell whether the model with this config.json is opened with its tower; of other families text is all."""
    return isinstance(settings, Mapping) and settings.get("model_type") in SEEING


class Sight:
    """The eyes of one model, without its weights."""

    def __init__(self, config: Mapping[str, Any], processor: Mapping[str, Any]) -> None:
        self.pad = int(config["image_token_id"])
        """The token that stands for a part of an image."""
        self._processor = Processor.of(processor)

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> "Sight | None":
        """The eyes of the model beside these small files; None for one that reads text alone."""
        config = json.loads(files.get("config.json", b"{}"))
        if not sees(config) or "preprocessor_config.json" not in files:
            return None
        return cls(config, json.loads(files["preprocessor_config.json"]))

    def picture(self, data: bytes) -> Picture:
        """Read an image; raises `BackendError`."""
        return self._processor.picture(data)

    def expand(self, prompt: Sequence[int], pictures: Sequence[Picture]) -> list[int]:
        """The prompt with each place of an image repeated for its tokens; raises `BackendError` unless all have one."""
        places = sum(token == self.pad for token in prompt)
        if places != len(pictures):
            raise BackendError(
                f"the prompt has {places} places for images ({PAD}), and {len(pictures)} images came: send one for each"
            )
        each = iter(pictures)
        return [one for token in prompt for one in ([token] * next(each).tokens if token == self.pad else [token])]

    def check(self, prompt: Sequence[int], pictures: Sequence[Picture]) -> None:
        """Raise `BackendError` unless there is a place for every token of every picture."""
        places, needed = sum(token == self.pad for token in prompt), sum(one.tokens for one in pictures)
        if places != needed:
            raise BackendError(f"the prompt has {places} places ({PAD}) for the {needed} tokens of its images")

    def positions(self, tokens: Array, pictures: Sequence[Picture]) -> Array:
        """Three positions (3, T) of every token: those of an image count its frames, rows and columns.

        An image takes as many positions as its longer side has tokens, wherever its tokens stand in the row.
        """
        places = np.empty((3, len(tokens)), dtype=np.int64)
        at = start = 0
        waiting = list(pictures)
        while at < len(tokens):
            if tokens[at] != self.pad or not waiting:
                places[:, at], at, start = start, at + 1, start + 1
                continue
            one = waiting.pop(0)
            rows, columns = one.height // self._merged, one.width // self._merged
            places[0, at : at + one.tokens] = start
            places[1, at : at + one.tokens] = start + np.repeat(np.arange(rows), columns)
            places[2, at : at + one.tokens] = start + np.tile(np.arange(columns), rows)
            at, start = at + one.tokens, start + max(rows, columns)
        return places

    @property
    def _merged(self) -> int:
        return self._processor.merged

    def inputs(self, rows: Sequence[Row], width: int, device: torch.device) -> dict[str, Tensor]:
        """The inputs of the forward beside the token ids of `rows`, padded on the right to `width`; there is a picture.

        `position_ids` (3, B, width), `pixel_values` (patches of all, numbers of a patch), `image_grid_thw` (images, 3).
        """
        positions = np.zeros((3, len(rows), width), dtype=np.int64)
        for index, (tokens, pictures) in enumerate(rows):
            positions[:, index, : len(tokens)] = self.positions(tokens, pictures)
        pictures = [one for _, row in rows for one in row]
        made = {
            "position_ids": torch.from_numpy(positions),
            "pixel_values": torch.from_numpy(np.concatenate([one.patches for one in pictures])),
            "image_grid_thw": torch.tensor([[1, one.height, one.width] for one in pictures]),
        }
        return {name: value.to(device) for name, value in made.items()}
