"""The model's own `forward`, with the cache that it makes for itself, over rows that join and leave between steps.

Whatever a family does before, between and after its layers (sliding windows, soft caps, scaling of the logits, shared
caches, recurrent states) is in its `forward` and in the layers of its cache, so nothing of it is done again here. Rows
of a batch stand right-aligned, as `generate` of transformers has them: shorter ones are padded on the left, and a mask
hides the padding.
"""

import copy
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ftsim.compute.models.body import body_of
from ftsim.compute.models.routing import Routers
from ftsim.compute.sampler import caches
from ftsim.compute.sampler.precision import Precision
from ftsim.compute.standins.model import StandIn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOGITS_BYTES = 128 << 20
"""Memory for logits of prompt positions that are told at once."""
_STEPS = 8
"""Decoding steps by which a cache is measured: what a recurrent state loses may show from the third on only."""
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-3}
_log = logging.getLogger(__name__)
Seen = Mapping[str, Tensor]
"""Further inputs of a forward over a prompt with images."""


@dataclass
class Batch:
    """Rows that take their decoding steps together."""

    cache: Any
    """The library's cache, its positions right-aligned; None where the model is run anew over all tokens each time."""
    lengths: Tensor  # (B,) positions of the cache that belong to each row
    tokens: list[int]
    """All tokens of the only row, where there is no cache."""
    columns: int = 0
    """Positions of the longest row."""
    padded: bool = False
    """True when some row is shorter than another."""
    shift: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    """What is added to the positions of each row (B,): images take fewer of them than they have tokens."""
    shifted: bool = False

    def __post_init__(self) -> None:
        if not len(self.shift):
            self.shift = torch.zeros_like(self.lengths)
        self._measure()

    def _measure(self) -> None:
        """Note what the steps to come would otherwise ask the tensor for, each time."""
        self.columns = int(self.lengths.max())
        self.padded = int(self.lengths.min()) < self.columns
        self.shifted = bool(self.shift.any())

    def grow(self, by: int = 1) -> None:
        """Count more positions for every row."""
        self.lengths = self.lengths + by
        self.columns += by

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; one that is named twice is there twice."""
        if list(rows) == list(range(len(self.lengths))):
            return  # the usual case, and the only one without a cache
        index = torch.tensor(rows, dtype=torch.long)
        self.lengths, self.shift = self.lengths[index], self.shift[index]
        self._measure()
        for layer in self.cache.layers:
            layer.reorder_cache(index)
            _keep_last(layer, self.columns)

    def join(self, other: "Batch") -> None:
        """Take the rows of `other` in, behind those that are there."""
        columns = max(self.columns, other.columns)
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            _merge(mine, theirs, columns)
        self.lengths = torch.cat([self.lengths, other.lengths])
        self.shift = torch.cat([self.shift, other.shift])
        self._measure()


class Forward:
    """Runs one model: prompts first, then one token for every row of a batch."""

    def __init__(self, model: "PreTrainedModel") -> None:
        self.model = model
        self.device = model.device  # the property walks over the parameters
        self.vocabulary = int(model.get_input_embeddings().num_embeddings)
        self.width = int(model.config.get_text_config().hidden_size)
        """Numbers of a hidden state."""
        self._precision = Precision(model)
        self.routers = Routers(model)
        self.noting = False
        """True while somebody wants to know which experts are chosen."""
        self.routes: Tensor | None = None
        """What the newest run chose (B, T, layers, chosen), while that is noted."""
        known = inspect.signature(model.forward).parameters
        self._cache = "cache" if "cache" in known else "past_key_values"  # renamed in transformers 5.24
        self._positions = "position_ids" in known
        self._keeps = "logits_to_keep" in known
        self._together: bool | None = None
        self._cache_is_right: bool | None = None

    @property
    def together(self) -> bool:
        """True when several rows can be computed at once; measured the first time that there are several."""
        if self._together is None:
            reason = self.why_alone()
            self._together = not reason
            if reason:
                name = self.model.config.model_type
                _log.warning("%s is served one row at a time: %s", name, reason)
        return self._together

    def same_family(self, other: "Forward") -> None:
        """Take over what was measured of `other`, if its model differs from this one in weights only."""
        if type(other.model) is type(self.model) and other.model.config == self.model.config:
            self._together, self._cache_is_right = other._together, other._cache_is_right

    def prefill(
        self, prompts: Sequence[Sequence[int]], keep: int = 1, seen: Seen | None = None
    ) -> tuple[Batch, Tensor]:
        """Compute prompts; gives their batch and the logits (B, K, V) of the last `keep` positions or fewer.

        `seen` is what the forward takes beside the tokens of a single prompt with images; its cache is trusted.
        """
        if seen:
            return self._prefill_seen(prompts[0], seen, keep)
        batch = Batch(None, torch.tensor([len(prompt) for prompt in prompts]), [])
        if self._cache_is_right is False and len(prompts) == 1:
            return self._without_cache(batch, prompts[0], keep)
        longest = batch.columns
        tokens = torch.tensor([[*[0] * (longest - len(prompt)), *prompt] for prompt in prompts])
        try:
            with self._precision.everywhere():
                output = self._run(tokens, batch, min(keep, longest))
        except Exception:
            if len(prompts) > 1 or self._cache_is_right:
                raise
            found = self._without_cache(batch, prompts[0], keep)  # raises what is no fault of a cache
            self._distrust()
            return found
        routes = self.routes
        batch.cache = getattr(output, self._cache, None)
        if not caches.is_usual(batch.cache) and not self._trusted():
            batch.cache, batch.tokens = None, list(prompts[0])
        self.routes = routes  # the measuring ran the model too
        return batch, output.logits[:, -keep:]

    def _prefill_seen(self, prompt: Sequence[int], seen: Seen, keep: int) -> tuple[Batch, Tensor]:
        length = len(prompt)
        shift = int(seen["position_ids"].max()) + 1 - length
        batch = Batch(None, torch.tensor([length]), [], shift=torch.tensor([shift]))
        with self._precision.everywhere():
            output = self._run(torch.tensor([list(prompt)]), batch, min(keep, length), seen)
        batch.cache = getattr(output, self._cache)
        return batch, output.logits[:, -keep:]

    def _without_cache(self, batch: Batch, prompt: Sequence[int], keep: int) -> tuple[Batch, Tensor]:
        batch.tokens = list(prompt)
        return batch, self._anew(prompt, keep)[:, -keep:]

    def step(self, batch: Batch, tokens: Tensor) -> Tensor:
        """Logits (B, V) after one more token (B,) for every row."""
        batch.grow()
        if batch.cache is None:
            batch.tokens.append(int(tokens))
            return self._anew(batch.tokens)[:, -1]
        with self._precision.step():
            logits: Tensor = self._run(tokens[:, None], batch, 1).logits[:, -1]
            return logits

    @property
    def in_pieces(self) -> bool:
        """True for a model that goes on from its cache with several tokens as it would with one after the other."""
        return isinstance(self.model, StandIn)

    def extend(self, batch: Batch, tokens: Tensor) -> Tensor:
        """Logits (1, V) behind more tokens (1, T) of the only row of a batch, which may be empty before."""
        batch.grow(tokens.shape[1])
        with self._precision.everywhere():
            output = self._run(tokens, batch, 1)
        batch.cache = getattr(output, self._cache)
        logits: Tensor = output.logits[:, -1]
        return logits

    def _anew(self, tokens: Sequence[int], keep: "int | Tensor" = 1, seen: Seen | None = None) -> Tensor:
        """Logits (1, K, V) of a row without any cache."""
        more: dict[str, Any] = {"logits_to_keep": keep} if self._keeps else {}
        with self._precision.everywhere():
            logits: Tensor = self._noted(
                input_ids=torch.tensor([list(tokens)], device=self.device), use_cache=False, **more, **(seen or {})
            ).logits
        return logits

    def states(self, prompt: Sequence[int]) -> Tensor:
        """Hidden states (T, D) behind the last norm: what the output layer is given of a prompt."""
        body = body_of(self.model)
        with self._precision.everywhere():
            made = body(input_ids=torch.tensor([list(prompt)], device=self.device), use_cache=False)
        states: Tensor = made.last_hidden_state[0]
        return states

    def _trusted(self) -> bool:
        """Measure once whether a family's own states, or cache, give the logits of the forward without one."""
        if self._cache_is_right is None:
            tokens = [1 + 5 * at % 17 for at in range(4 + _STEPS)]
            self._cache_is_right = True  # so that `prefill` gives a batch with it
            try:
                batch, _ = self.prefill([tokens[:-_STEPS]])
                found = torch.cat([self.step(batch, torch.tensor([token])) for token in tokens[-_STEPS:]])
                self._cache_is_right = _alike(found, self._anew(tokens, _STEPS)[0, -_STEPS:])
            except Exception:  # a cache that fails, or none at all
                self._cache_is_right = False
            if not self._cache_is_right:
                self._distrust()
        return self._cache_is_right

    def _distrust(self) -> None:
        self._cache_is_right = False
        name = self.model.config.model_type
        _log.warning("%s is computed anew for every token: its cache does not give the logits of its forward", name)

    def prompt_logits(self, prompt: Sequence[int], start: int, seen: Seen | None = None) -> Iterator[Tensor]:
        """Logits (T, V) after the positions from `start` to the last but one, in blocks that fit into memory.

        Each block is a forward of its own over the whole prompt: going on from a cache with several tokens at once is
        not the same for families with recurrent states.
        """
        for begin in range(start, len(prompt) - 1, self.positions_at_once):
            end = min(begin + self.positions_at_once, len(prompt) - 1)
            wanted = torch.arange(begin, end, device=self.device)
            logits = self._anew(prompt, wanted, seen)[0]
            yield logits if self._keeps else logits[begin:end]

    @property
    def positions_at_once(self) -> int:
        """The number of positions whose logits are in memory at a time."""
        return max(1, _LOGITS_BYTES // (8 * self.vocabulary))

    def _run(self, tokens: Tensor, batch: Batch, keep: int, seen: Seen | None = None) -> Any:
        """Compute `tokens` (B, T), the last positions of the rows of `batch`, and let its cache grow."""
        device, width, columns = self.device, tokens.shape[1], batch.columns
        more: dict[str, Any] = {"logits_to_keep": keep} if self._keeps else {}
        if batch.cache is not None:
            more[self._cache] = batch.cache
        if batch.padded:  # without padding the model finds its mask by itself
            padding = columns - batch.lengths[:, None]  # (B, 1)
            more["attention_mask"] = (torch.arange(columns)[None] >= padding).long().to(device)
            positions = torch.arange(columns - width, columns)[None] - padding
            more["position_ids"] = (positions.clamp(min=0) + batch.shift[:, None]).to(device)
        elif batch.cache is not None and self._positions:  # some families (Bamba) begin at 0 again where none is given
            positions = torch.arange(columns - width, columns, device=device).expand(tokens.shape)
            more["position_ids"] = positions + batch.shift[:, None].to(device) if batch.shifted else positions
        return self._noted(input_ids=tokens.to(device), use_cache=True, **more, **(seen or {}))

    def _noted(self, *, input_ids: Tensor, **more: Any) -> Any:
        if not self.noting:
            return self.model(input_ids=input_ids, **more)
        with self.routers.noted() as choices:
            output = self.model(input_ids=input_ids, **more)
        chosen = torch.stack(choices, dim=1)  # (B * T, layers, chosen)
        self.routes = chosen.reshape(*input_ids.shape, *chosen.shape[1:]).cpu()
        return output

    def why_alone(self) -> str:
        """Say why rows cannot be computed together, or "" if they can; that of stand-ins is known from tests."""
        return "" if isinstance(self.model, StandIn) else self.trial()

    def trial(self) -> str:
        """Try a short and a long row; gives the reason why they cannot be computed together, or ""."""
        if not self._positions:
            return "its forward takes no positions"
        config = self.model.config.get_text_config()
        window = min(getattr(config, "sliding_window", None) or 0, 160)
        prompts = [[index % 7 + 1 for index in range(length)] for length in (3, max(24, window + 9))]
        next_tokens = torch.tensor([2, 5])
        try:
            alone = [self.prefill([prompt])[0] for prompt in prompts]
            if any(batch.cache is None for batch in alone):
                return "it is computed without a cache"
            if not all(caches.is_mergeable(layer) for batch in alone for layer in batch.cache.layers):
                return "its cache has layers of which two cannot be made one"
            joined = copy.deepcopy(alone[0])
            joined.join(copy.deepcopy(alone[1]))
            right = torch.cat([self._anew([*prompt, int(next_tokens[at])])[:, -1] for at, prompt in enumerate(prompts)])
            padded = self.step(self.prefill(prompts)[0], next_tokens)
            merged = self.step(joined, next_tokens)
        except Exception as error:  # whatever a family does not take, alone it is served all the same
            return f"a padded batch fails: {error}"
        return "" if _alike(padded, right) and _alike(merged, right) else "in a padded batch it gives other logits"


def _alike(found: Tensor, right: Tensor) -> bool:
    """Tell whether logits agree as far as their type can, with room for the order of sums."""
    allowed = _TOLERANCE.get(right.dtype, 0.2) * max(1.0, float(right.abs().max()))
    return float((found - right).abs().max()) <= allowed


def _merge(mine: Any, theirs: Any, columns: int) -> None:
    """Append the rows of one cache layer to another of the same kind; both end at the newest position."""
    for states in ("conv_states", "recurrent_states"):
        for at, state in (getattr(theirs, states, None) or {}).items():
            if state is not None:
                getattr(mine, states)[at] = torch.cat([getattr(mine, states)[at], state])
    if getattr(mine, "keys", None) is None or not mine.is_initialized:
        return
    width = columns if not getattr(mine, "is_sliding", False) else min(columns, mine.sliding_window - 1)
    keys = torch.cat([_widened(mine.keys, width), _widened(theirs.keys, width)])
    values = torch.cat([_widened(mine.values, width), _widened(theirs.values, width)])
    mine.keys, mine.values = keys, values  # together: how many positions a layer holds goes by what it was given last
    if hasattr(mine, "cumulative_length"):
        mine.cumulative_length = columns


def _keep_last(layer: Any, columns: int) -> None:
    """Drop positions in front that no row owns any more."""
    if not caches.is_growing(layer) or not layer.is_initialized:
        return
    width = columns if not layer.is_sliding else min(columns, layer.sliding_window - 1)
    layer.keys, layer.values = layer.keys[..., -width:, :], layer.values[..., -width:, :]
    if layer.is_sliding:
        layer.cumulative_length = columns


def _widened(states: Tensor, width: int) -> Tensor:
    """States (B, H, S, D) padded in front to `width` positions."""
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[-2], 0))
