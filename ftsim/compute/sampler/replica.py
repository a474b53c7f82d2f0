"""One serving copy of a model: it really holds weights, swaps them while it serves, and batches what it is asked."""

import shutil
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from emulator.backend import BackendError, GenerateRequest, Generation, Replica, Tell, Transition
from emulator.core.images import TEXT_ALONE
from ftsim.compute.checkpoints import peft
from ftsim.compute.checkpoints.source import is_tied, open_model, small_files
from ftsim.compute.execution import FLOAT32, Execution
from ftsim.compute.images.sight import Sight
from ftsim.compute.sampler import precision
from ftsim.compute.sampler.engine import Sampler
from ftsim.compute.sampler.eyes import Eyes
from ftsim.compute.sampler.held import ADAPTER_FILES, ServingCopy, end_tokens
from ftsim.compute.sampler.weights import ServedWeights
from ftsim.compute.standins.model import StandIn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def open_replica(
    folder: Path, *, max_context_length: int = 0, device: str = "cpu", how: Execution = FLOAT32
) -> Replica:
    """Serve the Hugging Face folder; `max_context_length` 0 means the model's own. Raises `BackendError`."""
    return TorchReplica(folder, max_context_length=max_context_length, device=device, how=how)


class TorchReplica(ServingCopy):
    """`emulator.backend.Replica` in torch.

    The weights live twice: as they were saved (`ServedWeights`, what a delta is applied to) and as the model that
    serves. Both change only after everything about the new ones was read and checked.
    """

    def __init__(
        self, folder: Path, *, max_context_length: int = 0, device: str = "cpu", how: Execution = FLOAT32
    ) -> None:
        self._device = device
        self._dtype, self._batch_variant = how.dtype, how.batch_variant
        super().__init__(folder, max_context_length)

    def _open_first(self) -> None:
        place = self._weights.folder
        self._model = model = self._open(place)
        self._sight = Sight.of(small_files(place))
        context = self._read_texts(int(model.config.get_text_config().max_position_embeddings))
        ends = end_tokens(place, self._tokenizer)
        self._sampler = Sampler(model, self._tokenizer, ends=ends, context=context, eyes=Eyes(self._sight))

    def load_base(self, folder: Path, identity: str, transition: Transition = "ASYNC") -> None:
        """Serve the full weights in `folder` (Hugging Face layout) from now on; raises `BackendError`."""
        with self._alone():
            place = self._take(folder)
            self._serve(ServedWeights(place), None, self._open(place), transition)

    def apply_delta(
        self,
        folder: Path,
        identity: str,
        transition: Transition = "ASYNC",
        *,
        compression_format: str = "arc_v2",
        in_place: bool = False,
    ) -> None:
        """Apply an arc delta to the full weights served now; with `in_place` a failure spoils them (FAILURES E11)."""
        with self._alone():
            try:
                weights = self._weights.after(folder, compression_format)  # type: ignore[arg-type]
            except BackendError:
                if in_place:
                    self._spoil(folder, compression_format, transition)
                raise
            if (values := self._fitting(weights)) is not None:
                self._sampler.refill(values, transition)
                self._weights = weights
                return
            place = weights.written(self._fresh)
            self._serve(ServedWeights(place), None, self._open(place), transition)

    def load_adapter(self, folder: Path, identity: str, transition: Transition = "ASYNC") -> None:
        """Serve the full weights served now with this PEFT adapter from now on; raises `BackendError`."""
        with self._alone():
            adapter = self._take(folder, ADAPTER_FILES)
            peft.read_config(adapter)
            whole = self._weights.written(self._fresh)
            self._serve(ServedWeights(whole), adapter, self._open(whole, adapter), transition)

    def generate(self, request: GenerateRequest, tell: Tell | None = None) -> "Future[Generation]":
        """Queue a request; concurrent requests are batched."""
        return self._sampler.generate(request, tell)

    def embed(self, prompt: Sequence[int], size: int = 0) -> "Future[Sequence[float]]":
        return self._sampler.embed(prompt, size)

    def expand(self, prompt: Sequence[int], images: Sequence[bytes]) -> list[int]:
        """The prompt with the place of each image repeated for its tokens; raises `BackendError`."""
        if self._sight is None:
            raise BackendError(TEXT_ALONE)
        return self._sight.expand(prompt, [self._sight.picture(one) for one in images])

    def _stop(self) -> None:
        self._sampler.close()

    def _serve(
        self, weights: ServedWeights, adapter: Path | None, model: "PreTrainedModel", transition: Transition
    ) -> None:
        self._sampler.swap(model, transition)
        self._model = model
        self._hold(weights, adapter)

    def _fitting(self, weights: ServedWeights) -> list[tuple[Tensor, Tensor]] | None:
        """Every weight of the model that serves and what it has to become, a fraction of the time that opening takes.

        None where names differ: an adapter is folded in, experts are fused, or a tied layer came untied.
        """
        if self._adapter is not None:
            return None
        new = weights.tensors()
        own = self._model.state_dict(keep_vars=True)
        tied = set(getattr(self._model, "all_tied_weights_keys", None) or ())
        if set(new) != set(own) - tied or any(new[name].shape != own[name].shape for name in new):
            return None
        return [(own[name], value.to(self._dtype).to(own[name])) for name, value in new.items()]

    def _spoil(self, folder: Path, compression_format: str, transition: Transition) -> None:
        """Spoil the weights as the codec does when it works on the only copy there is: it stops half-way."""
        from fireworks_delta_compression import delta_decompress_inplace

        whole, spoilt = self._weights.written(self._fresh), self._fresh()
        for path in whole.iterdir():
            shutil.copyfile(path, spoilt / path.name)
        for shard in sorted(path.name for path in spoilt.glob("*.safetensors")):
            try:
                delta_decompress_inplace(
                    base_path=str(spoilt / shard), diff_path=str(folder / shard), compression_format=compression_format
                )
            except Exception:  # the failure is already on its way to the caller
                break
        self._serve(ServedWeights(spoilt), None, self._open(spoilt), transition)

    def _open(self, folder: Path, adapter: Path | None = None) -> "PreTrainedModel":
        """The model in `folder`, with an adapter folded in, as it computes."""
        model = open_model(folder, self._dtype)
        if adapter is not None:
            model = self._with_adapter(model, folder, adapter)
        model.to(self._device)
        if self._batch_variant or not precision.is_batch_invariant(folder, self._device, self._dtype):
            return model
        return precision.widen(model)

    def _with_adapter(self, model: "PreTrainedModel", folder: Path, adapter: Path) -> "PreTrainedModel":
        if not isinstance(model, StandIn):
            return _merged(model, adapter, self._fresh())
        if (adapted := peft.stand_in_with(model, adapter)) is not None:
            return cast("PreTrainedModel", adapted.merge_and_unload().eval())
        return _merged(open_model(folder, self._dtype, through_library=True), adapter, self._fresh())


def _merged(model: "PreTrainedModel", adapter: Path, scratch: Path) -> "PreTrainedModel":
    """The model with the adapter folded in; a tied output layer is untied first: its inputs stay."""
    if is_tied(model):
        output = model.get_output_embeddings()
        output.weight = torch.nn.Parameter(output.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False
    return peft.fold(peft.open_over(model, adapter, scratch))
