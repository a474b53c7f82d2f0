"""The events of a Responses stream: each item of the output is added, grows and is done, and the last has them all."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from emulator.http.inference.adapters import Event, Writer

_PARTS = {"message": "output_text", "reasoning": "reasoning_text"}
"""The type of an item's only part, by the type of the item."""
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


class ResponseWriter(Writer):
    """Writes the items as they grow: a thought, a text, then each call; `response` is the whole so far."""

    def __init__(self, head: Mapping[str, Any]) -> None:
        self.response: dict[str, Any] = {**head, "output": []}
        self._number = -1
        self._item: dict[str, Any] = {}
        """The item that is open, empty when none is."""

    def opening(self, prompt: int) -> Sequence[Event]:
        return [self._told("created"), self._told("in_progress")]

    def delta(self, delta: Mapping[str, Any]) -> Sequence[Event]:
        events: list[Event] = []
        for kind, key in (("reasoning", "reasoning_content"), ("message", "content")):
            if text := delta.get(key):
                events += self._grow(kind, text)
        for call in delta.get("tool_calls", ()):
            events += self._call(call)
        return events

    def closing(self, reason: str, usage: Mapping[str, Any], stop: str) -> Sequence[Event]:
        cut = reason == "length"
        status = "incomplete" if cut else "completed"
        events = self._close(status)
        self.response["status"] = status
        self.response["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None
        self.response["usage"] = {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": usage.get("prompt_tokens_details", {}),
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": usage["completion_tokens_details"],
            "total_tokens": usage["total_tokens"],
        }
        return [*events, self._told(status)]

    def failing(self, error: Mapping[str, Any]) -> Sequence[Event]:
        events = self._close("incomplete")
        self.response["status"] = "failed"
        self.response["error"] = {"code": "server_error", "message": error["message"]}
        return [*events, self._told("failed")]

    def _grow(self, kind: str, text: str) -> list[Event]:
        """Write a piece of text into the item that is open, or into a new one."""
        events: list[Event] = []
        part = _PARTS[kind]
        if self._item.get("type") != kind:
            events += self._close()
            about: dict[str, Any] = {"role": "assistant"} if kind == "message" else {"summary": []}
            events.append(self._begin(kind, {**about, "content": []}))
            self._item["content"].append(_part(part))
            events.append(self._event("content_part.added", {**self._place(), **_FIRST, "part": _part(part)}))
        self._item["content"][0]["text"] += text
        return [*events, self._event(f"{part}.delta", {**self._place(), **_FIRST, "delta": text, **_rows(part)})]

    def _call(self, call: Mapping[str, Any]) -> list[Event]:
        """Write a call, which comes whole."""
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        events = self._close()
        events.append(self._begin("function_call", {"call_id": call["id"], "name": name, "arguments": ""}))
        self._item["arguments"] = arguments
        events.append(self._event("function_call_arguments.delta", {**self._place(), "delta": arguments}))
        done = {**self._place(), "name": name, "arguments": arguments}
        return [*events, self._event("function_call_arguments.done", done), *self._close()]

    def _begin(self, kind: str, about: Mapping[str, Any]) -> Event:
        """Add an item, which is now the open one."""
        output = self.response["output"]
        name = f"{_PREFIXES[kind]}_{self.response['id'].removeprefix('resp_')}{len(output)}"
        self._item = {"id": name, "type": kind, "status": "in_progress", **about}
        output.append(self._item)
        where = {"output_index": len(output) - 1, "item": copy.deepcopy(self._item)}
        return self._event("output_item.added", where)

    def _close(self, status: str = "completed") -> list[Event]:
        """End the item that is open, if one is."""
        if not self._item:
            return []
        events: list[Event] = []
        for part in self._item.get("content", ()):
            done = {**self._place(), **_FIRST, "text": part["text"], **_rows(part["type"])}
            events.append(self._event(f"{part['type']}.done", done))
            events.append(self._event("content_part.done", {**self._place(), **_FIRST, "part": dict(part)}))
        self._item["status"] = status
        where = {"output_index": len(self.response["output"]) - 1, "item": copy.deepcopy(self._item)}
        self._item = {}
        return [*events, self._event("output_item.done", where)]

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item["id"], "output_index": len(self.response["output"]) - 1}

    def _told(self, name: str) -> Event:
        return self._event(name, {"response": copy.deepcopy(self.response)})

    def _event(self, name: str, data: Mapping[str, Any]) -> Event:
        self._number += 1
        kind = f"response.{name}"
        return kind, {"type": kind, "sequence_number": self._number, **data}


_FIRST = {"content_index": 0}


def _part(kind: str) -> dict[str, Any]:
    """A part of an item that says nothing yet."""
    return {"type": kind, "text": "", **({"annotations": [], "logprobs": []} if kind == "output_text" else {})}


def _rows(kind: str) -> dict[str, Any]:
    return {"logprobs": []} if kind == "output_text" else {}
