"""The model input of a datum: chunks of tokens and of images, and what its loss tensors say of the places of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.backend import BackendError
from emulator.core import images
from ftsim.compute.images.pixels import Picture
from ftsim.compute.images.sight import Sight

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Read:
    """Token ids (T,) with a place for every token of every picture, and the pictures, in order."""

    tokens: Array
    pictures: Sequence[Picture] = ()
    seen: Array = field(default_factory=lambda: np.zeros(0, dtype=bool))
    """True at the places of pictures (T,); empty where there are none."""

    @property
    def text(self) -> int:
        """The number of tokens that are no part of a picture."""
        return len(self.tokens) - int(self.seen.sum())

    def spread(self, tensor: Array) -> Array:
        """A tensor over the tokens of the text, 0 at the places of pictures: over all tokens."""
        if not self.pictures or len(tensor) != self.text:
            return tensor
        whole = np.zeros((len(self.tokens), *tensor.shape[1:]), dtype=tensor.dtype)
        whole[~self.seen] = tensor
        return whole

    @property
    def before(self) -> Array:
        """True where a picture's token comes next (T,): there is no token that could be learned."""
        return np.append(self.seen[1:], False)


def read(chunks: Any, sight: Sight | None) -> Read:
    """The chunks of a model input, which `sight` sees the images of; raises `BackendError`."""
    if not isinstance(chunks, list) or not chunks:
        raise BackendError("'model_input' needs at least one chunk")
    parts: list[Array] = []
    pictures: list[Picture] = []
    seen: list[Array] = []
    for chunk in chunks:
        kind = chunk.get("type") if isinstance(chunk, Mapping) else None
        if str(kind).startswith("image"):
            pictures.append(_picture(chunk, str(kind), sight))
            parts.append(np.full(pictures[-1].tokens, sight.pad if sight else 0, dtype=np.int64))
        elif isinstance(chunk, Mapping) and "tokens" in chunk:
            parts.append(numbers(chunk["tokens"], "tokens", integer=True))
        else:
            raise BackendError(f"a {kind!r} chunk is not read here; use 'encoded_text' chunks with 'tokens'")
        seen.append(np.full(len(parts[-1]), str(kind).startswith("image")))
    tokens = np.concatenate(parts)
    if sight is None or not pictures:
        return Read(tokens)
    places = np.concatenate(seen)
    if (tokens[~places] == sight.pad).any():
        raise BackendError(f"a text chunk has the token {images.PAD}, which stands for an image: leave it out")
    return Read(tokens, tuple(pictures), places)


def _picture(chunk: Mapping[str, Any], kind: str, sight: Sight | None) -> Picture:
    if sight is None:
        raise BackendError(images.TEXT_ALONE)
    if kind != "image":
        raise BackendError(f"a chunk of type {kind[:40]!r}: nothing is fetched here, send the image in a chunk 'image'")
    if chunk.get("override_dimensions"):
        raise BackendError("override_dimensions of an image: send the image in the size that it is to have")
    try:
        picture = sight.picture(images.of_base64(chunk.get("data"), chunk.get("format")))
        images.check_expected(picture.tokens, chunk.get("expected_tokens"))
    except images.ImageError as error:
        raise BackendError(str(error)) from None
    return picture


def check_places(read: Read, acting: Array | None, name: str) -> None:
    """Raise `BackendError` where a loss would train a token of a picture: there is none to be learned."""
    if read.pictures and (acting is None or bool((acting != 0)[read.before].any())):
        raise BackendError(f"{name!r} must be 0 where an image comes next: no token is predicted there")


def numbers(values: Any, name: str, *, integer: bool) -> Array:
    """A flat list of numbers, whole ones as int64 and others as float32; raises `BackendError`."""
    try:
        array = np.asarray(values if isinstance(values, list) else None)
    except (ValueError, OverflowError):
        array = np.asarray(None)
    if isinstance(values, list) and not values:
        array = np.zeros(0, dtype=np.int64)
    if array.dtype.kind not in "iuf" or array.ndim != 1:
        raise BackendError(f"{name!r} must be a flat list of numbers")
    if integer:
        whole = array.dtype.kind != "f" or bool((array == np.floor(array)).all() and (abs(array) < 2**53).all())
        if not whole or array.dtype.kind == "u":
            raise BackendError(f"{name!r} must hold whole numbers")
        return array.astype(np.int64, copy=False)
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        raise BackendError(f"{name!r} holds NaN or infinity")
    return single
