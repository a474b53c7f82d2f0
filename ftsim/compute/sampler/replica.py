"""One serving copy of a model: it really holds weights, swaps them while it serves, and batches what it is asked."""

import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from emulator.backend import BackendError, GenerateRequest, Generation, Replica, ReplicaClosed, Tell, Transition
from emulator.core.images import TEXT_ALONE
from ftsim.compute import libraries
from ftsim.compute.checkpoints import peft
from ftsim.compute.checkpoints.source import open_model, small_files
from ftsim.compute.execution import FLOAT32, Execution
from ftsim.compute.images.sight import Sight
from ftsim.compute.quiet import quiet
from ftsim.compute.sampler import precision
from ftsim.compute.sampler.engine import Sampler
from ftsim.compute.sampler.eyes import Eyes
from ftsim.compute.sampler.templates import ChatTemplates
from ftsim.compute.sampler.text import longest_token
from ftsim.compute.sampler.weights import ServedWeights, fingerprint, link_files
from ftsim.compute.standins.model import StandIn
from ftsim.compute.standins.tokenizer import open_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

END_TOKENS = ("<|im_end|>", "<|endoftext|>")
_ADAPTER_FILES = (peft.CONFIG, peft.WEIGHTS)


def open_replica(
    folder: Path, *, max_context_length: int = 0, device: str = "cpu", how: Execution = FLOAT32
) -> Replica:
    """Serve the Hugging Face folder; `max_context_length` 0 means the model's own. Raises `BackendError`."""
    return TorchReplica(folder, max_context_length=max_context_length, device=device, how=how)


class TorchReplica:
    """`emulator.backend.Replica` in torch.

    The weights live twice: as they were saved (`ServedWeights`, what a delta is applied to) and as the model that
    serves. Both change only after everything about the new ones was read and checked.
    """

    def __init__(
        self, folder: Path, *, max_context_length: int = 0, device: str = "cpu", how: Execution = FLOAT32
    ) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="ftsim-replica-", ignore_cleanup_errors=True)
        self._count = 0
        self._loading = threading.Lock()
        self._closed = False
        self._device = device
        self._dtype, self._batch_variant = how.dtype, how.batch_variant
        self._weights = ServedWeights(place := self._take(folder))
        self._adapter: Path | None = None
        self._model = model = self._open(place)
        self._tokenizer = _tokenizer(place)
        self._sight = Sight.of(small_files(place))
        context = _context(model, max_context_length)
        self._most_characters = context * longest_token(self._tokenizer)
        self._templates = ChatTemplates(self._tokenizer, self._most_characters)
        self._sampler = Sampler(
            model, self._tokenizer, ends=_ends(place, self._tokenizer), context=context, eyes=Eyes(self._sight)
        )

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
            adapter = self._take(folder, _ADAPTER_FILES)
            peft.read_config(adapter)
            whole = self._weights.written(self._fresh)
            self._serve(ServedWeights(whole), adapter, self._open(whole, adapter), transition)

    def generate(self, request: GenerateRequest, tell: Tell | None = None) -> "Future[Generation]":
        """Queue a request; concurrent requests are batched."""
        return self._sampler.generate(request, tell)

    def embed(self, prompt: Sequence[int], size: int = 0) -> "Future[Sequence[float]]":
        return self._sampler.embed(prompt, size)

    def encode(self, text: str) -> list[int]:
        return self._tokens(text)

    def expand(self, prompt: Sequence[int], images: Sequence[bytes]) -> list[int]:
        """The prompt with the place of each image repeated for its tokens; raises `BackendError`."""
        if self._sight is None:
            raise BackendError(TEXT_ALONE)
        return self._sight.expand(prompt, [self._sight.picture(one) for one in images])

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    @property
    def chat_template(self) -> str:
        return str(self._tokenizer.chat_template or "")

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        settings: Mapping[str, Any] | None = None,
        begun: str = "",
    ) -> list[int]:
        """Prompt tokens of a conversation through the model's chat template; raises `BackendError` when it refuses.

        A template that writes the same with the tools and without them is refused too: the model would not know them.
        """
        text = self._templates.render(messages, tools, settings or {})
        if tools and text == self._templates.render(messages, (), settings or {}):
            raise BackendError(
                "the model's chat template leaves out the tools of a request: send none, or promote a model whose "
                "tokenizer has a template with tools"
            )
        return self._tokens(text + begun, add_special_tokens=False)

    def _tokens(self, text: str, **settings: bool) -> list[int]:
        """Token ids of a text that the context may hold; raises `BackendError` for one that it cannot."""
        if len(text) > self._most_characters:
            raise BackendError(
                f"a text of {len(text)} characters is longer than the context could hold, "
                f"{self._most_characters} characters at the longest tokens: send less"
            )
        return [int(token) for token in self._tokenizer.encode(text, **settings)]

    def fingerprint(self) -> str:
        """SHA-256 over the names, types, shapes and bytes of all served tensors, adapter included."""
        with self._alone():
            digest = hashlib.sha256()
            digest.update(self._weights.fingerprint().encode())
            if self._adapter is not None:
                digest.update(fingerprint(self._adapter).encode())
            return digest.hexdigest()

    def close(self) -> None:
        self._templates.close()
        self._sampler.close()  # first: a load may wait for its requests
        with self._loading:
            self._closed = True
            self._place.cleanup()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One load at a time, and none whose files go meanwhile; raises `BackendError` once this is closed."""
        with self._loading:
            if self._closed:
                raise ReplicaClosed()
            yield

    def _serve(
        self, weights: ServedWeights, adapter: Path | None, model: "PreTrainedModel", transition: Transition
    ) -> None:
        self._sampler.swap(model, transition)
        self._model = model
        gone = {path for path in (self._weights.folder, self._adapter) if path is not None} - {weights.folder, adapter}
        self._weights, self._adapter = weights, adapter
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)

    def _fitting(self, weights: ServedWeights) -> list[tuple[Tensor, Tensor]] | None:
        """Every weight of the model that serves and what it has to become, a fraction of the time that opening takes.

        None where names differ: an adapter is folded in, experts are fused, or a tied layer came untied.
        """
        if self._adapter is not None:
            return None
        new = {name: value for shard in weights.shards().values() for name, value in shard.items()}
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

    def _fresh(self) -> Path:
        self._count += 1
        folder = Path(self._place.name) / str(self._count)
        try:
            folder.mkdir()
        except OSError as error:
            raise BackendError(f"the weights cannot be stored: {error.strerror or error}", "server") from error
        return folder

    def _take(self, source: Path, names: Sequence[str] = ()) -> Path:
        """A folder of our own with the files of `source`, shared with it where the file system can."""
        folder = self._fresh()
        try:
            link_files(source, folder, names)
        except OSError as error:
            raise BackendError(f"{source.name} cannot be read: {error.strerror or error}", "server") from error
        return folder


def _merged(model: "PreTrainedModel", adapter: Path, scratch: Path) -> "PreTrainedModel":
    """The model with the adapter folded in; a tied output layer is untied first: its inputs stay."""
    output = model.get_output_embeddings()
    if output is not None and output.weight is model.get_input_embeddings().weight:
        output.weight = torch.nn.Parameter(output.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False
    wrapped: Any = peft.open_over(model, adapter, scratch)
    with quiet():
        merged: PreTrainedModel = wrapped.merge_and_unload().eval()
    return merged


def _tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    if (own := open_tokenizer(folder)) is not None:
        return cast("PreTrainedTokenizerBase", own)
    libraries.load()
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
            return tokenizer
    except Exception as error:
        raise BackendError(f"{folder.name} holds no tokenizer that opens: {error}") from error


def _ends(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Ids that end a turn: those of generation_config.json, the tokenizer's own, and the two ChatML ones."""
    path = folder / "generation_config.json"
    named = json.loads(path.read_text()).get("eos_token_id") if path.exists() else None
    ids = set(named if isinstance(named, list) else [] if named is None else [named])
    vocabulary = tokenizer.get_vocab()
    ids |= {vocabulary[token] for token in END_TOKENS if token in vocabulary}
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return sorted(int(token) for token in ids)


def _context(model: "PreTrainedModel", asked: int) -> int:
    own = int(model.config.get_text_config().max_position_embeddings)
    return min(own, asked) if asked > 0 else own
