"""The assistant's message in a chat model's text: thought, content and tool calls, found while the text grows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from emulator.http.inference.call_forms import JSON, CallForm, form_of
from emulator.http.inference.calls import Found, schemas_of

Delta = dict[str, Any]


@dataclass(frozen=True)
class Marks:
    """Text before and behind a thought, and before an answer, as a family of models writes it."""

    think: str = "<think>"
    thought: str = "</think>"
    answers: tuple[str, ...] = ()
    opened: bool = False
    """Whether the prompt has opened a thought, so that the text begins inside it."""
    calls: CallForm = JSON
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of the parameters of the tools that may be called, by name."""

    def after(self, prompt: str) -> "Marks":
        """These marks for a text that goes on from the end of a prompt."""
        return replace(self, opened=prompt.rstrip().endswith(self.think))

    def calling(self, template: str, tools: Sequence[Mapping[str, Any]]) -> "Marks":
        """These marks, with tools called as a chat template renders calls."""
        form = form_of(template)
        return self if form.needs_tools and not tools else replace(self, calls=form, schemas=schemas_of(tools))


FAMILIES = {
    "<|channel|>": Marks(
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant",
        ("<|channel|>final<|message|>", "<|channel|>commentary<|message|>"),
    ),
    "<|channel>": Marks("<|channel>thought\n", "<channel|>"),
    "[THINK]": Marks("[THINK]", "[/THINK]"),
}
"""Marks by what stands in the chat template of a family; all others have those of `Marks`."""


def marks_of(template: str) -> Marks:
    """The marks that a chat template writes."""
    return next((marks for sign, marks in FAMILIES.items() if sign in template), Marks())


class Message:
    """Takes text, gives what it adds to the message; a tool call is given when it is whole.

    White space around a thought belongs to nobody, and so does that at the end of what is said beside tool calls.
    """

    def __init__(self, call_id: str, marks: Marks | None = None) -> None:
        self._call_id = call_id
        self._marks = marks or Marks()
        self._text = ""
        self._part = self._think if self._marks.opened else self._start
        self._begun = ""
        """The text that began the call which is read."""
        self._gap = ""
        """White space behind what was said: it counts only if something follows."""
        self._taken = 0
        self.pondered = 0
        """Characters of the text that are a thought, its marks among them."""
        self.thought = ""
        self.content = ""
        self.calls: list[dict[str, Any]] = []

    def add(self, text: str) -> Delta:
        """The parts that `text` adds: `reasoning_content`, `content`, `tool_calls`, or nothing yet."""
        before = len(self.thought), len(self.content), len(self.calls)
        self._text += text
        self._taken += len(text)
        while self._part():
            pass
        return self._since(*before)

    def end(self) -> Delta:
        """The text that was held back: an unfinished thought is a thought, an unfinished call is content."""
        before = len(self.thought), len(self.content), len(self.calls)
        if self._part == self._think:
            self._ponder(self._text.rstrip())
            self.pondered = self._taken
        elif self._part != self._skip:
            while self._part == self._call and self._take(self._read(ended=True)):
                while self._part():
                    pass
            self._say((self._begun if self._part == self._call else "") + self._text)
            if not self.calls:
                self.content += self._gap
        self._text = ""
        return self._since(*before)

    def whole(self) -> dict[str, Any]:
        """The message of an answer that is not streamed."""
        said = (self.content.strip() or None) if self.calls else self.content
        thought = {"reasoning_content": self.thought} if self.thought else {}
        calls = {"tool_calls": self.calls} if self.calls else {}
        return {"role": "assistant", **thought, "content": said, **calls}

    def _since(self, thought: int, content: int, calls: int) -> Delta:
        added = {
            "reasoning_content": self.thought[thought:],
            "content": self.content[content:],
            "tool_calls": self.calls[calls:],
        }
        return {key: value for key, value in added.items() if value}

    def _start(self) -> bool:
        """Read the beginning of a text, which may be a thought. Every part says whether the next one is to go on."""
        told, mark = self._text.lstrip(), self._marks.think
        if mark.startswith(told[: len(mark)]) and len(told) < len(mark):
            return False
        self._part = self._open
        if told.startswith(mark):
            self._part, self._text = self._think, told[len(mark) :]
        return True

    def _open(self) -> bool:
        """Read what stands before an answer."""
        for marks in (self._marks.answers, self._marks.calls.starts):
            for mark in marks:
                if len(self._text) < len(mark) and mark.startswith(self._text):
                    return False
        for mark in self._marks.answers:
            if self._text.startswith(mark):
                self._part, self._text = self._speak, self._text.removeprefix(mark)
                return True
        self._part = self._speak
        for mark in self._marks.calls.starts:
            if self._text.startswith(mark):
                self._begin(mark, self._text.removeprefix(mark))
                break
        return True

    def _think(self) -> bool:
        inside, closed, behind = self._text.partition(self._marks.thought)
        if closed:
            self._ponder(inside.rstrip())
            self.pondered = self._taken - len(behind)
            self._part, self._text = self._skip, behind
            return True
        kept = len(inside[: len(inside) - _overlap(inside, self._marks.thought)].rstrip())
        self._ponder(inside[:kept])
        self._text = inside[kept:]
        return False

    def _ponder(self, text: str) -> None:
        self.thought += text if self.thought else text.lstrip()

    def _skip(self) -> bool:
        self._text = self._text.lstrip()
        if self._text:
            self._part = self._open
        return bool(self._text)

    def _speak(self) -> bool:
        begins = self._marks.calls.begins
        at, begun = min(((at, mark) for mark in begins if (at := self._text.find(mark)) >= 0), default=(-1, ""))
        if begun:
            self._say(self._text[:at])
            self._begin(begun, self._text[at + len(begun) :])
            return True
        kept = len(self._text) - max(_overlap(self._text, mark) for mark in begins)
        self._say(self._text[:kept])
        self._text = self._text[kept:]
        return False

    def _begin(self, begun: str, behind: str) -> None:
        self._part, self._begun, self._text = self._call, begun, behind

    def _say(self, text: str) -> None:
        if said := text.rstrip():
            self.content += self._gap + said
            self._gap = ""
        self._gap += text[len(said) :]

    def _call(self) -> bool:
        return self._take(self._read(ended=False))

    def _read(self, ended: bool) -> Found | None:
        return self._marks.calls.read(self._text, ended, self._marks.schemas)

    def _take(self, found: Found | None) -> bool:
        """Note what was read and go on behind it; nonsense is content. False while it is not whole."""
        if found is None:
            return False
        if not found.calls:
            self._say(self._begun + self._text[: found.used])
        for call in found.calls:
            at = len(self.calls)
            function = {"name": call.name, "arguments": json.dumps(call.arguments)}
            call_id = call.call_id or f"call_{self._call_id}{at}"
            self.calls.append({"id": call_id, "index": at, "type": "function", "function": function})
        self._part, self._text = self._speak, self._text[found.used :]
        return True


def _overlap(text: str, tag: str) -> int:
    """The number of last characters that may be the beginning of a tag."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-size:])), 0)


def remembered(shown: Sequence[Mapping[str, Any]], history: str | None) -> Sequence[Mapping[str, Any]]:
    """Messages for a template, with the thoughts that the `reasoning_history` of a request leaves in them."""
    if history is None:
        return shown
    asked = max((at for at, one in enumerate(shown) if one["role"] == "user"), default=-1)
    return [
        {key: value for key, value in one.items() if key != "reasoning_content"}
        if history == "disabled" or at < asked
        else one
        for at, one in enumerate(shown)
    ]
