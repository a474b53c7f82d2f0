"""Conversations as tokens, turn by turn: what the model reads before it speaks, and what it is to say then."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ftsim.training.clients import Tokenizer
from ftsim.training.data.conversation import Message
from ftsim.training.data.notes import Notes
from ftsim.training.errors import DataError

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Conversation:
    """Messages of which the assistant's are trained on from `train_from` on, each by its own factor times `weight`."""

    where: str
    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else the chat template is given, such as enable_thinking."""
    train_from: int = 0
    weight: float = 1.0
    marked_only: bool = False
    """Only messages that are marked "trainable": true are trained on."""

    @property
    def chosen(self) -> list[int]:
        """The places of the messages that are trained on while the row itself has a weight."""
        return [
            at
            for at, one in enumerate(self.messages)
            if at >= self.train_from
            and one.factor
            and not (self.marked_only and "trainable" not in one.model_fields_set)
        ]

    @property
    def trained(self) -> list[int]:
        """The places of the messages that are trained on."""
        return self.chosen if self.weight else []


@dataclass(frozen=True)
class Text:
    """Plain text and what is to follow it; no chat template has a part in it."""

    where: str
    prompt: str
    completion: str
    weight: float = 1.0


TextRow = Conversation | Text


@dataclass(frozen=True)
class Example:
    """Tokens with the weight of each in the loss; both of length T + 1."""

    tokens: Sequence[int]
    weights: Sequence[float]

    @property
    def loss_tokens(self) -> int:
        return sum(1 for weight in self.weights[1:] if weight)


@dataclass(frozen=True)
class _Turn:
    """Holds what the assistant reads before it says message `at`, and what it says then, as text."""

    at: int
    prompt: str
    answer: str


class Turns:
    """Makes examples of rows with one tokenizer; `encoded` counts the tokens that it encoded for that."""

    def __init__(self, tokenizer: Tokenizer, notes: Notes | None = None) -> None:
        self._tokenizer = tokenizer
        self._notes = notes or Notes()
        self._template = str(getattr(tokenizer, "chat_template", None) or "")
        added = getattr(tokenizer, "added_tokens_decoder", {})
        # The longest first, as tokenizers look for them.
        names = sorted({str(token) for token in added.values()}, key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(map(re.escape, names))})") if names else None
        self._special = {token for token, one in added.items() if one.special} | set(
            getattr(tokenizer, "all_special_ids", ())
        )
        special = sorted({str(one) for one in added.values() if one.special}, key=len, reverse=True)
        self._marks = re.compile("|".join(map(re.escape, special))) if special else None
        self.encoded = 0

    def examples(self, row: TextRow) -> list[Example]:
        """The examples of a row: one as long as each turn's prompt goes on from the turn before, token by token.

        Raises `DataError` when the chat template refuses the row, or leaves out what somebody says.
        """
        if isinstance(row, Text):
            return [self._text(row)] if row.weight else []
        shown = self._shown(row)
        turns = [self._turn(row, shown, at) for at in row.trained]
        if not turns:
            return []
        self._check(row, shown, turns)
        pieces: dict[str, list[int]] = {}
        last = turns[-1].prompt
        whole = self._encode(last)
        # Between added tokens text is encoded piece by piece, each piece once. Tokenizers to whom a piece's neighbours
        # matter are known by the longest prompt, and get every text whole.
        if self._added is None or whole != self._by_pieces(last, pieces):
            return list(self._join(row, turns, self._encode))
        return list(self._join(row, turns, lambda text: self._by_pieces(text, pieces)))

    def prompt_tokens(self, row: Conversation) -> list[int]:
        """The whole conversation as the model reads it before its next turn."""
        shown = self._shown(row)
        text = self._render(row, shown, generation=True)
        self._check_tools(row, shown, text)
        self._check_said(row, text)
        return self._encode(text)

    def turn_end(self, row: Conversation) -> list[int]:
        """The tokens that end a turn of the assistant after this conversation."""
        shown = [*self._shown(row), {"role": "assistant", "content": "x"}]
        said = self._said(self._turn(row, shown, len(shown) - 1), self._encode)
        return said[-1:] if said and said[-1] in self._special else []

    def _turn(self, row: Conversation, shown: Sequence[Mapping[str, Any]], at: int) -> "_Turn":
        """Message `at` after its own prompt; `DataError` when the template does not answer that prompt."""
        prompt = self._render(row, shown[:at], generation=True)
        text = self._render(row, shown[: at + 1], generation=False)
        if text.startswith(prompt):
            return _Turn(at, prompt, text[len(prompt) :])
        if "enable_thinking" not in row.settings and not shown[at].get("reasoning_content"):
            # A prompt that opens a thought, and an answer without one: it answers the prompt that asks for none.
            silent = replace(row, settings={**row.settings, "enable_thinking": False})
            if text.startswith(quiet := self._render(silent, shown[:at], generation=True)):
                return _Turn(at, quiet, text[len(quiet) :])
        # What was said before may be told otherwise once more is said. Then the turn begins where the template calls on
        # the assistant for the last time, before the first word that depends on what the turn says.
        history = self._render(row, shown[:at], generation=False)
        other = {"role": "assistant", "content": "b" if str(shown[at]["content"]).startswith("a") else "a"}
        fixed = _beginning(text, self._render(row, [*shown[:at], other], generation=False))
        call = prompt.removeprefix(history) if prompt.startswith(history) else ""
        begins = fixed.rfind(call) if call else -1
        if begins < 0:
            raise DataError(
                f"{row.where}: the chat template does not render message {at} after its own prompt, so what is to be "
                "said there is not known; use a template that does, or a row whose thoughts fit enable_thinking"
            )
        return _Turn(at, prompt, text[begins + len(call) :])

    def _join(self, row: Conversation, turns: Sequence["_Turn"], encode: Encode) -> Iterator[Example]:
        tokens: list[int] = []
        weights: list[float] = []
        for turn in turns:
            before = encode(turn.prompt)
            if tokens and before[: len(tokens)] != tokens:
                yield Example(tokens, weights)
                weights = []
            said = self._said(turn, encode)
            if not said or said[-1] not in self._special:
                self._notes.add(
                    "the chat template writes no token that ends a turn: nothing teaches when to stop", row.where
                )
            tokens = before + said
            weights += [0.0] * (len(before) - len(weights)) + [row.messages[turn.at].factor * row.weight] * len(said)
        yield Example(tokens, weights)

    def _said(self, turn: "_Turn", encode: Encode) -> list[int]:
        """The tokens of a turn up to the one that ends it."""
        cut = 0
        if self._added is not None:
            cut = max((found.end() for found in self._added.finditer(turn.prompt)), default=0)
        tail = encode(turn.prompt[cut:])
        joint = encode(turn.prompt[cut:] + turn.answer)
        # Encoded in one go where that leaves the prompt's tokens as they are: some tokenizers begin a text otherwise.
        answer = joint[len(tail) :] if joint[: len(tail)] == tail else encode(turn.answer)
        for end in range(len(answer), 0, -1):
            if answer[end - 1] in self._special:
                return answer[:end] if not self._tokenizer.decode(answer[end:]).strip() else answer
        return answer

    def _text(self, row: Text) -> Example:
        """The prompt as a server reads it, the completion, and the end of text."""
        prompt = self._encode(row.prompt, special=True)
        both = self._encode(row.prompt + row.completion, special=True)
        fits = both[: len(prompt)] == prompt and (both[len(prompt) :] or [0])[-1] not in self._special
        said = both[len(prompt) :] if fits else self._encode(row.completion)
        if self._tokenizer.eos_token_id is not None and said[-1:] != [self._tokenizer.eos_token_id]:
            said.append(self._tokenizer.eos_token_id)
        return Example(prompt + said, [0.0] * len(prompt) + [row.weight] * len(said))

    def _encode(self, text: str, *, special: bool = False) -> list[int]:
        ids = list(self._tokenizer.encode(text, add_special_tokens=special))
        self.encoded += len(ids)
        return ids

    def _by_pieces(self, text: str, known: dict[str, list[int]]) -> list[int]:
        assert self._added is not None
        ids: list[int] = []
        for piece in self._added.split(text):
            if piece:
                if (found := known.get(piece)) is None:
                    found = known[piece] = self._encode(piece)
                ids += found
        return ids

    def _shown(self, row: Conversation) -> list[dict[str, Any]]:
        return [one.for_template(self._template) for one in row.messages]

    def _render(self, row: Conversation, messages: Sequence[Mapping[str, Any]], *, generation: bool) -> str:
        """Messages as text, up to where the model speaks next with `generation`."""
        more = {"tools": list(row.tools)} if row.tools else {}
        try:
            # A list of conversations: a single one that is empty, before an assistant who begins, would be refused.
            (text,) = self._tokenizer.apply_chat_template(
                [list(messages)], tokenize=False, add_generation_prompt=generation, **more, **row.settings
            )
        except Exception as error:
            raise DataError(f"{row.where}: the tokenizer's chat template refuses it ({error})") from error
        return str(text)

    def _check(self, row: Conversation, shown: Sequence[Mapping[str, Any]], turns: Sequence["_Turn"]) -> None:
        """Notes words of the assistant that the template leaves out; raises `DataError` as `_check_said`."""
        for turn in turns:
            for said in (shown[turn.at]["content"], shown[turn.at].get("reasoning_content") or ""):
                if said.strip() not in turn.answer:
                    self._notes.add(
                        "the chat template leaves out or changes what the assistant says or thinks", row.where
                    )
        last = turns[-1]
        self._check_tools(row, shown[: last.at], last.prompt)
        self._check_said(replace(row, messages=row.messages[: last.at + 1]), last.prompt + last.answer)

    def _check_tools(self, row: Conversation, shown: Sequence[Mapping[str, Any]], prompt: str) -> None:
        """Raises `DataError` when the prompt is the same without the row's tools, whatever else names them in it."""
        if row.tools and prompt == self._render(replace(row, tools=()), shown, generation=True):
            raise DataError(
                f"{row.where}: the tokenizer's chat template leaves out the row's tools: use a tokenizer "
                "whose template has tools, or leave them out of the row"
            )

    def _check_said(self, row: Conversation, text: str) -> None:
        """Raises `DataError` for a tool, or for words of anybody but the assistant, that the template leaves out."""
        for tool in row.tools:
            if (name := tool["function"]["name"]) not in text:
                raise DataError(
                    f"{row.where}: the tokenizer's chat template leaves out the tool {name!r}: use a tokenizer whose "
                    "template has tools, or leave out the row's"
                )
        if self._marks and any(self._marks.search(message.content) for message in row.messages):
            self._notes.add("a message spells a special token, which is read as one, as it is when served", row.where)
        for at, message in enumerate(row.messages):
            missing = [call.function.name for call in message.tool_calls if call.function.name not in text]
            said = message.content.strip()
            if (
                message.role != "assistant"
                and said not in text
                and json.dumps(said, ensure_ascii=False)[1:-1] not in text
            ):
                missing.append(said)
            if missing:
                raise DataError(
                    f"{row.where}: the tokenizer's chat template leaves out message {at} ({message.role}): give it "
                    "another role, such as system, or use a tokenizer whose template has this one"
                )


def _beginning(one: str, other: str) -> str:
    """The text that both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))]
