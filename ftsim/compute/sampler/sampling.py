"""Choosing the next token: temperature, top-k, top-p, and the two log-probabilities of what was chosen (WIRE 3.1)."""

from typing import NamedTuple

import torch
from torch import Tensor


class Settings(NamedTuple):
    """Sampling settings of a batch, each (B,). Temperature 0 is greedy, top_k 0 and top_p 1 are off."""

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor

    @property
    def plain(self) -> bool:
        """Whether every row samples from the model's own distribution."""
        return bool(((self.temperature == 1) & (self.top_p >= 1) & (self.top_k == 0)).all())


class Choice(NamedTuple):
    """Token ids (B,), their log-probability under the raw distribution and under the one they were drawn from."""

    tokens: Tensor
    logprobs: Tensor
    sampling_logprobs: Tensor


def choose(logits: Tensor, settings: Settings, uniforms: Tensor) -> Choice:
    """Draw one token per row of `logits` (B, V) by inverting the distribution function at `uniforms` (B,), in [0, 1).

    What a row gets depends on that row alone.
    """
    raw = torch.log_softmax(wide(logits), dim=-1)
    behaviour = raw if settings.plain else _behaviour(wide(logits), settings)
    steps = behaviour.double().exp().cumsum(-1)  # (B, V)
    wanted = uniforms.double()[:, None] * steps[:, -1:]
    tokens = torch.searchsorted(steps, wanted, right=True).clamp(max=logits.shape[-1] - 1)
    greedy = settings.temperature == 0
    tokens = torch.where(greedy[:, None], logits.argmax(-1, keepdim=True), tokens)
    drawn = torch.where(greedy, 0.0, behaviour.gather(1, tokens)[:, 0])
    return Choice(tokens[:, 0], raw.gather(1, tokens)[:, 0].float(), drawn.float())


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
    """Log-probabilities (B, V) after temperature, then top-k, then top-p over what top-k left."""
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
    return torch.log_softmax(torch.empty_like(best).scatter_(1, order, best), dim=-1)
