"""Conversations of several turns: played in step with one another, and what each turn found out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

from ftsim.training.clients import Tokenizer, TrainingClient
from ftsim.training.data.batches import Step
from ftsim.training.data.conversation import Message
from ftsim.training.data.turns import Conversation, Turns
from ftsim.training.errors import ConfigError
from ftsim.training.sampling.advantages import completion_logprobs
from ftsim.training.sampling.environments import Environment
from ftsim.training.sampling.policy import Policy
from ftsim.training.sampling.rollouts import Prompt, Sample, paid, sample_all, sampling_seed


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
    conversation: Conversation
    """The messages so far."""
    tokens: Sequence[int]
    """The same as the next turn reads it."""
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
        Episode(prompt, (step.index, row, place), prompt.conversation, prompt.tokens)
        for row, prompt in [(row, prompts[row]) for row in step.micro_batches[0]]
        for place in range(config.completions_per_prompt)
    ]
    turns = Turns(tokenizer)
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
            _take_turn(one, sample, turns, environment)
            one.over = one.over or len(one.tokens) > policy.longest_prompt
    return episodes


def _take_turn(one: Episode, sample: Sample, turns: Turns, environment: Environment) -> None:
    one.samples.append(sample)
    reply = environment(one.prompt.row, [taken.text for taken in one.samples])
    one.outcome += paid(reply.reward, one.prompt)
    if reply.text is None:
        one.over = True
        return
    said = [Message(role="assistant", content=sample.text), Message(role="user", content=reply.text)]
    one.conversation = replace(one.conversation, messages=[*one.conversation.messages, *said])
    one.tokens = turns.prompt_tokens(one.conversation)


def information_gains(
    config: GainSettings, client: TrainingClient, tokenizer: Tokenizer, episodes: Sequence[Episode]
) -> list[list[float]]:
    """Returns, per episode and turn but the last: by how much the reply raised the policy's belief in the right answer.

    The belief is exp(mean log-probability per token) of the answer, said next (`information_gain` "probability"), or
    that mean itself ("logprob"). It is asked of the trainer, which holds the policy that is being trained.
    """
    turns = Turns(tokenizer)
    answers = {id(one.prompt): _answer(config, one.prompt, tokenizer, turns) for one in episodes}
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


def _answer(config: GainSettings, prompt: Prompt, tokenizer: Tokenizer, turns: Turns) -> tuple[int, ...]:
    """Returns the right answer as the policy would say it, with the token by which the chat template ends a turn."""
    try:
        text = config.answer_template.format_map(prompt.row)
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(f"answer_template {config.answer_template!r} does not fit {prompt.where}: {error}") from error
    said = tokenizer.encode(text, add_special_tokens=False)
    return tuple([*said, *turns.turn_end(prompt.conversation)])
