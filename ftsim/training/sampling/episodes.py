"""Conversations of several turns: played in step with one another, and what each turn found out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from ftsim.training.clients import Tokenizer, TrainingClient
from ftsim.training.data.batches import Step
from ftsim.training.errors import ConfigError
from ftsim.training.sampling.advantages import completion_logprobs
from ftsim.training.sampling.environments import Environment
from ftsim.training.sampling.policy import Policy
from ftsim.training.sampling.rollouts import Prompt, Sample, paid, prompt_tokens, sample_all, sampling_seed


class TurnSettings(Protocol):
    """The fields of a configuration that say how episodes are played."""

    seed: int
    completions_per_prompt: int
    max_completion_tokens: int
    max_turns: int
    temperature: float


class GainSettings(Protocol):
    """The fields of a configuration that say what a turn has to raise."""

    answer_template: str
    information_gain: str


@dataclass
class Episode:
    """One conversation: its messages, the policy's turns, and what the environment paid at the end."""

    prompt: Prompt
    place: tuple[int, ...]
    """Step, row and number within the group: with the seed it fixes every turn."""
    messages: list[Mapping[str, Any]]
    tokens: Sequence[int]
    """The conversation so far, as the next turn reads it."""
    samples: list[Sample] = field(default_factory=list)
    outcome: float = 0.0
    over: bool = False


def play(
    config: TurnSettings,
    policy: Policy,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    step: Step,
    environment: Environment,
) -> list[Episode]:
    """Returns a group of episodes for every row of the step, group after group; all of them take their turns at once.

    An episode ends when the environment says so, after `max_turns`, or when the context is full.
    """
    episodes = [
        Episode(prompts[row], (step.index, row, place), list(prompts[row].messages), prompts[row].tokens)
        for row in step.micro_batches[0]
        for place in range(config.completions_per_prompt)
    ]
    for turn in range(config.max_turns):
        playing = [one for one in episodes if not one.over]
        samples = sample_all(
            policy.client,
            tokenizer,
            [(one.tokens, sampling_seed(config.seed, *one.place, turn)) for one in playing],
            max_tokens=config.max_completion_tokens,
            temperature=config.temperature,
        )
        for one, sample in zip(playing, samples, strict=True):
            _take_turn(one, sample, tokenizer, environment)
            one.over = one.over or len(one.tokens) > policy.longest_prompt
    return episodes


def _take_turn(one: Episode, sample: Sample, tokenizer: Tokenizer, environment: Environment) -> None:
    one.samples.append(sample)
    reply = environment(one.prompt.row, [taken.text for taken in one.samples])
    one.outcome += paid(reply.reward, one.prompt)
    if reply.text is None:
        one.over = True
        return
    one.messages += [{"role": "assistant", "content": sample.text}, {"role": "user", "content": reply.text}]
    one.tokens = prompt_tokens(one.messages, tokenizer, one.prompt.where)


def information_gains(
    config: GainSettings, client: TrainingClient, tokenizer: Tokenizer, episodes: Sequence[Episode]
) -> list[list[float]]:
    """Returns, per episode and turn but the last: by how much the reply raised the policy's belief in the right answer.

    The belief is exp(mean log-probability per token) of the answer, said next (`information_gain` "probability"), or
    that mean itself ("logprob"). It is asked of the trainer, which holds the policy that is being trained.
    """
    answers = {id(one.prompt): _answer(config, one.prompt, tokenizer) for one in episodes}
    asked: dict[tuple[tuple[int, ...], tuple[int, ...]], Sample] = {}
    places: list[list[tuple[tuple[int, ...], tuple[int, ...]]]] = []
    for one in episodes:
        answer = answers[id(one.prompt)]
        keys = [(tuple(sample.prompt), answer) for sample in one.samples]
        places.append(keys)
        asked |= {key: Sample(*key, logprobs=(), text="", finished=True) for key in keys}
    found = completion_logprobs(client, list(asked.values()))
    means = dict(zip(asked, (math.fsum(values) / len(values) for values in found), strict=True))
    belief = means if config.information_gain == "logprob" else {key: math.exp(mean) for key, mean in means.items()}
    return [[belief[after] - belief[before] for before, after in pairwise(keys)] for keys in places]


def _answer(config: GainSettings, prompt: Prompt, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Returns the right answer as the policy would say it, with the token that ends its turn."""
    try:
        text = config.answer_template.format_map(prompt.row)
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(f"answer_template {config.answer_template!r} does not fit {prompt.where}: {error}") from error
    return tuple(tokenizer.encode(text + (tokenizer.eos_token or ""), add_special_tokens=False))
