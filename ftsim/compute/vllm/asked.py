"""A request as the engine is asked it, and what it is not asked since it would do something else."""

from typing import Any

from emulator.backend import BackendError, GenerateRequest
from emulator.core.images import TEXT_ALONE

LOWEST_TEMPERATURE = 0.01
_TORCH = "serve with --sampler torch"


def why_not(request: GenerateRequest) -> str:
    """Say what of a request the engine does not do, or does otherwise, and what to do; "" for none."""
    if request.format is not None:
        return f"answers in a format are not made by the sampler vllm: ask in words, or {_TORCH}"
    if request.images:
        return TEXT_ALONE
    if request.routing:
        return f"include_routing_matrix: the sampler vllm does not tell which experts were chosen: {_TORCH}"
    if request.typical_p != 1:
        return f"typical_p: vLLM has no such setting: leave it out, or {_TORCH}"
    if request.repetition_penalty != 1:
        return (
            "repetition_penalty: vLLM tells no log-probability of what it draws with it: use frequency_penalty, or "
            f"{_TORCH}"
        )
    if request.min_p > 0 and (request.top_k or request.top_p < 1):
        return f"min_p acts before top_k and top_p in vLLM, not after them: send one of them, or {_TORCH}"
    if 0 < request.temperature < LOWEST_TEMPERATURE:
        return f"vLLM raises a temperature below {LOWEST_TEMPERATURE} to it: send 0, or {LOWEST_TEMPERATURE} and more"
    return ""


def refuse(request: GenerateRequest) -> None:
    """Raise `BackendError` for what the engine does not do, or does otherwise."""
    if why := why_not(request):
        raise BackendError(why)


def asked(request: GenerateRequest, seed: int, limit: int, ends: "frozenset[int]", vocabulary: int) -> dict[str, Any]:
    """The message without its id; `limit` is the number of tokens to draw, `ends` what finishes a turn.

    `whole` asks for all log-probabilities of each position: those under which a token was drawn follow from them.
    """
    changed = bool(request.logit_bias or request.frequency_penalty or request.presence_penalty)
    cut = request.top_p < 1 or request.top_k > 0 or request.min_p > 0
    stops = set(request.stop_tokens) | (set() if request.ignore_eos else ends)
    return {
        "op": "generate",
        "prompt": list(request.prompt),
        "top": min(request.top_logprobs, vocabulary),
        "echo": request.echo or bool(request.echo_last),
        "whole": request.temperature > 0 and (request.temperature != 1 or changed or cut),
        "settings": {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "min_p": request.min_p,
            "frequency_penalty": request.frequency_penalty,
            "presence_penalty": request.presence_penalty,
            "logit_bias": dict(request.logit_bias),
            "seed": seed % (1 << 63),
            "max_tokens": max(1, limit),
            "ignore_eos": True,
            "stop_token_ids": sorted(stops),
        },
    }
