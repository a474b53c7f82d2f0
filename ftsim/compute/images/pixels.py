"""From a PNG or a JPEG to patches, as the image processor of Qwen2-VL and Qwen3-VL cuts them.

The library has the same in `Qwen2VLImageProcessor`, under names that differ from release to release; a test compares
the two, number by number. Pillow decodes, and is imported with the first image.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.backend import BackendError
from emulator.core.limits import IMAGE_PIXELS
from ftsim.compute.quiet import quiet

Array = npt.NDArray[np.float32]
_LONGEST = 200
"""How many times longer than wide an image may be: the family's own processor takes no other."""


class Picture(NamedTuple):
    """An image as a model takes it: `patches` (height * width, numbers of a patch), sizes in patches."""

    patches: Array
    height: int
    width: int
    tokens: int
    """Places in a prompt."""


@dataclass(frozen=True)
class Processor:
    """The settings of preprocessor_config.json that decide: sizes in pixels, `merged` in patches to a side."""

    patch: int
    frames: int
    merged: int
    fewest: int
    most: int
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Processor":
        """Read the file's content; raises `BackendError` for one that another family wrote."""
        try:
            size = settings["size"]
            return cls(
                int(settings["patch_size"]),
                int(settings["temporal_patch_size"]),
                int(settings["merge_size"]),
                int(size["shortest_edge"]),
                int(size["longest_edge"]),
                np.asarray(settings["image_mean"], dtype=np.float32),
                np.asarray(settings["image_std"], dtype=np.float32),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BackendError(f"preprocessor_config.json is not that of Qwen3-VL: {error!r}") from None

    def picture(self, data: bytes) -> Picture:
        """Decode, resize and cut an image; raises `BackendError` for what is none, or is too large or too long."""
        pixels = self._pixels(data)  # (H, W, 3)
        height, width = pixels.shape[0] // self.patch, pixels.shape[1] // self.patch
        scaled = (pixels.astype(np.float32) * np.float32(1 / 255) - self.mean) / self.deviation
        side = self.merged, self.patch
        cut = scaled.reshape(height // self.merged, *side, width // self.merged, *side, 3)
        # Patches that are merged stand together; a patch is channels, frames (all alike), rows, columns.
        ordered = cut.transpose(0, 3, 1, 4, 6, 2, 5).reshape(height * width, 3, 1, self.patch, self.patch)
        patches = np.repeat(ordered, self.frames, axis=2).reshape(height * width, -1)
        return Picture(patches, height, width, height * width // self.merged**2)

    def _pixels(self, data: bytes) -> npt.NDArray[np.uint8]:
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            with quiet(), Image.open(BytesIO(data), formats=("PNG", "JPEG")) as opened:
                size = self.size(*opened.size)
                upright = ImageOps.exif_transpose(opened)
                if upright.size != opened.size:
                    size = size[::-1]
                if "A" in upright.getbands() or upright.info.get("transparency") is not None:  # seen before white
                    white = Image.new("RGBA", upright.size, (255, 255, 255, 255))
                    upright = Image.alpha_composite(white, upright.convert("RGBA"))
                return np.asarray(upright.convert("RGB").resize(size, Image.Resampling.BICUBIC))
        except BackendError:
            raise
        except UnidentifiedImageError:
            raise BackendError("an image is no PNG or JPEG that opens: its first bytes are of neither") from None
        except Exception as error:  # Pillow's decoders raise many types for bytes that are no whole image
            raise BackendError(f"an image is no PNG or JPEG that opens: {str(error)[:200]}") from None

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels that an image is resized to: whole tokens, as many as the settings allow."""
        if width * height > IMAGE_PIXELS.value:
            raise BackendError(
                f"an image has {width} x {height} pixels, at most {IMAGE_PIXELS.value} are taken: make it smaller"
            )
        if max(width, height) > _LONGEST * min(width, height):
            raise BackendError(f"an image of {width} x {height} pixels is more than {_LONGEST} times longer than wide")
        unit = self.patch * self.merged
        rows, columns = round(height / unit), round(width / unit)
        if rows * columns * unit**2 > self.most:
            shrunk = math.sqrt(height * width / self.most)
            rows, columns = (max(1, math.floor(length / shrunk / unit)) for length in (height, width))
        elif rows * columns * unit**2 < self.fewest:
            grown = math.sqrt(self.fewest / (height * width))
            rows, columns = (math.ceil(length * grown / unit) for length in (height, width))
        return columns * unit, rows * unit
