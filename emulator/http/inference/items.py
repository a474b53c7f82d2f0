"""The items of a Responses input as the messages of a chat."""

from collections.abc import Mapping, Sequence
from typing import Any

from emulator.core.errors import InvalidArgument
from emulator.http.inference import pictures

_ROLES = ("user", "assistant", "system", "developer")
_TEXTS = ("input_text", "output_text", "reasoning_text", "summary_text", "text")


def chat_messages(instructions: str | None, given: str | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The conversation as a chat has it; raises InvalidArgument.

    What an assistant thought, said and called is one message, as it was when it was written.
    """
    found: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, str):
        return [*found, {"role": "user", "content": given}]
    for at, item in enumerate(given):
        _add(found, item, f"input[{at}]")
    if not found:
        raise InvalidArgument("input is empty: send a text, or a list of items")
    return found


def _add(found: list[dict[str, Any]], item: Mapping[str, Any], where: str) -> None:
    match item.get("type", "message"):
        case "message" if item.get("role") == "assistant":
            turn = _turn(found, ("content", "tool_calls"))
            turn["content"] = _text(item.get("content"), where)
        case "message":
            if (role := item.get("role")) not in _ROLES:
                raise InvalidArgument(f"{where}.role is {str(role)[:40]!r}: use one of {', '.join(_ROLES)}")
            found.append({"role": role, "content": _content(item.get("content"), where)})
        case "reasoning":
            thought = _text(item.get("content") or item.get("summary") or "", where)
            _turn(found, ("reasoning_content", "content", "tool_calls"))["reasoning_content"] = thought
        case "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            _turn(found, ()).setdefault("tool_calls", []).append(call)
        case "function_call_output":
            told = _text(item.get("output"), where)
            calls = [call["id"] for one in found for call in one.get("tool_calls", ())]
            if item.get("call_id") not in calls:
                raise InvalidArgument(f"{where}: no call before has the call_id {str(item.get('call_id'))[:40]!r}")
            found.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": told})
        case "item_reference":
            raise InvalidArgument(f"{where}: no item is kept that could be referred to: send the item itself")
        case kind:
            raise InvalidArgument(f"{where}: an item of type {str(kind)[:40]!r} is not read here")


def _turn(found: list[dict[str, Any]], before: Sequence[str]) -> dict[str, Any]:
    """The assistant's message that goes on, or a new one if something stands in the last that belongs `before`."""
    last = found[-1] if found else {}
    if last.get("role") != "assistant" or any(last.get(key) for key in before):
        found.append({"role": "assistant", "content": ""})
    return found[-1]


def _content(content: Any, where: str) -> str | list[dict[str, Any]]:
    """A text, or parts of which some are images."""
    images = [part for part in content if _is_image(part)] if isinstance(content, list) else []
    if not images:
        return _text(content, where)
    if any(part.get("image_url") is None for part in images):
        raise InvalidArgument(f"{where}: no files are kept here: send an image as image_url, a data URL")
    return [
        pictures.part(one["image_url"]) if _is_image(one) else {"type": "text", "text": _text([one], where)}
        for one in content
    ]


def _is_image(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "input_image"


def _text(content: Any, where: str) -> str:
    """A text, or parts of one."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InvalidArgument(f"{where}: give a text, or a list of parts")
    for part in content:
        if part.get("type") not in _TEXTS or not isinstance(part.get("text"), str):
            raise InvalidArgument(f"{where}: a part of type {str(part.get('type'))[:40]!r} is not read here: send text")
    return "".join(part["text"] for part in content)
