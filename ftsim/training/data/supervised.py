"""Supervised data: JSONL rows, and the tokens and loss weights they become."""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ftsim.training.errors import ConfigError, DataError
from ftsim.training.sdk import types

T = TypeVar("T")
Row = Mapping[str, Any]
ROLES = ("system", "developer", "user", "assistant", "tool")
_VERBATIM = ("system", "developer", "user")
"""Whose words a template repeats; thoughts are left out on purpose, results of tools may be written as JSON."""


@dataclass(frozen=True)
class TextRow:
    """One line of the file: either chat `messages`, or a raw `prompt` and its `completion`.

    Messages from `train_from` on are trained on where they are the assistant's.
    """

    where: str
    messages: Sequence[Mapping[str, Any]] = ()
    train_from: int = 0
    prompt: str = ""
    completion: str = ""


@dataclass(frozen=True)
class Example:
    """Tokens with the weight of each in the loss; both of length T + 1."""

    tokens: Sequence[int]
    weights: Sequence[float]

    @property
    def loss_tokens(self) -> int:
        return sum(1 for weight in self.weights[1:] if weight)


def read_jsonl(path: str | Path, *, max_examples: int | None = None) -> list[TextRow]:
    """Every row of a JSONL file; `DataError` with file, line number and reason for the first bad line."""
    return read_objects(path, _text_row, max_examples=max_examples)


def read_objects(path: str | Path, parse: Callable[[Row, str], T], *, max_examples: int | None = None) -> list[T]:
    """What `parse` makes of every object of a JSONL file and of its place, which error messages begin with."""
    path = Path(path)
    rows: list[T] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    rows.append(parse(_json_object(line, where), where))
                if max_examples is not None and len(rows) == max_examples:
                    break
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if not rows:
        raise DataError(f"{path} holds no rows: one JSON object per line is wanted")
    return rows


def _json_object(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line.decode("utf-8-sig"))
        if b"\\u" in line:  # JSON may spell half a character, which no tokenizer takes
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 (byte {error.start})") from error
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise DataError(f"{where}: {half!r} is half of a character, a surrogate without the other half") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object is wanted, not {_kind(row)}")
    return row


def _text_row(row: Row, where: str) -> TextRow:
    if "messages" in row:
        return TextRow(where, check_messages(row["messages"], where, "messages"))
    if "prompt" not in row or "completion" not in row:
        raise DataError(f"{where}: neither 'messages' nor 'prompt' and 'completion'; the row has {sorted(row)}")
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        if not completion:
            raise DataError(f"{where}: the completion is empty, so there is nothing to train on")
        return TextRow(where, prompt=prompt, completion=completion)
    if isinstance(prompt, list) and isinstance(completion, list):
        messages = [*prompt, *completion]
        return TextRow(where, check_messages(messages, where, "prompt and completion", len(prompt)), len(prompt))
    raise DataError(f"{where}: prompt and completion must both be text or both be lists of messages")


def check_messages(messages: Any, where: str, field: str, train_from: int = 0) -> list[Mapping[str, Any]]:
    """`messages` if they are chat messages with something to train on from `train_from` on, else `DataError`."""
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: {field} must be a list with at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise DataError(f"{where}: message {index} is {_kind(message)}, not an object")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise DataError(f"{where}: message {index} has role {role!r}; known roles are {', '.join(ROLES)}")
        calls = role == "assistant" and message.get("tool_calls")
        if not isinstance(content, str) and not (content is None and calls):
            raise DataError(f"{where}: message {index} ({role}) has {_kind(content)} for content, not text")
    if not any(trained_on(message) for message in messages[train_from:]):
        raise DataError(f"{where}: no assistant message to train on")
    return messages


def trained_on(message: Mapping[str, Any]) -> bool:
    """Whether a message counts in the loss: the assistant's, unless it carries `"weight": 0`."""
    return message["role"] == "assistant" and bool(message.get("weight", 1))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def load_tokenizer(name: str) -> Any:
    """The tokenizer of `tokenizer_model`: a folder or a Hugging Face name; `ConfigError` when it does not load."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except Exception as error:
        raise ConfigError(f"tokenizer_model {name!r} does not load: {_offline(name) or error}") from error


def _offline(name: str) -> str | None:
    """What the offline hub has instead, None when the hub is not offline or has this name."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE or Path(name).exists():
        return None
    folders = Path(constants.HF_HUB_CACHE).glob("models--*")
    names = sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)
    if name in names:
        return None
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{meant}the hub is offline, and its cache has {', '.join(names) or 'nothing'}; or give a folder"


def tokenize(row: TextRow, tokenizer: Any) -> Example:
    """Tokens and weights of a row: weight 1 on what the assistant says and on the token that ends its turn.

    Trained and other text are encoded apart, so the tokens to learn are those a sampler would have to produce
    after the same prompt.
    """
    tokens: list[int] = []
    weights: list[float] = []
    for text, train in _segments(row, tokenizer):
        ids = tokenizer.encode(text, add_special_tokens=False)
        tokens += ids
        weights += [1.0 if train else 0.0] * len(ids)
    if not row.messages and tokenizer.eos_token_id is not None:
        tokens.append(tokenizer.eos_token_id)
        weights.append(1.0)
    return Example(tokens, weights)


def _segments(row: TextRow, tokenizer: Any) -> list[tuple[str, bool]]:
    """The row as text, cut where training starts and stops."""
    if not row.messages:
        return [(row.prompt, False), (row.completion, True)]
    text = render(row.messages, tokenizer, row.where, generation=False)
    segments: list[tuple[str, bool]] = []
    done = 0
    for index, message in enumerate(row.messages):
        if index < row.train_from or not trained_on(message):
            continue
        prompt = render(row.messages[:index], tokenizer, row.where, generation=True)
        if not text.startswith(prompt):
            raise DataError(
                f"{row.where}: the chat template does not render message {index} after its own prompt, so its "
                "tokens cannot be told apart; split the conversation so that it comes last"
            )
        end = _turn_end(text, len(prompt), message.get("content") or "", tokenizer.eos_token)
        segments += [(text[done : len(prompt)], False), (text[len(prompt) : end], True)]
        done = end
    return [(piece, train) for piece, train in [*segments, (text[done:], False)] if piece]


def render(messages: Sequence[Mapping[str, Any]], tokenizer: Any, where: str, *, generation: bool) -> str:
    """A conversation as text, up to where the model speaks next with `generation`.

    `DataError` when the chat template refuses it, and when it leaves out what somebody but the assistant says: many
    templates know no `developer` and pass over such a message without a word.
    """
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generation)
    except Exception as error:
        raise DataError(f"{where}: the tokenizer's chat template refuses it ({error})") from error
    for index, message in enumerate(messages):
        if message["role"] in _VERBATIM and message["content"].strip() not in text:
            raise DataError(
                f"{where}: the tokenizer's chat template leaves out message {index} ({message['role']}): give it "
                "another role, such as system, or use a tokenizer whose template has this one"
            )
    return text


def _turn_end(text: str, start: int, content: str, end_of_turn: str | None) -> int:
    """Where the turn beginning at `start` ends, its end-of-turn token included."""
    found = text.find(content.strip(), start) if content.strip() else start
    after = (found if found >= 0 else start) + len(content.strip())
    end = text.find(end_of_turn, after) if end_of_turn else -1
    return end + len(end_of_turn) if end >= 0 and end_of_turn else after


def fit(example: Example, max_seq_len: int, *, truncate: bool) -> Example | None:
    """The example within `max_seq_len` positions; None when it does not fit or nothing to learn is left."""
    if len(example.tokens) > max_seq_len + 1:
        if not truncate:
            return None
        example = Example(example.tokens[: max_seq_len + 1], example.weights[: max_seq_len + 1])
    return example if example.loss_tokens else None


@dataclass(frozen=True)
class Loaded:
    """Datums by row of the file, None where the row is dropped, and how many were cut to fit."""

    data: Sequence[Any]
    truncated: int

    @property
    def dropped(self) -> int:
        return sum(one is None for one in self.data)


def load_supervised(
    path: str, tokenizer: Any, max_seq_len: int, *, truncate: bool, max_examples: int | None = None
) -> Loaded:
    """A JSONL file as datums; `DataError` for bad lines, and when no row is left to train on."""
    data: list[Any] = []
    truncated = 0
    for row in read_jsonl(path, max_examples=max_examples):
        example = tokenize(row, tokenizer)
        fitted = fit(example, max_seq_len, truncate=truncate)
        truncated += fitted is not None and fitted is not example
        data.append(None if fitted is None else datum(fitted))
    if all(one is None for one in data):
        raise DataError(f"{path}: no row has anything to train on within {max_seq_len} tokens")
    return Loaded(data, truncated)


def datum(example: Example) -> Any:
    """The SDK's datum: position i reads token i and predicts token i + 1 (WIRE 2.8)."""
    length = len(example.tokens) - 1
    return types.Datum(
        model_input=types.ModelInput.from_ints(list(example.tokens[:-1])),  # (T,)
        loss_fn_inputs={
            "target_tokens": types.TensorData(data=list(example.tokens[1:]), dtype="int64", shape=[length]),
            "weights": types.TensorData(data=list(example.weights[1:]), dtype="float32", shape=[length]),
        },
    )
