"""Images of requests, between the engine and the model that sees them."""

import dataclasses

import numpy as np
import torch

from emulator.backend import BackendError, GenerateRequest
from emulator.core.images import TEXT_ALONE
from ftsim.compute.images.pixels import Picture
from ftsim.compute.images.sight import Sight
from ftsim.compute.sampler.forward import Seen
from ftsim.compute.sampler.row import Row


class Eyes:
    """Reads images for one model; without `sight` it reads text alone."""

    def __init__(self, sight: Sight | None) -> None:
        self._sight = sight

    def look(self, request: GenerateRequest) -> tuple[GenerateRequest, list[Picture]]:
        """Decode the images of a request, in the thread of whoever asks; raises `BackendError`.

        Positions are kept by their tokens, which are the same for every image: a request with any keeps none.
        """
        if not request.images:
            return request, []
        if self._sight is None:
            raise BackendError(TEXT_ALONE)
        pictures = [self._sight.picture(one) for one in request.images]
        self._sight.check(request.prompt, pictures)
        return dataclasses.replace(request, prefix=""), pictures

    def seen(self, row: Row, device: torch.device) -> Seen:
        """The inputs of the forward beside the prompt of a row: nothing for text alone."""
        if self._sight is None or not row.pictures:
            return {}
        prompt = np.asarray(row.request.prompt)
        return self._sight.inputs([(prompt, row.pictures)], len(prompt), device)


BLIND = Eyes(None)
