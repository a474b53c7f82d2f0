"""Norm, rotary positions, attention and feed-forward layers, as the stand-ins' architectures have them.

Everything is computed in the type of the weights: float32 in a trainer, float64 where rows of a batch must leave no
trace on each other. Names of modules and parameters are those of transformers, since adapters and checkpoints are
known by them.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

from ftsim.compute.standins.cache import CacheLayer
from ftsim.compute.standins.config import StandInConfig


class Linear(nn.Linear):
    """A matrix whose values come from a file: nothing is drawn for it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        """Leave the values undefined."""


class Embedding(nn.Embedding):
    """A table whose values come from a file: nothing is drawn for it."""

    def reset_parameters(self) -> None:
        """Leave the values undefined."""


class RMSNorm(nn.Module):
    """Root mean square norm over the last dimension."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.size, self.eps = (size,), eps

    def forward(self, states: Tensor) -> Tensor:
        return rms_norm(states, self.size, self.weight, self.eps)


class Angles(NamedTuple):
    """Cosine and sine of the positions' angles, each (B or 1, 1, T, rotated dimensions)."""

    cos: Tensor
    sin: Tensor


class Rotary(nn.Module):
    """Angles of positions; each pair of dimensions turns with its own frequency."""

    inv_freq: Tensor

    def __init__(self, dimensions: int, theta: float) -> None:
        super().__init__()
        exponents = torch.arange(0, dimensions, 2, dtype=torch.float32) / dimensions
        self.register_buffer("inv_freq", 1.0 / theta**exponents, persistent=False)

    @torch.no_grad()
    def forward(self, positions: Tensor) -> Angles:
        """Angles of `positions` (B or 1, T)."""
        turned = positions[:, None, :, None].to(self.inv_freq.dtype) * self.inv_freq
        both = torch.cat((turned, turned), dim=-1)
        return Angles(both.cos(), both.sin())


def rotated(states: Tensor, angles: Angles) -> Tensor:
    """States (B, H, T, D) turned in their first dimensions, of which the first half pairs with the second."""
    width = angles.cos.shape[-1]
    if width < states.shape[-1]:
        return torch.cat((rotated(states[..., :width], angles), states[..., width:]), dim=-1)
    first, second = states.chunk(2, dim=-1)
    return states * angles.cos + torch.cat((-second, first), dim=-1) * angles.sin


def rotated_pairs(states: Tensor, angles: Angles) -> Tensor:
    """States (B, H, T, D) of which neighbours pair; gives all first of the pairs, then all second."""
    half = states.shape[-1] // 2
    cos, sin = angles.cos[..., :half], angles.sin[..., :half]
    first, second = states[..., 0::2], states[..., 1::2]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention of `query` (B, H, T, D) over `key` and `value` (B, KV heads, S, D); gives (B, T, H * D).

    Without a mask it is causal, and the last query is the last key's. How heads that share keys are laid out decides
    the last bits: it is as transformers does it.
    """
    rows, heads, length, _ = query.shape
    shared = heads // key.shape[1]
    causal = mask is None and length > 1
    if shared > 1 and mask is not None:
        if length == 1:
            query = query.reshape(rows, key.shape[1], shared, query.shape[-1])
        else:
            key, value = _repeated(key, shared), _repeated(value, shared)
    gqa = shared > 1 and mask is None
    found = scaled_dot_product_attention(query, key, value, mask, is_causal=causal, scale=scale, enable_gqa=gqa)
    return found.reshape(rows, heads, length, value.shape[-1]).transpose(1, 2).reshape(rows, length, -1)


def _repeated(states: Tensor, times: int) -> Tensor:
    rows, heads, length, size = states.shape
    return states[:, :, None].expand(rows, heads, times, length, size).reshape(rows, heads * times, length, size)


class Attention(nn.Module):
    """Attention whose heads share keys in groups, with or without norms on queries and keys."""

    def __init__(self, config: StandInConfig, *, norms: bool) -> None:
        super().__init__()
        hidden, self.size = config.hidden_size, config.head_dim
        self.scale = self.size**-0.5
        self.q_proj = Linear(hidden, config.num_attention_heads * self.size)
        self.k_proj = Linear(hidden, config.num_key_value_heads * self.size)
        self.v_proj = Linear(hidden, config.num_key_value_heads * self.size)
        self.o_proj = Linear(config.num_attention_heads * self.size, hidden)
        self.norms = norms
        if norms:
            self.q_norm = RMSNorm(self.size, config.rms_norm_eps)
            self.k_norm = RMSNorm(self.size, config.rms_norm_eps)

    def forward(self, states: Tensor, angles: Angles, mask: Tensor | None, cache: CacheLayer | None) -> Tensor:
        shape = (*states.shape[:-1], -1, self.size)
        query, key = self.q_proj(states).view(shape), self.k_proj(states).view(shape)
        value = self.v_proj(states).view(shape).transpose(1, 2)
        if self.norms:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = rotated(query.transpose(1, 2), angles), rotated(key.transpose(1, 2), angles)
        if cache is not None:
            key, value = cache.update(key, value)
        made: Tensor = self.o_proj(attended(query, key, value, mask, self.scale))
        return made


class LatentAttention(nn.Module):
    """Attention over keys and values that are kept as one short vector a position (multi-head latent attention)."""

    def __init__(self, config: StandInConfig) -> None:
        super().__init__()
        hidden, heads = config.hidden_size, config.num_attention_heads
        self.plain, self.turned, self.given = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        self.size, self.latent = self.plain + self.turned, config.kv_lora_rank
        self.scale = self.size**-0.5
        self.q_a_proj = Linear(hidden, config.q_lora_rank)
        self.q_a_layernorm = RMSNorm(config.q_lora_rank, 1e-6)
        self.q_b_proj = Linear(config.q_lora_rank, heads * self.size)
        self.kv_a_proj_with_mqa = Linear(hidden, self.latent + self.turned)
        self.kv_a_layernorm = RMSNorm(self.latent, 1e-6)
        self.kv_b_proj = Linear(self.latent, heads * (self.plain + self.given))
        self.o_proj = Linear(heads * self.given, hidden)

    def forward(self, states: Tensor, angles: Angles, mask: Tensor | None, cache: CacheLayer | None) -> Tensor:
        rows, length, _ = states.shape
        query = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(states))).view(rows, length, -1, self.size)
        plain, turned = query.transpose(1, 2).split((self.plain, self.turned), dim=-1)
        latent, place = self.kv_a_proj_with_mqa(states).split((self.latent, self.turned), dim=-1)
        latent, place = self.kv_a_layernorm(latent)[:, None], rotated_pairs(place[:, None], angles)
        if cache is not None:
            latent, place = cache.update(latent, place)
        opened = self.kv_b_proj(latent).view(rows, latent.shape[2], -1, self.plain + self.given).transpose(1, 2)
        key, value = opened.split((self.plain, self.given), dim=-1)
        key = torch.cat((key, place.expand(-1, key.shape[1], -1, -1)), dim=-1)
        query = torch.cat((plain, rotated_pairs(turned, angles)), dim=-1)
        made: Tensor = self.o_proj(attended(query, key, value, mask, self.scale))
        return made


class MLP(nn.Module):
    """A feed-forward layer with a gate."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden, inner)
        self.up_proj = Linear(hidden, inner)
        self.down_proj = Linear(inner, hidden)

    def forward(self, states: Tensor) -> Tensor:
        made: Tensor = self.down_proj(silu(self.gate_proj(states)) * self.up_proj(states))
        return made


class SoftmaxRouter(nn.Module):
    """Chooses the likeliest experts of a position; their probabilities, made to sum to one, are their weights."""

    def __init__(self, config: StandInConfig) -> None:
        super().__init__()
        self.top_k, self.num_experts = config.num_experts_per_tok, config.num_local_experts
        self.weight = nn.Parameter(torch.empty(self.num_experts, config.hidden_size))

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and numbers of the experts of `states` (N, D), each (N, chosen)."""
        values, chosen = torch.topk(linear(states, self.weight).softmax(-1), self.top_k, dim=-1)
        return values / values.sum(-1, keepdim=True), chosen


class SigmoidRouter(nn.Module):
    """Chooses by scores with a correction, and weighs by the scores without it, made to sum to one."""

    e_score_correction_bias: Tensor

    def __init__(self, config: StandInConfig) -> None:
        super().__init__()
        self.top_k, self.num_experts = config.num_experts_per_tok, config.n_routed_experts
        self.weight = nn.Parameter(torch.empty(self.num_experts, config.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.empty(self.num_experts))

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and numbers of the experts of `states` (N, D), each (N, chosen)."""
        scores = linear(states, self.weight).sigmoid()
        corrected = scores + self.e_score_correction_bias
        chosen = torch.topk(corrected, k=self.top_k, dim=-1, sorted=False)[1]
        values = scores.gather(1, chosen)
        return values / (values.sum(-1, keepdim=True) + 1e-20), chosen


class Experts(nn.Module):
    """The experts of a layer, their matrices in one: gates and ups (E, 2 I, D), downs (E, D, I)."""

    def __init__(self, config: StandInConfig, count: int) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(count, 2 * inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(count, hidden, inner))

    def forward(
        self,
        states: Tensor,
        weights: Tensor,
        chosen: Tensor,
        *,
        gate_up_proj: Tensor | None = None,
        down_proj: Tensor | None = None,
    ) -> Tensor:
        """Weighted sum of what the chosen experts make of `states` (N, D); matrices that are given stand for ours.

        Every expert sees every position, and those that were not chosen weigh nothing: with experts as few and small
        as a stand-in's this costs less than to sort positions by experts.
        """
        gate_up = self.gate_up_proj if gate_up_proj is None else gate_up_proj
        down = self.down_proj if down_proj is None else down_proj
        gate, up = torch.matmul(states, gate_up.transpose(1, 2)).chunk(2, dim=-1)  # (E, N, I)
        made = torch.matmul(silu(gate) * up, down.transpose(1, 2))  # (E, N, D)
        share = states.new_zeros(len(states), len(gate_up)).scatter(1, chosen, weights)  # (N, E)
        return (made * share.T[..., None]).sum(0)


class MixtureOfExperts(nn.Module):
    """A router with its experts, and beside them one that every position passes where the architecture has it."""

    def __init__(self, config: StandInConfig) -> None:
        super().__init__()
        shared = config.model_type != "qwen3_moe"
        gate: SoftmaxRouter | SigmoidRouter = SigmoidRouter(config) if shared else SoftmaxRouter(config)
        self.experts = Experts(config, gate.num_experts)
        self.gate = gate
        inner = config.values.get("n_shared_experts", 0) * config.moe_intermediate_size
        self.shared_experts = MLP(config.hidden_size, inner) if shared else None

    def forward(self, states: Tensor) -> Tensor:
        flat = states.reshape(-1, states.shape[-1])
        made: Tensor = self.experts(flat, *self.gate(flat)).view(states.shape)
        return made if self.shared_experts is None else made + self.shared_experts(states)
