"""Vectors of prompts: the mean of the model's own last hidden states, computed between decoding steps."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

import torch

from emulator.backend import BackendError
from ftsim.compute.sampler.forward import Forward


class Embeddings:
    """Prompts whose vectors are wanted: each has a forward of its own, so that none depends on its neighbours."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Sequence[int], int, Future[Sequence[float]]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, prompt: Sequence[int], size: int) -> "Future[Sequence[float]]":
        """Queue a prompt, and the first numbers of a vector, that fit the model."""
        future: Future[Sequence[float]] = Future()
        self._waiting.append((prompt, size, future))
        return future

    def advance(self, forward: Forward) -> None:
        """Compute the vector that was asked for first, if there is one."""
        if not self._waiting:
            return
        prompt, size, future = self._waiting.popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(vector(forward, prompt, size))
        except BackendError as error:
            future.set_exception(error)
        except Exception as error:  # whatever a model does not take, it serves the next one
            future.set_exception(BackendError(f"the embedding failed: {error}", "server"))

    def fail(self, error: BackendError) -> None:
        """Fail all that wait."""
        while self._waiting:
            _, _, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(error)


def vector(forward: Forward, prompt: Sequence[int], size: int = 0) -> list[float]:
    """The mean over a prompt's tokens, or its first `size` numbers, of length 1; raises `BackendError` for none."""
    mean = forward.states(prompt).double().mean(dim=0)[: size or None]
    length = torch.linalg.vector_norm(mean)
    if not 0 < float(length) < float("inf"):
        raise BackendError("the hidden states of this input have no direction: the weights are not sound", "server")
    return [float(value) for value in mean / length]


def check_size(size: int, width: int) -> None:
    """Refuse, with `BackendError`, more numbers than a vector has."""
    if size > width:
        raise BackendError(f"dimensions is {size}: the vectors of this model have {width}, ask for fewer")
