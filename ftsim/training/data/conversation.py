"""Chat messages and tools, read from whatever form a client or an export gives them, into the one that templates take.

The recipes read rows with this module and the chat endpoint reads requests with a copy of it, letter by letter: neither
package may import the other, and both must read a conversation alike.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

ROLES = ("system", "developer", "user", "assistant", "tool")
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Names of an assistant's thought; templates know the first."""
RESERVED = frozenset(
    {
        "conversation",
        "messages",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "processor_kwargs",
    }
)
"""The arguments of rendering itself, which no template_kwargs may change."""
_THINK, _THOUGHT = "<think>", "</think>"
HARMLESS = frozenset({"id", "refusal", "annotations", "audio", "index", "created_at", "timestamp", "metadata"})
"""Fields of a message that change nothing of what a model reads."""


class ConversationError(ValueError):
    """A message or a tool that cannot be read; the text begins with its place, such as messages.1.content."""


class Function(BaseModel):
    """The function that a tool call calls, and its arguments as an object."""

    model_config = ConfigDict(defer_build=True)

    name: str
    arguments: dict[str, Any] = {}


class ToolCall(BaseModel):
    """One call of an assistant's message."""

    model_config = ConfigDict(defer_build=True)

    id: str | None = None
    type: Literal["function"] = "function"
    function: Function

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: object) -> Any:
        if not isinstance(given, Mapping):
            _refuse(f"is {kind(given)}, not an object")
        call = without_nulls(given)
        function = call.get("function", {key: call[key] for key in ("name", "arguments") if key in call})
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            _refuse("has no function with a name")
        return {**call, "function": {"name": function["name"], "arguments": _arguments(function.get("arguments"))}}


class Message(BaseModel):
    """One message. Null is the same as absent; content is text, `tool_calls` have objects for arguments."""

    model_config = ConfigDict(extra="allow", strict=True, defer_build=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None
    name: str | None = None
    weight: float = 1.0
    """Factor of the loss of an assistant's tokens."""
    trainable: bool = True

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: object) -> Any:
        if not isinstance(given, Mapping):
            _refuse(f"is {kind(given)}, not an object")
        message = without_nulls(given)
        role = message["role"] = "tool" if message.get("role") == "function" else message.get("role")
        if role not in ROLES:
            _refuse(f"role is {str(role)[:40]!r}: use one of {', '.join(ROLES)}")
        if call := message.pop("function_call", None):
            message["tool_calls"] = [*message.get("tool_calls", []), call]
        if message.get("tool_calls") and role != "assistant":
            _refuse(f"tool_calls: {role} calls no tools, the assistant does")
        _check_number(message, "weight")
        if not isinstance(message.get("trainable", True), bool):
            _refuse(f"trainable is {kind(message['trainable'])}: write true or false")
        parts, thoughts = _split(message.get("content"))
        if role == "assistant":
            thoughts += [message.pop(name) for name in THOUGHTS if name in message]
            _take_thought(message, thoughts)
        elif thoughts:
            _refuse(f"content has a part of type 'thinking': only the assistant thinks, not {role}")
        silent = role == "tool" or message.get("tool_calls") or message.get("reasoning_content")
        if parts is None and ("content" in message or not silent):
            cure = ": write it as JSON text" if role == "tool" and "content" in message else ""
            _refuse(f"content is {kind(message.get('content'))}, not text ({role}){cure}")
        message["content"] = parts or ""
        return message

    @property
    def factor(self) -> float:
        """The factor on the loss of this message's tokens: 0 for everybody but the assistant."""
        return self.weight * self.trainable if self.role == "assistant" else 0.0

    def for_template(self, template: str) -> dict[str, Any]:
        """The message as the chat template with this source takes it, without what is absent.

        A developer is the system where the template knows no developer. A thought that stands in the content goes to
        where the template looks for thoughts; tags that are quoted, behind other words, are left in the content.
        """
        shown: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.role == "developer" and "developer" not in template:
            shown["role"] = "system"
        for key in ("reasoning_content", "tool_call_id", "name"):
            if (value := getattr(self, key)) is not None:
                shown[key] = value
        if self.role == "assistant" and _THOUGHT in self.content and "reasoning_content" in template:
            thought, said = _inline(self.content)
            if "reasoning_content" not in shown:
                shown |= {"reasoning_content": thought, "content": said}
        if self.tool_calls:
            shown["tool_calls"] = [call.model_dump(exclude_none=True) for call in self.tool_calls]
        return shown


def read_messages(given: object, field: str = "messages") -> list[Message]:
    """A list of messages; raises ConversationError that begins with `field` and the message's place in it."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise ConversationError(f"{field} must be a list with at least one message")
    return [_read_one(one, f"{field}.{at}") for at, one in enumerate(given)]


def _read_one(given: object, place: str) -> Message:
    try:
        return Message.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        inside = "".join(f".{part}" for part in first["loc"])
        own = first["type"] == "unreadable"
        said = first["msg"] if own else f": {first['msg']}"
        joint = ("." if said.split(" ", 1)[0].rstrip(":") in Message.model_fields else " ") if own else ""
        raise ConversationError(f"{place}{inside}{joint}{said}") from None


def read_tools(given: object, field: str = "tools") -> list[dict[str, Any]]:
    """Tools as a list of {"type": "function", "function": {...}}, from such a list, bare functions, or JSON text."""
    if isinstance(given, str) and given.strip():
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise ConversationError(f"{field} is text that is not JSON ({error})") from None
    if given is None or given == "":
        return []
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ConversationError(f"{field} is {kind(given)}, not a list of tools")
    tools = []
    for at, tool in enumerate(given):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise ConversationError(f"{field}.{at} has no function with a name")
        bare = {key: value for key, value in function.items() if key != "type"}
        try:
            tools.append(_schema({"type": "function", "function": bare} if "function" not in tool else tool))
        except RecursionError:
            raise ConversationError(f"{field}.{at} is nested too deeply to be read") from None
    return tools


def _schema(given: Any) -> Any:
    """A tool without the nulls of an export, which gives each tool the fields of all; null may be a default."""
    if isinstance(given, Mapping):
        return {key: _schema(value) for key, value in given.items() if value is not None or key in ("default", "const")}
    return [_schema(one) for one in given] if isinstance(given, list) else given


def read_settings(given: object, field: str = "chat_template_kwargs") -> dict[str, Any]:
    """Further variables of a chat template, such as enable_thinking; those that mean something else are refused."""
    if not isinstance(given, Mapping):
        raise ConversationError(f"{field} is {kind(given)}, not an object")
    if wrong := sorted(RESERVED & given.keys()):
        raise ConversationError(f"{field}.{wrong[0]} is not a variable of a template: leave it out")
    return without_nulls(given)


def unread(messages: Sequence[Message]) -> Counter[str]:
    """Names of fields of messages that change nothing and are not known to be harmless, with how often they stand."""
    return Counter(name for one in messages for name in one.model_extra or {} if name not in HARMLESS)


def without_nulls(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are there: null is the same as absent."""
    return {key: value for key, value in given.items() if value is not None}


def weight_cure(value: object) -> str | None:
    """Say what to write for a value that cannot scale a loss: a float32 holds it as nothing, or as no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "write a finite number"
    return None if value == 0 or 1e-18 <= abs(value) <= 1e18 else "write 0, or a number between 1e-18 and 1e18"


def kind(value: object) -> str:
    """Name the type of a value in JSON's words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _check_number(message: Mapping[str, Any], name: str) -> None:
    if cure := weight_cure(value := message.get(name, 1.0)):
        _refuse(f"{name} is {value!r}: {cure}")


def _arguments(given: object) -> Any:
    """The arguments of a call as an object, from an object or its JSON text; none at all are an empty object."""
    if isinstance(given, str) and given.strip():
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            _refuse(f"arguments are text that is not JSON ({error})")
    if given is None or given == "":
        return {}
    return given if isinstance(given, Mapping) else _refuse(f"arguments are {kind(given)}, not an object")


def _split(content: object) -> tuple[str | None, list[Any]]:
    """Content as text, None when it is none, and the thoughts that stand in parts of it."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, Sequence):
        return None, []
    said: list[str] = []
    thoughts: list[Any] = []
    for part in content:
        form = part.get("type") if isinstance(part, Mapping) else None
        if form == "thinking":
            thoughts.append(part.get("thinking"))
        elif form != "text" or not isinstance(part.get("text"), str):
            _refuse(f"content has a part of type {str(form)[:40]!r}: only text is read")
        else:
            said.append(part["text"])
    return "".join(said), thoughts


def _take_thought(message: dict[str, Any], thoughts: Sequence[Any]) -> None:
    """Put the one thought, under whichever name it came, where templates look for it."""
    for thought in thoughts:
        if not isinstance(thought, str):
            _refuse(f"reasoning_content is {kind(thought)}, not text")
    told = list(dict.fromkeys(thought for thought in thoughts if thought))
    if len(told) > 1:
        _refuse(f"reasoning_content: {', '.join(THOUGHTS)} are one thing, and they say different things")
    if told:
        message["reasoning_content"] = told[0]


def _inline(content: str) -> tuple[str, str]:
    """The thought that the content begins with, with or without its opening tag, and what is said after it."""
    before, _, behind = content.partition(_THOUGHT)
    told = before.lstrip()
    if _THINK in told and not told.startswith(_THINK):
        return "", content
    return told.removeprefix(_THINK).strip("\n"), behind.lstrip("\n")


def _refuse(reason: str) -> NoReturn:
    raise PydanticCustomError("unreadable", "{reason}", {"reason": reason})
