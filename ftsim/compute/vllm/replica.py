"""`emulator.backend.Replica` with vLLM: the weights as files here, the model in the engine's process."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from emulator.backend import BackendError, GenerateRequest, Generation, Replica, Tell, Transition
from emulator.core.images import TEXT_ALONE
from ftsim.compute.execution import FLOAT32, Execution
from ftsim.compute.sampler.held import ADAPTER_FILES, ServingCopy, end_tokens
from ftsim.compute.sampler.text import TokenDecoder
from ftsim.compute.sampler.weights import ServedWeights
from ftsim.compute.vllm import fitting
from ftsim.compute.vllm.engine import Engine, Texts


def open_replica(folder: Path, *, max_context_length: int = 0, how: Execution = FLOAT32) -> Replica:
    """Serve the Hugging Face folder; `max_context_length` 0 means the model's own. Raises `BackendError`."""
    return VllmReplica(folder, max_context_length=max_context_length, how=how)


class VllmReplica(ServingCopy):
    """A replica whose tokens vLLM draws.

    Weights of the same shapes are reloaded between two steps. A second process is started for another model, for the
    first adapter, which the engine must have room for from its start, and when an adapter is taken off; the first one
    ends what it began. No request without an adapter comes to an engine with adapters: on a CPU vLLM 0.32 answers it
    with the output layer of whichever adapter was put into the last place.
    """

    def __init__(self, folder: Path, *, max_context_length: int = 0, how: Execution = FLOAT32) -> None:
        self._precision, self._rank = how.precision, 0
        super().__init__(folder, max_context_length)

    def _open_first(self) -> None:
        place = self._weights.folder
        config = fitting.config_of(place)
        fitting.check_whole(place)
        self._context = self._read_texts(int(config["max_position_embeddings"]))
        ends = frozenset(end_tokens(place, self._tokenizer))
        self._texts = Texts(TokenDecoder(self._tokenizer), ends, self._context, int(config["vocab_size"]))
        self._engine = self._started(place)

    def load_base(self, folder: Path, identity: str, transition: Transition = "ASYNC") -> None:
        """Serve the full weights in `folder` (Hugging Face layout) from now on; raises `BackendError`."""
        with self._alone():
            self._serve(ServedWeights(self._take(folder)), transition)

    def apply_delta(
        self,
        folder: Path,
        identity: str,
        transition: Transition = "ASYNC",
        *,
        compression_format: str = "arc_v2",
        in_place: bool = False,
    ) -> None:
        """Apply an arc delta to the full weights served now; nothing is spoilt by one that fails."""
        with self._alone():
            try:
                weights = self._weights.after(folder, compression_format)  # type: ignore[arg-type]
            except BackendError as error:
                if in_place:
                    raise BackendError(
                        f"{error}; the sampler vllm does not play weights that a failed delta spoils: serve with "
                        "--sampler torch"
                    ) from error
                raise
            self._serve(ServedWeights(weights.written(self._fresh)), transition)

    def load_adapter(self, folder: Path, identity: str, transition: Transition = "ASYNC") -> None:
        """Serve the full weights served now with this PEFT adapter from now on; raises `BackendError`."""
        with self._alone():
            adapter = self._take(folder, ADAPTER_FILES)
            tied = bool(fitting.config_of(self._weights.folder).get("tie_word_embeddings"))
            rank = fitting.rank_of(adapter, self._weights.tensors(), tied=tied)
            if rank <= self._rank:
                self._engine.load("adapter", adapter, transition)
            else:
                self._replace(self._weights.folder, rank, adapter, transition)
            self._hold(self._weights, adapter)

    def generate(self, request: GenerateRequest, tell: Tell | None = None) -> "Future[Generation]":
        """Queue a request; the engine batches those that run at the same time."""
        return self._engine.generate(request, tell)

    def expand(self, prompt: Sequence[int], images: Sequence[bytes]) -> list[int]:
        raise BackendError(TEXT_ALONE)

    def embed(self, prompt: Sequence[int], size: int = 0) -> "Future[Sequence[float]]":
        raise BackendError("the sampler vllm computes no embeddings beside its answers: serve with --sampler torch")

    def _stop(self) -> None:
        self._engine.close()

    def _serve(self, weights: ServedWeights, transition: Transition) -> None:
        fitting.config_of(weights.folder)
        fitting.check_whole(weights.folder)
        if self._rank == 0 and fitting.same_model(weights.folder, self._weights.folder):
            self._reload(weights.folder, transition)
        else:
            self._replace(weights.folder, 0, None, transition)
        self._hold(weights, None)

    def _reload(self, folder: Path, transition: Transition) -> None:
        """Give the engine other weights; one that fails half-way has none that are right, and is replaced."""
        try:
            self._engine.load("weights", folder, transition)
        except BackendError:
            self._replace(self._weights.folder, 0, None, transition)
            raise

    def _replace(self, folder: Path, rank: int, adapter: Path | None, transition: Transition) -> None:
        before, rank_before = self._engine, self._rank
        self._rank = rank
        try:
            engine = self._started(folder)
            if adapter is not None:
                engine.load("adapter", adapter, transition)
        except BackendError:
            self._rank = rank_before
            raise
        self._engine = engine
        before.retire(transition)

    def _started(self, folder: Path) -> Engine:
        opening: dict[str, Any] = {
            "folder": str(folder),
            "dtype": self._precision,
            "context": self._context,
            "rank": self._rank,
        }
        texts = replace(self._texts, vocabulary=int(fitting.config_of(folder)["vocab_size"]))
        return Engine(texts, opening, self._fresh())
