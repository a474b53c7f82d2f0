"""The cost that an answer tells of: measured seconds, counted tokens, and who answered (WIRE 3.1)."""

from collections.abc import Sequence
from typing import Any

from emulator.backend import Generation
from emulator.platform.deployments.completions import Target

_CACHED = "cached-prompt-tokens"
_QUEUES = ("num-concurrent-requests", "prefill-queue-duration", "generation-queue-duration")


def perf_metrics(on: Target, results: Sequence[Generation]) -> dict[str, str]:
    """Give measured seconds and counts of the slowest choice, and who answered (WIRE 3.1).

    Without a deployment nothing is said of queues: clients then go by refusals alone (FAILURES G8).
    """
    slowest = max(results, key=lambda result: result.metrics.get("server-processing-time", 0.0))
    measured = {
        key: f"{value:.6f}" if "-duration" in key or "-time" in key else str(int(value))
        for key, value in slowest.metrics.items()
        if on.deployment is not None or key not in _QUEUES
    }
    return {**measured, **named(on)}


def named(on: Target) -> dict[str, str]:
    """Name who answers: a deployment and its replica, nothing for a model of its own."""
    if on.deployment is None or on.pod is None:
        return {}
    return {"deployment": on.deployment.name, "backend-host": on.pod.identity}


def usage(
    prompt_tokens: int, results: Sequence[Generation], each: int = 1, pondered: int | None = None
) -> dict[str, Any]:
    """Tokens of all prompts, and of the results, `each` of which in a row go on from one prompt.

    Of a prompt those were cached that none of its results computed; where the backend does not say, neither does this.
    `pondered` are the tokens of thoughts, None where nothing is read as one.
    """
    completion = sum(len(result.tokens) for result in results)
    cached = [int(result.metrics[_CACHED]) for result in results if _CACHED in result.metrics]
    told: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
    }
    if len(cached) == len(results):
        taken = sum(min(cached[at : at + each]) for at in range(0, len(cached), each))
        told["prompt_tokens_details"] = {"cached_tokens": taken}
    if pondered is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": pondered}
    return told
