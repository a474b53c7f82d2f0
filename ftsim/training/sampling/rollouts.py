"""Prompts with a ground truth, and what a policy says to them: one sample per (row, step, place), fixed by the seed."""

import hashlib
import json
import math
import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, overload

from ftsim.training.clients import SamplingClient, Tokenizer
from ftsim.training.data.conversation import ConversationError, read_messages, unread, without_nulls
from ftsim.training.data.files import BadRow, Row
from ftsim.training.data.forms import chat, said, unspelt
from ftsim.training.data.notes import Notes
from ftsim.training.data.store import IN_MEMORY
from ftsim.training.data.supervised import read_objects
from ftsim.training.data.turns import Conversation, Turns
from ftsim.training.errors import DataError
from ftsim.training.sdk import types


@dataclass(frozen=True)
class Prompt:
    """One row of the data set: a conversation that waits for the assistant. `row` is the line as it was read.

    `tokens` is empty for a row that is dropped because it leaves no room for an answer.
    """

    conversation: Conversation
    row: Mapping[str, Any]
    tokens: Sequence[int] = ()

    @property
    def where(self) -> str:
        return self.conversation.where


@dataclass(frozen=True)
class Sample:
    """A completion sampled after a prompt, with the log-probability of every token when it was drawn (`logprobs`)."""

    prompt: Sequence[int]
    tokens: Sequence[int]
    logprobs: Sequence[float]
    text: str
    finished: bool
    """True when the model ended its turn by itself."""


@dataclass(frozen=True)
class Group:
    """The samples of one prompt with their rewards, which advantages are measured against."""

    prompt: Prompt
    samples: Sequence[Sample]
    rewards: Sequence[float]


class Prompts(Sequence[Prompt]):
    """The prompts of a file in its order, kept in a file of the process; a dropped one has no tokens."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - it lives as long as this
        weakref.finalize(self, self._file.close)
        self._places = array("q")
        self._digest = hashlib.sha256()
        self.usable: list[bool] = []

    @property
    def digest(self) -> str:
        """SHA-256 over the tokens of all prompts, and over their rows, by which answers are rewarded."""
        return self._digest.hexdigest()

    def add(self, prompt: Prompt) -> None:
        told = json.dumps([list(prompt.tokens), dict(prompt.row)], sort_keys=True, default=repr)
        self._digest.update(told.encode() + b"\n")
        self.usable.append(bool(prompt.tokens))
        self._places.append(self._file.seek(0, os.SEEK_END))
        pickle.dump(prompt, self._file)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Prompt: ...

    @overload
    def __getitem__(self, at: slice) -> list[Prompt]: ...

    def __getitem__(self, at: int | slice) -> Prompt | list[Prompt]:
        if isinstance(at, slice):
            return [self[one] for one in range(len(self))[at]]
        self._file.seek(self._places[at])
        prompt: Prompt = pickle.load(self._file)
        return prompt


RewardFn = Callable[[str, Mapping[str, Any]], float]
"""(completion's text, row of the data set) -> its worth."""
FilterFn = Callable[[Group], bool]
"""(group) -> True when it is trained on."""


def load_prompts(
    path: str,
    tokenizer: Tokenizer,
    longest: int,
    *,
    max_examples: int | None = None,
    ground_truth_key: str | None = None,
    on_bad_row: str = "fail",
    notes: Notes | None = None,
) -> Prompts:
    """The rows of a prompt file, dropped ones (longer than `longest` tokens) without tokens; `notes` takes remarks.

    Raises `DataError` for bad rows. With `ground_truth_key`, a name or a path such as reward_model.ground_truth, a row
    without that value is a bad one.
    """
    said = notes or Notes()
    skip = said if on_bad_row == "skip" else None
    parse = prompt_reader(Turns(tokenizer, said), said, ground_truth_key)
    prompts = Prompts()
    for read in read_objects(path, parse, max_examples=max_examples, skip=skip):
        prompt = read or Prompt(Conversation("", []), {})
        prompts.add(prompt if len(prompt.tokens) <= longest else replace(prompt, tokens=()))
    if not any(prompts.usable):
        raise DataError(f"{path}: no prompt has at most {longest} tokens, so none leaves room for an answer")
    return prompts


def prompt_reader(turns: Turns, notes: Notes, ground_truth_key: str | None = None) -> Callable[[Row, str], Prompt]:
    """Returns what makes a prompt with its tokens of a row and its place."""

    def read(row: Row, where: str) -> Prompt:
        prompt = read_prompt(row, where, notes, ground_truth_key)
        return replace(prompt, tokens=turns.prompt_tokens(prompt.conversation))

    return read


def read_prompt(row: Row, where: str, notes: Notes, ground_truth_key: str | None = None) -> Prompt:
    """A row of `messages`, or of a `prompt` that is text or messages, which the assistant is to answer.

    The truth is put into the row's `ground_truth`, where rewards look for it. Raises `BadRow`.
    """
    row = without_nulls(row)
    field = "messages" if "messages" in row else "prompt"
    if field not in row:
        raise BadRow(where, f"neither 'messages' nor a 'prompt' to answer; the row has {sorted(row)}")
    try:
        asked = unspelt(row[field], field) if field == "prompt" else row[field]
        asked = [{"role": "user", "content": asked}] if field == "prompt" and isinstance(asked, str) else asked
        given = said({**row, field: asked}, field)
        conversation = chat(read_messages(given), {name: row[name] for name in row if name != "weight"}, where)
    except ConversationError as error:
        raise BadRow(where, str(error), "message") from error
    notes.unread([*unread(conversation.messages), *(["prompt"] if field == "messages" and "prompt" in row else [])])
    if row.get("weight", 1) != 1:
        notes.add("weight acts on the rows of sft, dpo and orpo; here the reward says what a sample is worth", where)
    if conversation.messages[-1].role == "assistant":
        raise BadRow(where, "the last message is the assistant's, so there is nothing to answer", "empty")
    truth = _found(row, ground_truth_key or "ground_truth")
    if truth is None and ground_truth_key in (None, "ground_truth"):
        truth = _found(row, "reward_model.ground_truth")  # as verl's rows have it
    if isinstance(truth, Mapping | list):
        notes.add("a truth that is a list or an object is never said: it is for a reward_fn of your own", where)
    if truth is None and ground_truth_key is not None:
        raise BadRow(
            where, f"{ground_truth_key} is not there, by which answers are rewarded; the row has {sorted(row)}", "truth"
        )
    return Prompt(conversation, row if truth is None else {**row, "ground_truth": truth})


def _found(row: object, path: str) -> object:
    """Find what stands at a path of names with dots between them; None when there is nothing."""
    for name in path.split("."):
        row = row.get(name) if isinstance(row, Mapping) else None
    return row


def paid(reward: object, prompt: Prompt) -> float:
    """Returns the reward of a function or an environment as a number; `DataError` names the row it was given for."""
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


class Sampling:
    """Completions that were asked for; `samples` waits for them."""

    def __init__(self, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]]) -> None:
        self._tokenizer = tokenizer
        self._prompts = prompts
        self.futures: list[Future[Any]] = []

    def samples(self) -> list[Sample]:
        """Returns the completions in the order asked; the first that fails cancels the others."""
        try:
            answers = [future.result() for future in self.futures]
        except BaseException:
            self.cancel()
            raise
        return [self._sample(prompt, *answer.sequences) for prompt, answer in zip(self._prompts, answers, strict=True)]

    def cancel(self) -> None:
        for future in self.futures:
            future.cancel()

    def _sample(self, prompt: Sequence[int], sequence: Any) -> Sample:
        text = self._tokenizer.decode(list(sequence.tokens), skip_special_tokens=True)
        return Sample(
            prompt, list(sequence.tokens), list(sequence.logprobs), text, finished=sequence.stop_reason == "stop"
        )


def begin_sampling(
    client: SamplingClient,
    tokenizer: Tokenizer,
    requests: Sequence[tuple[Sequence[int], int]],
    *,
    max_tokens: int,
    temperature: float,
) -> Sampling:
    """Ask for one completion per (prompt tokens, seed), all at once.

    Log-probabilities are those of the distribution that was sampled from: the policy's own at temperature 1 alone. No
    token is cut off (top_p 1, no top_k), which would shift them as well.
    """
    sampling = Sampling(tokenizer, [prompt for prompt, _ in requests])
    try:
        for prompt, seed in requests:
            params = types.SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
            sampling.futures.append(client.sample(types.ModelInput.from_ints(list(prompt)), 1, params))
    except BaseException:
        sampling.cancel()
        raise
    return sampling


def sample_all(
    client: SamplingClient,
    tokenizer: Tokenizer,
    requests: Sequence[tuple[Sequence[int], int]],
    *,
    max_tokens: int,
    temperature: float,
) -> list[Sample]:
    """As `begin_sampling`; waits for the completions and returns them in the order asked."""
    return begin_sampling(client, tokenizer, requests, max_tokens=max_tokens, temperature=temperature).samples()
