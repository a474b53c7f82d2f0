"""Choosing the next token, and the two log-probabilities of what was chosen (WIRE 3.1).

Temperature, top-k, top-p, min-p and typical-p act in this order, each over what those before it left, as the logits
processors of transformers do.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 64
"""Tokens that are summed together."""
_BELOW_ONE = 1 - 2**-52


@dataclass(frozen=True, eq=False)
class Settings:
    """Sampling settings of a batch, each (B,). Temperature 0 is greedy; top_k 0, top_p 1, min_p 0, typical_p 1: off."""

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor
    min_p: Tensor
    typical_p: Tensor

    @cached_property
    def plain(self) -> bool:
        """True when every row samples from the model's own distribution."""
        whole = (self.top_p >= 1) & (self.top_k == 0) & (self.min_p <= 0) & (self.typical_p >= 1)
        return bool(((self.temperature == 1) & whole).all())


class Choice(NamedTuple):
    """Token ids (B,), their log-probability under the raw distribution and under the one they were drawn from."""

    tokens: Tensor
    logprobs: Tensor
    sampling_logprobs: Tensor


def choose(logits: Tensor, settings: Settings, uniforms: Tensor, shaped: Tensor | None = None) -> Choice:
    """Draw one token per row of `logits` (B, V) by inverting the distribution function at `uniforms` (B,), in [0, 1).

    `shaped` are the logits that are drawn from where they are not the model's own. What a row gets depends on that row
    alone.
    """
    if settings.plain and shaped is None:
        probabilities = wide(logits).softmax(-1)
        tokens = _inverted(probabilities, uniforms)
        logprobs = probabilities.gather(1, tokens)[:, 0].log().float()
        return Choice(tokens[:, 0], logprobs, logprobs)
    raw = torch.log_softmax(wide(logits), dim=-1)
    drawn_from = wide(logits if shaped is None else shaped)
    behaviour = _behaviour(drawn_from, settings)
    tokens = _inverted(behaviour.exp(), uniforms)
    greedy = settings.temperature == 0
    if bool(greedy.any()):
        tokens = torch.where(greedy[:, None], drawn_from.argmax(-1, keepdim=True), tokens)
    drawn = torch.where(greedy, 0.0, behaviour.gather(1, tokens)[:, 0])
    return Choice(tokens[:, 0], raw.gather(1, tokens)[:, 0].float(), drawn.float())


def _inverted(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """The tokens (B, 1) at which the distribution function of `probabilities` (B, V) passes `uniforms` (B,).

    Blocks are summed and one of them is searched: running sums over a whole vocabulary take longer than the model's
    step. A token without probability is never found, however sums are rounded.
    """
    if missing := -probabilities.shape[-1] % _BLOCK:
        probabilities = torch.nn.functional.pad(probabilities, (0, missing))
    blocks = probabilities.reshape(len(probabilities), -1, _BLOCK)  # (B, V / 64, 64)
    sums = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    wanted = uniforms.double()[:, None] * sums[:, -1:]
    block = _passed(sums, wanted)  # (B, 1)
    before = torch.where(block > 0, sums.gather(1, (block - 1).clamp(min=0)), 0.0)
    inside = blocks[torch.arange(len(blocks), device=blocks.device), block[:, 0]].double().cumsum(-1)  # (B, 64)
    return block * _BLOCK + _passed(inside, wanted - before)


def _passed(steps: Tensor, wanted: Tensor) -> Tensor:
    """The first index (B, 1) at which rising `steps` (B, N) pass `wanted` (B, 1), the last rise at the latest."""
    return torch.searchsorted(steps, torch.minimum(wanted, steps[:, -1:] * _BELOW_ONE), right=True)


def wide(logits: Tensor) -> Tensor:
    """Logits in float32, or in float64 if they are that already: what batches change must stay below float32."""
    return logits if logits.dtype == torch.float64 else logits.float()


def likeliest(logits: Tensor, count: int) -> list[list[tuple[int, float]]]:
    """The `count` likeliest tokens of every row of `logits` (B, V) with their raw log-probabilities."""
    if count < 1:
        return []
    best, ids = torch.log_softmax(logits, -1).topk(min(count, logits.shape[-1]), dim=-1)
    return [list(zip(*pair, strict=True)) for pair in zip(ids.tolist(), best.float().tolist(), strict=True)]


def _behaviour(logits: Tensor, settings: Settings) -> Tensor:
    """Log-probabilities (B, V) of what is drawn from."""
    temperature = torch.where(settings.temperature == 0, 1.0, settings.temperature)
    scaled = logits / temperature[:, None]
    best, order = scaled.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(logits.shape[-1], device=logits.device)
    width = torch.where(settings.top_k == 0, logits.shape[-1], settings.top_k)
    best = best.masked_fill(rank[None] >= width[:, None], float("-inf"))
    probabilities = best.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # mass of the tokens ahead
    limit = torch.where(settings.top_p >= 1, 2.0, settings.top_p)[:, None]
    best = best.masked_fill((before >= limit) & (rank[None] > 0), float("-inf"))
    left = torch.log_softmax(torch.empty_like(best).scatter_(1, order, best), dim=-1)
    if bool((settings.min_p > 0).any()):
        least = settings.min_p[:, None].log() + left.amax(-1, keepdim=True)
        cut = torch.log_softmax(left.masked_fill(left < least, float("-inf")), dim=-1)
        left = torch.where(settings.min_p[:, None] > 0, cut, left)
    return _typical(left, settings.typical_p) if bool((settings.typical_p < 1).any()) else left


def _typical(logprobs: Tensor, mass: Tensor) -> Tensor:
    """Keep the tokens whose surprise is nearest to the entropy, until they hold `mass` (B,); (B, V).

    The locally typical sampling of Meister et al. 2023.
    """
    entropy = -torch.xlogy(logprobs.exp(), logprobs.exp()).sum(-1, keepdim=True)
    _, order = (-logprobs - entropy).abs().sort(dim=-1, stable=True)
    reached = logprobs.gather(1, order).exp().cumsum(-1)
    ahead = torch.nn.functional.pad(reached[:, :-1], (1, 0))
    dropped = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order, ahead >= mass[:, None])
    kept = torch.log_softmax(logprobs.masked_fill(dropped, float("-inf")), dim=-1)
    return torch.where(mass[:, None] < 1, kept, logprobs)
