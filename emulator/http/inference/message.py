"""The assistant's message in a chat model's text: thought, content and tool calls, found while the text grows."""

import json
from dataclasses import dataclass, replace
from typing import Any

_CALL, _CALLED = "<tool_call>", "</tool_call>"
Delta = dict[str, Any]


@dataclass(frozen=True)
class Marks:
    """Text before and behind a thought, and before an answer, as a family of models writes it."""

    think: str = "<think>"
    thought: str = "</think>"
    answer: str = ""
    opened: bool = False
    """Whether the prompt has opened a thought, so that the text begins inside it."""

    def after(self, prompt: str) -> "Marks":
        """These marks for a text that goes on from the end of a prompt."""
        return replace(self, opened=prompt.rstrip().endswith(self.think))


FAMILIES = {
    "<|channel|>": Marks("<|channel|>analysis<|message|>", "<|end|><|start|>assistant", "<|channel|>final<|message|>"),
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
        self._gap = ""
        """White space behind what was said: it counts only if something follows."""
        self.thought = ""
        self.content = ""
        self.calls: list[dict[str, Any]] = []

    def add(self, text: str) -> Delta:
        """The parts that `text` adds: `reasoning_content`, `content`, `tool_calls`, or nothing yet."""
        before = len(self.thought), len(self.content), len(self.calls)
        self._text += text
        while self._part():
            pass
        return self._since(*before)

    def end(self) -> Delta:
        """The text that was held back: an unfinished thought is a thought, an unfinished call is content."""
        before = len(self.thought), len(self.content), len(self.calls)
        if self._part == self._think:
            self._ponder(self._text.rstrip())
        elif self._part != self._skip:
            self._say(self._text if self._part != self._call else _CALL + self._text)
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
        mark = self._marks.answer
        if mark.startswith(self._text[: len(mark)]) and len(self._text) < len(mark):
            return False
        self._part, self._text = self._speak, self._text.removeprefix(mark)
        return True

    def _think(self) -> bool:
        inside, closed, behind = self._text.partition(self._marks.thought)
        if closed:
            self._ponder(inside.rstrip())
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
        inside, called, behind = self._text.partition(_CALL)
        if called:
            self._say(inside)
            self._part, self._text = self._call, behind
            return True
        kept = len(inside) - _overlap(inside, _CALL)
        self._say(inside[:kept])
        self._text = inside[kept:]
        return False

    def _say(self, text: str) -> None:
        if said := text.rstrip():
            self.content += self._gap + said
            self._gap = ""
        self._gap += text[len(said) :]

    def _call(self) -> bool:
        inside, closed, behind = self._text.partition(_CALLED)
        if not closed:
            return False
        if (call := _function(inside)) is None:
            self._say(_CALL + inside + _CALLED)
        else:
            at = len(self.calls)
            self.calls.append({"id": f"call_{self._call_id}{at}", "index": at, "type": "function", "function": call})
        self._part, self._text = self._speak, behind
        return True


def _overlap(text: str, tag: str) -> int:
    """The number of last characters that may be the beginning of a tag."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-size:])), 0)


def _function(text: str) -> dict[str, str] | None:
    """Name and arguments of a tool call, None when the model did not write one."""
    try:
        call = json.loads(text)
    except ValueError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    return {"name": call["name"], "arguments": json.dumps(call.get("arguments", {}))}
