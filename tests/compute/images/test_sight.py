"""Places and positions of images in a prompt are those that transformers finds."""

from typing import Any

import numpy as np
import pytest
import torch

from emulator.backend import BackendError
from ftsim.compute.images.sight import Sight, sees
from tests.squares import TOKENS, square


def test_each_place_becomes_as_many_tokens_as_its_image_has(sight: Sight) -> None:
    small, wide = sight.picture(square("red")), sight.picture(square("blue", (640, 320)))
    assert (small.tokens, wide.tokens) == (TOKENS, 200)
    prompt = [5, sight.pad, 6, sight.pad]
    assert sight.expand(prompt, [small, wide]) == [5, *[sight.pad] * TOKENS, 6, *[sight.pad] * 200]
    for pictures in ([], [small], [small] * 3):
        with pytest.raises(BackendError, match="2 places for images"):
            sight.expand(prompt, pictures)
    with pytest.raises(BackendError, match="for the 64 tokens of its images"):
        sight.check(prompt, [small])


def test_positions_are_those_of_the_library(sight: Sight, library: Any) -> None:
    pictures = [sight.picture(square("red")), sight.picture(square("blue", (640, 320)))]
    tokens = np.asarray(sight.expand([5, sight.pad, 6, 7, sight.pad, 8, 9], pictures))
    made = sight.inputs([(tokens, pictures)], len(tokens), torch.device("cpu"))
    right, _ = library.model.get_rope_index(
        torch.from_numpy(tokens)[None],
        mm_token_type_ids=torch.from_numpy(tokens == sight.pad).long()[None],
        image_grid_thw=made["image_grid_thw"],
    )
    assert torch.equal(made["position_ids"], right)


def test_two_images_side_by_side_have_positions_of_their_own(sight: Sight) -> None:
    pictures = [sight.picture(square("red"))] * 2
    alone = sight.positions(np.full(TOKENS, sight.pad), pictures[:1])
    both = sight.positions(np.full(2 * TOKENS, sight.pad), pictures)
    assert np.array_equal(both[:, TOKENS:], alone + 8)


def test_a_model_that_reads_text_alone_has_no_eyes() -> None:
    assert Sight.of({"config.json": b'{"model_type": "qwen3"}', "preprocessor_config.json": b"{}"}) is None
    assert Sight.of({}) is None
    assert not sees(["qwen3_vl"])
