"""Tokens drawn of a prompt with images are what transformers computes of it, alone and among others."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emulator.backend import BackendError, GenerateRequest, Generation
from emulator.core.images import PLACE, TEXT_ALONE
from ftsim.compute.checkpoints.source import open_model, small_files
from ftsim.compute.images.sight import Sight
from ftsim.compute.sampler.replica import TorchReplica
from tests.squares import SEES, TOKENS, square

ASKED = f"<|im_start|>user\n{PLACE}What colour?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def seeing(bases: Callable[[str], Path]) -> Iterator[TorchReplica]:
    replica = TorchReplica(bases(SEES), max_context_length=1024)
    yield replica
    replica.close()


def asked(replica: TorchReplica, *images: bytes, **more: Any) -> GenerateRequest:
    prompt = replica.expand(replica.encode(ASKED * len(images)), images)
    return GenerateRequest(prompt, images=images, **{"max_tokens": 12, "seed": 3, **more})


def told(found: Generation) -> list[tuple[int, float]]:
    return [(token.token_id, token.logprob) for token in found.tokens]


def right(folder: Path, request: GenerateRequest, drawn: Sequence[int]) -> torch.Tensor:
    """Log-probabilities (T, V) of transformers' own forward, which finds the positions by itself."""
    model = open_model(folder, torch.float64)
    sight = Sight.of(small_files(folder))
    assert sight is not None
    pictures = [sight.picture(one) for one in request.images]
    ids = torch.tensor([[*request.prompt, *drawn]])
    with torch.inference_mode():
        logits = model(
            input_ids=ids,
            pixel_values=torch.from_numpy(np.concatenate([one.patches for one in pictures])),
            image_grid_thw=torch.tensor([[1, one.height, one.width] for one in pictures]),
            mm_token_type_ids=(ids == sight.pad).long(),
        ).logits
    return torch.log_softmax(logits[0], -1)


@pytest.mark.parametrize("images", [[square("red")], [square("blue", (640, 320)), square("green")]])
def test_log_probabilities_are_those_of_transformers(
    bases: Callable[[str], Path], seeing: TorchReplica, images: list[bytes]
) -> None:
    request = asked(seeing, *images, echo=True)
    found = seeing.generate(request).result()
    drawn = [token.token_id for token in found.tokens]
    expected = right(bases(SEES), request, drawn)
    both = [*found.prompt_tokens, *found.tokens]
    assert [token.token_id for token in both] == [*request.prompt, *drawn]
    wanted = expected[:-1].gather(1, torch.tensor([token.token_id for token in both[1:]])[:, None])[:, 0]
    off = torch.tensor([token.logprob for token in both[1:]], dtype=torch.float64) - wanted
    assert float(off.abs().max()) < 1e-5


def test_another_picture_is_answered_otherwise_and_the_same_one_alike(seeing: TorchReplica) -> None:
    red, again, blue = (seeing.generate(asked(seeing, square(one))).result() for one in ("red", "red", "blue"))
    assert told(red) == told(again)
    assert red.tokens[0].logprob != blue.tokens[0].logprob
    assert len(asked(seeing, square("red")).prompt) == len(seeing.encode(ASKED)) - 1 + TOKENS


def test_streams_of_text_and_of_images_share_steps_and_leave_no_trace(seeing: TorchReplica) -> None:
    text = [GenerateRequest(seeing.encode("The days are" + " and" * n), max_tokens=40, seed=n) for n in range(3)]
    seen = [asked(seeing, square(colour), max_tokens=40) for colour in ("red", "blue", "red")]
    alone = [told(seeing.generate(one).result()) for one in (*text, *seen)]
    together = [seeing.generate(one) for one in (*text, *seen)]
    assert [told(one.result()) for one in together] == alone
    crowd = max(one.result().metrics["num-concurrent-requests"] for one in together)
    assert crowd > 2  # they did meet


def test_kept_positions_are_never_those_of_another_image(seeing: TorchReplica) -> None:
    first, other = asked(seeing, square("red"), prefix="s"), asked(seeing, square("blue"), prefix="s")
    seeing.generate(first).result()
    longer = GenerateRequest([*other.prompt, 5, 6], images=other.images, max_tokens=4, seed=1, prefix="s")
    plain = GenerateRequest(longer.prompt, images=other.images, max_tokens=4, seed=1)
    assert told(seeing.generate(longer).result()) == told(seeing.generate(plain).result())


def test_text_is_read_as_by_the_model_without_eyes(seeing: TorchReplica, shared: TorchReplica) -> None:
    request = GenerateRequest(seeing.encode("The days are Monday,"), max_tokens=12, seed=2)
    both = [told(replica.generate(request).result()) for replica in (seeing, shared)]
    assert [token for token, _ in both[0]] == [token for token, _ in both[1]]
    assert max(abs(a - b) for (_, a), (_, b) in zip(*both, strict=True)) < 1e-5


def test_what_has_no_eyes_refuses_and_every_place_needs_an_image(seeing: TorchReplica, shared: TorchReplica) -> None:
    for ask in (
        lambda: shared.expand([1], [square("red")]),
        lambda: shared.generate(GenerateRequest([1], images=[square("red")])),
    ):
        with pytest.raises(BackendError, match=TEXT_ALONE):
            ask()
    with pytest.raises(BackendError, match="1 places"):
        seeing.generate(GenerateRequest(seeing.encode(ASKED), images=[square("red")]))
    with pytest.raises(BackendError, match="opens"):
        seeing.expand(seeing.encode(ASKED), [b"none"])
