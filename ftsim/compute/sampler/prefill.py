"""Prompts on their way into the engine: which go together, what a model makes of them, what is told of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from emulator.backend import GeneratedToken, GenerateRequest
from ftsim.compute.sampler.row import Row
from ftsim.compute.sampler.sampling import likeliest, wide

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_TOKENS = 8192
"""Padded positions of one group."""
_ECHO_BLOCK = 1024
"""Prompt positions whose logits are held at a time."""


def groups(rows: Sequence[Row]) -> list[list[list[Row]]]:
    """Rows of equal prompts together, shortest prompt first, in groups of at most `MAX_TOKENS` padded positions."""
    alike: dict[tuple[int, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault(tuple(row.request.prompt), []).append(row)
    found: list[list[list[Row]]] = []
    for prompt in sorted(alike, key=len):
        if not found or (len(found[-1]) + 1) * len(prompt) > MAX_TOKENS:
            found.append([])
        found[-1].append(alike[prompt])
    return found


def run(model: "PreTrainedModel", prompts: Sequence[Sequence[int]]) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Last hidden states (B, T, H) and per-layer keys and values (B, heads, T, D); padding stands right, unseen."""
    from transformers import DynamicCache

    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts], device=model.device)
    cache = DynamicCache()
    backbone: Any = model.base_model
    hidden = backbone(input_ids=tokens, past_key_values=cache, use_cache=True).last_hidden_state
    return hidden, [(layer.keys, layer.values) for layer in cache.layers]


def echo(model: "PreTrainedModel", request: GenerateRequest, hidden: Tensor) -> list[GeneratedToken]:
    """One row per echoed prompt token, yet without text; the first of a prompt has no condition: 0.0 (WIRE 3.1).

    `hidden` (T, H) is what `run` gave for this prompt.
    """
    prompt = list(request.prompt)
    count = len(prompt) if request.echo_last is None else max(0, min(request.echo_last, len(prompt)))
    start = len(prompt) - count
    rows: list[GeneratedToken] = []
    if count and start == 0:
        alone = [(prompt[0], 0.0)] if request.top_logprobs else []  # a row without any voids the column (WIRE 3.1)
        rows.append(GeneratedToken(prompt[0], "", 0.0, None, alone))
    for begin in range(max(start, 1), len(prompt), _ECHO_BLOCK):
        wanted = torch.tensor(prompt[begin : begin + _ECHO_BLOCK])
        logits = wide(model.lm_head(hidden[begin - 1 : begin - 1 + len(wanted)])).cpu()
        logprobs = torch.log_softmax(logits, -1).gather(1, wanted[:, None])[:, 0].float().tolist()
        tops = likeliest(logits, request.top_logprobs) or [[] for _ in prompt]
        rows += [
            GeneratedToken(token, "", logprob, None, top)
            for token, logprob, top in zip(wanted.tolist(), logprobs, tops, strict=False)
        ]
    return rows
