"""Prompts with a ground truth, and what a policy says to them: one sample per (row, step, place), fixed by the seed."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from ftsim.training.clients import SamplingClient, Tokenizer
from ftsim.training.data.supervised import ROLES, read_objects, render
from ftsim.training.errors import DataError
from ftsim.training.sdk import types

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Prompt:
    """One row of the data set: a conversation that waits for the assistant. `row` is the line as it was read.

    `tokens` is empty for a row that is dropped because it leaves no room for an answer.
    """

    where: str
    messages: Messages
    row: Mapping[str, Any]
    tokens: Sequence[int] = ()


@dataclass(frozen=True)
class Sample:
    """What was sampled after a prompt, with the log-probability of every token when it was drawn (`logprobs`)."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    logprobs: Sequence[float]
    text: str
    finished: bool
    """Whether the model ended its turn by itself."""


@dataclass(frozen=True)
class Group:
    """The samples of one prompt with their rewards, which advantages are measured against."""

    prompt: Prompt
    samples: Sequence[Sample]
    rewards: Sequence[float]


RewardFn = Callable[[str, Mapping[str, Any]], float]
"""What a completion's text is worth, given the row of the data set."""
FilterFn = Callable[[Group], bool]
"""Whether a group is trained on."""


def load_prompts(path: str, tokenizer: Tokenizer, longest: int, *, max_examples: int | None = None) -> list[Prompt]:
    """The rows of a prompt file, dropped ones (longer than `longest` tokens) without tokens; raises `DataError`."""
    prompts = [
        replace(
            prompt,
            tokens=tokens if len(tokens := prompt_tokens(prompt.messages, tokenizer, prompt.where)) <= longest else (),
        )
        for prompt in read_objects(path, _prompt, max_examples=max_examples)
    ]
    if not any(prompt.tokens for prompt in prompts):
        raise DataError(f"{path}: no prompt has at most {longest} tokens, so none leaves room for an answer")
    return prompts


def _prompt(row: Mapping[str, Any], where: str) -> Prompt:
    messages = row.get("messages", row.get("prompt"))
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: neither 'messages' nor a 'prompt' to answer; the row has {sorted(row)}")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise DataError(f"{where}: message {index} is no object with a role of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise DataError(f"{where}: message {index} ({message['role']}) has no text for content")
    if messages[-1]["role"] == "assistant":
        raise DataError(f"{where}: the last message is the assistant's, so there is nothing to answer")
    return Prompt(where, messages, row)


def prompt_tokens(messages: Messages, tokenizer: Tokenizer, where: str) -> list[int]:
    """The conversation as the model reads it before its next turn; `DataError` as `render`."""
    text = render(messages, tokenizer, where, generation=True)
    return list(tokenizer.encode(text, add_special_tokens=False))


def paid(reward: object, prompt: Prompt) -> float:
    """What a reward function or an environment gave, as a number; `DataError` names the row it was given for."""
    try:
        number = float(reward)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{prompt.where}: it was rewarded with {reward!r}, which is no finite number")
    return number


def sampling_seed(seed: int, *place: int) -> int:
    """The seed of one request: equal for equal places in the run, different for different ones, below 2**48."""
    text = "/".join(str(number) for number in (seed, *place))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def sample_all(
    client: SamplingClient,
    tokenizer: Tokenizer,
    requests: Sequence[tuple[Sequence[int], int]],
    *,
    max_tokens: int,
    temperature: float,
) -> list[Sample]:
    """One completion per (prompt tokens, seed), all at once, in the order asked.

    Log-probabilities are those of the distribution that was sampled from: the policy's own at temperature 1 alone. No
    token is cut off (top_p 1, no top_k), which would shift them as well.
    """
    futures: list[Future[Any]] = []
    try:
        for prompt, seed in requests:
            params = types.SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
            futures.append(client.sample(types.ModelInput.from_ints(list(prompt)), 1, params))
        answers = [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    samples = []
    for (prompt, _), answer in zip(requests, answers, strict=True):
        (sequence,) = answer.sequences
        text = tokenizer.decode(list(sequence.tokens), skip_special_tokens=True)
        finished = sequence.stop_reason == "stop"
        samples.append(Sample(prompt, list(sequence.tokens), list(sequence.logprobs), text, finished))
    return samples
