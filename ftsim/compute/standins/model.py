"""A decoder with its output layer: called as the models of transformers are, and opened from the same folders."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ftsim.compute.standins.cache import Cache, CacheLayer
from ftsim.compute.standins.config import StandInConfig, read_config
from ftsim.compute.standins.layers import (
    MLP,
    Angles,
    Attention,
    Embedding,
    LatentAttention,
    Linear,
    MixtureOfExperts,
    RMSNorm,
    Rotary,
)

_EXPERT = re.compile(r"(.*\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.weight")


@dataclass
class BodyOutput:
    """Hidden states (B, T, D) behind the last norm, and the cache where one is kept."""

    last_hidden_state: Tensor
    past_key_values: Cache | None = None


@dataclass
class Output:
    """Scores (B, K, V) of the positions that were asked for, and the cache where one is kept."""

    logits: Tensor
    past_key_values: Cache | None = None


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm and added to what came in."""

    def __init__(self, config: StandInConfig, number: int) -> None:
        super().__init__()
        latent = config.model_type == "deepseek_v3"
        norms = config.model_type != "glm4_moe"
        self.self_attn = LatentAttention(config) if latent else Attention(config, norms=norms)
        dense = config.model_type == "qwen3" or number < config.values.get("first_k_dense_replace", 0)
        inner = config.intermediate_size
        self.mlp = MLP(config.hidden_size, inner) if dense else MixtureOfExperts(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, states: Tensor, angles: Angles, mask: Tensor | None, cache: CacheLayer | None) -> Tensor:
        states = states + self.self_attn(self.input_layernorm(states), angles, mask, cache)
        made: Tensor = states + self.mlp(self.post_attention_layernorm(states))
        return made


class Body(nn.Module):
    """Everything below the output layer."""

    def __init__(self, config: StandInConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, number) for number in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        size = config.qk_rope_head_dim if config.model_type == "deepseek_v3" else config.head_dim
        turned = int(size * config.rope_parameters.get("partial_rotary_factor", 1.0))
        self.rotary_emb = Rotary(turned, config.rope_parameters["rope_theta"])

    def forward(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
    ) -> BodyOutput:
        """Hidden states of `input_ids` (B, T), which follow what the cache holds.

        `attention_mask` (B, positions so far) is 0 where a row is padded in front.
        """
        cache = Cache(len(self.layers)) if use_cache and past_key_values is None else past_key_values
        past = 0 if cache is None else cache.get_seq_length()
        length = input_ids.shape[1]
        if position_ids is None:
            position_ids = torch.arange(past, past + length, device=input_ids.device)[None]
        states = self.embed_tokens(input_ids)
        angles = self.rotary_emb(position_ids)
        mask = _mask(attention_mask, past, length, input_ids.device)
        for number, layer in enumerate(self.layers):
            states = layer(states, angles, mask, None if cache is None else cache.layers[number])
        return BodyOutput(self.norm(states), cache if use_cache else None)


class StandIn(nn.Module):
    """A causal language model with the interface that trainers and samplers use of transformers' models."""

    _keep_in_fp32_modules_strict = ("e_score_correction_bias",)

    def __init__(self, config: StandInConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Body(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size)

    def forward(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        logits_to_keep: "int | Tensor" = 0,
    ) -> Output:
        """Scores of the last `logits_to_keep` positions, of all for 0, or of those that a tensor names."""
        made = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return Output(self.lm_head(made.last_hidden_state[:, kept]), made.past_key_values)

    @property
    def base_model(self) -> Body:
        """All but the output layer."""
        return self.model

    @property
    def device(self) -> torch.device:
        return self.model.norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.norm.weight.dtype

    def get_input_embeddings(self) -> Embedding:
        """The table that tokens are looked up in."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        """The output layer."""
        return self.lm_head

    def stored_tensors(self, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Weights under their names on disk, where each expert's matrices are files' tensors of their own.

        `state` are the weights, where the model has only parts of them.
        """
        stored: dict[str, Tensor] = {}
        for name, value in (state or self.state_dict()).items():
            stored |= _apart(name, value.detach() if value.requires_grad else value)
        return {name: value.contiguous() for name, value in stored.items()}


def open_stand_in(folder: Path, files: list[Path], dtype: torch.dtype) -> StandIn | None:
    """The model in a folder with the architecture of a stand-in; None for any other, and for what is not whole.

    Only float32 and wider: half precision has roundings in between, and those are transformers'.
    """
    config = read_config(folder)
    if config is None or dtype not in (torch.float32, torch.float64):
        return None
    try:
        tensors = {name: value for path in files for name, value in load_file(path).items()}
    except (OSError, SafetensorError):
        return None
    model = StandIn(config)
    own = model.state_dict()
    given = _together(tensors)
    if given.keys() != own.keys() or any(given[name].shape != own[name].shape for name in own):
        return None
    if not all(value.is_floating_point() for value in given.values()):
        return None
    model.load_state_dict({name: value.to(dtype) for name, value in given.items()}, assign=True)
    model.model.rotary_emb.to(dtype)
    return model.eval()


def _apart(name: str, value: Tensor) -> dict[str, Tensor]:
    """One parameter under its names on disk."""
    start, _, leaf = name.rpartition(".")
    if not start.endswith("mlp.experts"):
        return {name: value}
    if leaf == "down_proj":
        return {f"{start}.{number}.down_proj.weight": one for number, one in enumerate(value)}
    halves = {}
    for number, one in enumerate(value):
        halves[f"{start}.{number}.gate_proj.weight"], halves[f"{start}.{number}.up_proj.weight"] = one.chunk(2)
    return halves


def _together(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file under the names of parameters; what does not belong together is left as it is."""
    given: dict[str, Tensor] = {}
    experts: dict[str, dict[tuple[str, int], Tensor]] = {}
    for name, value in tensors.items():
        if found := _EXPERT.fullmatch(name):
            experts.setdefault(found[1], {})[found[3], int(found[2])] = value
        else:
            given[name] = value
    for start, parts in experts.items():
        numbers = sorted({number for _, number in parts})
        whole = numbers == list(range(len(numbers))) and len(parts) == 3 * len(numbers)
        if not whole or any(len({parts[kind, n].shape for n in numbers}) > 1 for kind in ("gate", "up", "down")):
            return {}
        pairs: list[Any] = [torch.cat((parts["gate", number], parts["up", number])) for number in numbers]
        given[f"{start}.gate_up_proj"] = torch.stack(pairs)
        given[f"{start}.down_proj"] = torch.stack([parts["down", number] for number in numbers])
    return given


def _mask(given: Tensor | None, past: int, length: int, device: torch.device) -> Tensor | None:
    """True where a position may look, (B or 1, 1, T, positions so far); None where being causal says all."""
    if length == 1:
        return None if given is None else given[:, None, None, :].bool()
    if given is None and not past:
        return None
    places = torch.arange(past + length, device=device)
    causal = places <= places[past:, None]  # (T, positions)
    return causal[None, None] if given is None else causal & given[:, None, None, :].bool()
