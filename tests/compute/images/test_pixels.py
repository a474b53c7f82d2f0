"""Patches are those of transformers' own processor; what is no picture, or too large a one, is refused."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emulator.backend import BackendError
from ftsim.compute.images.pixels import Processor
from ftsim.compute.quiet import quiet
from tests.squares import square


@pytest.fixture(scope="module")
def processor(folder: Path) -> Processor:
    return Processor.of(json.loads((folder / "preprocessor_config.json").read_bytes()))


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    """The library's processor on Pillow and NumPy."""
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    with quiet():
        return module.Qwen2VLImageProcessorPil.from_pretrained(folder)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    values = np.random.default_rng(width * height).integers(0, 256, (height, width, *channels), dtype=np.uint8)
    return Image.fromarray(values, mode)


def saved(image: Image.Image, form: str = "PNG", **more: Any) -> bytes:
    place = BytesIO()
    image.save(place, form, **more)
    return place.getvalue()


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("width", "height", "mode", "form"),
    [
        (20, 20, "RGB", "PNG"),
        (300, 260, "RGB", "PNG"),
        (100, 700, "RGB", "JPEG"),
        (37, 7000, "L", "PNG"),
        (513, 511, "RGBA", "PNG"),
        (1, 1, "RGB", "PNG"),
    ],
)
def test_patches_are_those_of_the_library(
    processor: Processor, theirs: Any, width: int, height: int, mode: str, form: str
) -> None:
    data = saved(noise(width, height, mode), form)
    found = processor.picture(data)
    with quiet():
        right = theirs(images=[Image.open(BytesIO(data))], return_tensors="np")
    assert [[1, found.height, found.width]] == right["image_grid_thw"].tolist()
    assert found.patches.shape == right["pixel_values"].shape
    assert np.abs(found.patches - right["pixel_values"]).max() < 1e-6
    assert found.tokens == found.height * found.width // 4


def test_a_picture_stands_as_its_camera_held_it(processor: Processor) -> None:
    lying = noise(600, 300)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    found = processor.picture(saved(lying, exif=exif))
    upright = processor.picture(saved(lying.transpose(Image.Transpose.ROTATE_270)))
    assert (found.height, found.width) == (upright.height, upright.width)
    assert np.array_equal(found.patches, upright.patches)


def test_a_large_picture_is_shrunk_where_the_settings_say_so(processor: Processor) -> None:
    from dataclasses import replace

    assert replace(processor, most=256 * 256).size(1000, 500) == (352, 160)
    assert processor.size(1000, 500) == (992, 512)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no PNG or JPEG that opens"),
        (b"hello", r"no PNG or JPEG that opens: its first bytes are of neither$"),
        (square("red")[:-30], "no PNG or JPEG that opens"),
        (square("red", form="GIF"), "no PNG or JPEG that opens"),
        (square("red", (2000, 1049)), "make it smaller"),
        (square("red", (2010, 10)), "more than 200 times longer"),
    ],
)
def test_what_is_no_picture_or_too_large_is_refused(processor: Processor, data: bytes, said: str) -> None:
    with pytest.raises(BackendError, match=said):
        processor.picture(data)


def test_settings_of_another_family_are_refused_by_name() -> None:
    with pytest.raises(BackendError, match=r"preprocessor_config.json is not that of Qwen3-VL"):
        Processor.of({"crop_size": 224})
