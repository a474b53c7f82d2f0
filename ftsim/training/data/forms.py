"""Published forms of rows, read into conversations and texts; a field that nothing reads is noted."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from ftsim.training.data.conversation import (
    ConversationError,
    Message,
    kind,
    read_messages,
    read_settings,
    read_tools,
    unread,
    weight_cure,
    without_nulls,
)
from ftsim.training.data.files import BadRow, Row
from ftsim.training.data.notes import Notes
from ftsim.training.data.turns import Conversation, Text, TextRow

SHARED = ("tools", "functions", "weight", "chat_template_kwargs", "enable_thinking")
"""Fields of a row that act in every form."""
HARMLESS = frozenset(
    {
        "id", "uuid", "index", "prompt_id", "conversation_id", "source", "data_source", "ability", "extra_info",
        "metadata", "created_at", "timestamp", "score", "score_chosen", "score_rejected", "parallel_tool_calls",
    }
)  # fmt: skip
"""Fields that say where a row comes from, or what a server may do, and change nothing of what is trained."""
SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "bard": "assistant", "bing": "assistant", "model": "assistant", "system": "system", "developer": "developer",
    "tool": "tool", "observation": "tool", "function": "tool", "function_response": "tool",
    "function_call": "assistant", "tool_call": "assistant", "tool_response": "tool",
}  # fmt: skip
"""Who speaks in a ShareGPT conversation, by the role it is."""
FORMS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("chat", ("messages",)),
    ("ShareGPT", ("conversations",)),
    ("prompt and completion", ("prompt", "completion")),
    ("instruction", ("instruction", "output")),
)
"""Forms of supervised rows and the fields that tell them apart; the first that fits is taken."""
_OPTIONAL = {"chat": ("system",), "ShareGPT": ("system",), "instruction": ("input", "system", "history")}
_UNSEEN = ("image", "images", "video", "videos", "audio", "audios")
"""Fields of what is seen and heard, which no model here reads."""
_MASKS = ("train", "training", "loss", "train_on")
"""Names that other trainers have for `trainable`."""
_PYTHON_LIST = re.compile(r"\s*\[\s*\{\s*'(role|content|from|value)'\s*:")
ALL = "all_assistant_messages"
TRAIN_ON_WHAT: Mapping[str, str] = {
    ALL: "every message of the assistant",
    "last_assistant_message": "the last message of the assistant",
    "last_assistant_turn": "what the assistant says after the last message of the user",
    "customized": "the assistant's messages that are marked trainable",
}
"""What of a conversation is trained; no form of it is what anybody but the assistant says."""


def read_supervised(row: Row, where: str, notes: Notes, train_on_what: str = ALL) -> TextRow:
    """The row as what is trained, of a conversation that which `train_on_what` says; raises `BadRow`."""
    row = without_nulls(row)
    form, fields = next((found for found in FORMS if all(name in row for name in found[1])), ("", ()))
    if not form:
        known = ", nor ".join(" and ".join(map(repr, fields)) for _, fields in FORMS)
        raise BadRow(where, f"neither {known.replace(', nor ', ' nor ', 1)}; the row has {sorted(row)}")
    note_fields(row, (*fields, *_OPTIONAL.get(form, ())), notes, where)
    try:
        if form == "prompt and completion":
            read = _completion(row, where)
        elif form == "instruction":
            read = chat(_instruction(row), row, where)
        else:
            messages = said(row) if form == "chat" else share_gpt(listed(row["conversations"]), row.get("system"))
            read = chat(read_messages(messages), row, where)
    except ConversationError as error:
        raise BadRow(where, str(error), "message") from error
    if isinstance(read, Conversation):
        read = narrowed(read, train_on_what)
        check_trained(read, notes)
    return read


def narrowed(row: Conversation, train_on_what: str) -> Conversation:
    """The conversation with that part of it trained which `TRAIN_ON_WHAT` describes."""
    speakers = {"last_assistant_message": "assistant", "last_assistant_turn": "user"}
    if wanted := speakers.get(train_on_what):
        last = max((at for at, one in enumerate(row.messages) if one.role == wanted), default=0)
        return replace(row, train_from=max(row.train_from, last))
    return replace(row, marked_only=train_on_what == "customized")


def listed(value: object) -> object:
    """A list that a table holds as its JSON text, as the list; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ConversationError(f"messages are text that is not JSON ({error})") from None
    return value


def unspelt(value: object, field: str) -> object:
    """Messages that a table holds as their JSON text, as messages; what somebody says, and anything else, as it is.

    Raises ConversationError for messages as Python prints them, which are no JSON.
    """
    if not isinstance(value, str):
        return value
    if _PYTHON_LIST.match(value):
        raise ConversationError(f"{field} is a list as Python prints it: write it with json.dumps")
    try:
        found = json.loads(value) if value.lstrip().startswith(("[", "{")) else None
    except (ValueError, RecursionError):
        return value
    if isinstance(found, dict):
        return found if isinstance(found.get("messages"), list) else value
    spelt = isinstance(found, list) and found and all(isinstance(one, dict) and "role" in one for one in found)
    return found if spelt else value


def said(row: Row, field: str = "messages") -> object:
    """The messages of a row, after those words of the system that stand beside them."""
    messages, system = listed(row[field]), row.get("system")
    if not system or not isinstance(messages, list):
        return messages
    if any(isinstance(one, Mapping) and one.get("role") in ("system", "developer") for one in messages[:1]):
        raise ConversationError("system stands beside messages that begin with the system: keep one")
    return [{"role": "system", "content": system}, *messages]


def _completion(row: Row, where: str) -> TextRow:
    prompt, completion = (unspelt(row[field], field) for field in ("prompt", "completion"))
    if isinstance(prompt, str):  # what is asked for may itself be the JSON of messages
        completion = row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        if not completion:
            raise BadRow(where, "the completion is empty, so there is nothing to train on", "empty")
        return Text(where, prompt, completion, weight_of(row, where))
    if isinstance(completion, Mapping):
        completion = [completion]
    if isinstance(prompt, list) and isinstance(completion, list):
        before = read_messages(prompt, "prompt") if prompt else []
        return replace(chat([*before, *read_messages(completion, "completion")], row, where), train_from=len(before))
    raise BadRow(where, "prompt and completion must both be text or both be lists of messages")


def _instruction(row: Row) -> list[Message]:
    asked = [one for one in (row["instruction"], row.get("input")) if one]
    if not all(isinstance(one, str) for one in asked):
        raise ConversationError("instruction and input must be text")
    messages = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for turn in row.get("history") or ():
        if not isinstance(turn, Sequence) or isinstance(turn, str) or len(turn) != 2:
            raise ConversationError("history must be a list of pairs, what was asked and what was answered")
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    messages += [{"role": "user", "content": "\n\n".join(asked)}, {"role": "assistant", "content": row["output"]}]
    return read_messages(messages, "the instruction's messages")


def share_gpt(given: object, system: object = None) -> list[Any]:
    """A ShareGPT conversation, {"from": ..., "value": ...} a turn, as messages; raises ConversationError."""
    if not isinstance(given, list):
        raise ConversationError(f"conversations is {kind(given)}, not a list")
    messages: list[Any] = [{"role": "system", "content": system}] if system else []
    for at, turn in enumerate(given):
        if not isinstance(turn, Mapping) or "from" not in turn:
            messages.append(turn)
            continue
        rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
        if twice := sorted({"role", "content"} & without_nulls(rest).keys()):
            raise ConversationError(f"conversations.{at} has both from and value, and {twice[0]}: keep one of the two")
        speaker, value = turn["from"], turn.get("value")
        if speaker not in SPEAKERS:
            raise ConversationError(f"conversations.{at}.from is {speaker!r}: use one of {', '.join(SPEAKERS)}")
        if speaker in ("function_call", "tool_call"):
            messages.append({"role": "assistant", "content": None, "tool_calls": _calls(value, at), **rest})
        else:
            messages.append({"role": SPEAKERS[speaker], "content": value, **rest})
    return messages


def _calls(value: object, at: int) -> list[Any]:
    try:
        calls = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ConversationError(f"conversations.{at}.value is a function call that is not JSON ({error})") from error
    return calls if isinstance(calls, list) else [calls]


def chat(messages: Sequence[Message], row: Row, where: str) -> Conversation:
    """Messages with the tools, the template's settings and the weight of their row; raises `BadRow`."""
    try:
        settings = read_settings(row.get("chat_template_kwargs", {}))
        tools, functions = read_tools(row.get("tools")), read_tools(row.get("functions"), "functions")
    except ConversationError as error:
        raise BadRow(where, str(error), "tools") from error
    if tools and functions and tools != functions:
        raise BadRow(where, "tools and functions are one thing, and they hold different ones: keep tools", "tools")
    tools = tools or functions
    if "enable_thinking" in row:
        settings["enable_thinking"] = row["enable_thinking"]
    if not isinstance(settings.get("enable_thinking", True), bool):
        raise BadRow(where, f"enable_thinking is {settings['enable_thinking']!r}: write true or false", "message")
    return Conversation(where, messages, tools, settings, weight=weight_of(row, where))


def weight_of(row: Row, where: str) -> float:
    """The factor of a row's loss, 1 when it does not say; raises `BadRow` for what is no finite number."""
    value = row.get("weight", 1.0)
    if cure := weight_cure(value):
        raise BadRow(where, f"weight is {value!r}: {cure}", "weight")
    return float(value)


def check_trained(row: Conversation, notes: Notes, field: str = "") -> None:
    """Raises `BadRow` when there is nothing to train on; notes what is said of messages that are never trained."""
    notes.unread(unread(row.messages))
    known = {tool["function"]["name"] for tool in row.tools}
    if any(call.function.name not in known for one in row.messages for call in one.tool_calls):
        notes.add("the assistant calls a tool that the row's tools do not have", row.where)
    for at, one in enumerate(row.messages):
        for name in _MASKS:
            if isinstance((one.model_extra or {}).get(name), bool):
                raise BadRow(row.where, f"messages.{at}.{name} is not read: write trainable", "message")
        marked = one.model_fields_set & {"weight", "trainable"} and one.weight * one.trainable not in (0, 1)
        if one.role != "assistant" and (marked or ("trainable" in one.model_fields_set and one.trainable)):
            notes.add("weight and trainable act on the assistant's messages alone", row.where)
    if not row.chosen:
        more = ": none is marked trainable" if row.marked_only else ""
        raise BadRow(row.where, f"{field}no assistant message to train on{more}", "empty")
    if any(not one.content and not one.tool_calls and one.factor for one in row.messages[row.train_from :]):
        notes.add("the assistant says nothing, which is trained as the end of its turn", row.where)
    if not row.weight:
        notes.add("rows are left out because their weight is 0", row.where)


def note_fields(row: Row, read: Sequence[str], notes: Notes, where: str) -> None:
    """Count the fields of a row that nothing reads; raises `BadRow` for a picture or a sound that would be lost."""
    if unseen := next((name for name in _UNSEEN if row.get(name)), None):
        raise BadRow(where, f"the row has {unseen}, and only text is trained: leave the field or the row out")
    notes.unread(name for name in row if name not in read and name not in SHARED and name not in HARMLESS)


def text_of(value: object, field: str, where: str) -> str:
    """A text; raises `BadRow`."""
    return value if isinstance(value, str) else _refuse(where, f"{field} is {kind(value)}, not text")


def _refuse(where: str, reason: str) -> NoReturn:
    raise BadRow(where, reason)
