"""A conversation with a model or a deployment: what was said is carried by the page, nothing of it is kept here."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from emulator.core.errors import InvalidArgument

MOST = 40
"""Turns that a conversation may have."""
TOKENS = 128
"""Tokens of an answer."""
CHAT, TEXT = "/inference/v1/chat/completions", "/inference/v1/completions"


class Turn(NamedTuple):
    """Something that was said; `role` is user or assistant."""

    role: str
    text: str


def turns(raw: str) -> list[Turn]:
    """The conversation that a form brings back; raises InvalidArgument."""
    if not raw:
        return []
    try:
        found = [Turn(str(one["role"]), str(one["content"])) for one in orjson.loads(raw)]
    except (ValueError, TypeError, KeyError):
        raise InvalidArgument("the conversation of this page cannot be read: begin a new one") from None
    if len(found) > MOST or any(turn.role not in ("user", "assistant") for turn in found):
        raise InvalidArgument(f"a conversation has at most {MOST} turns of user and assistant: begin a new one")
    return found


def kept(said: Sequence[Turn]) -> str:
    """A conversation as a form carries it."""
    return orjson.dumps([{"role": turn.role, "content": turn.text} for turn in said]).decode()


def request(model: str, said: Sequence[Turn], *, plain: bool = False) -> tuple[str, dict[str, Any]]:
    """Path and body of the request for the next turn; `plain` asks for the continuation of the last text alone."""
    if plain:
        return TEXT, {"model": model, "prompt": said[-1].text, "max_tokens": TOKENS, "temperature": 0.0}
    messages = [{"role": turn.role, "content": turn.text} for turn in said]
    return CHAT, {"model": model, "messages": messages, "max_tokens": TOKENS, "temperature": 0.0}


def answer(body: Any) -> Turn:
    """The turn that an answer holds; raises InvalidArgument for an answer of another form."""
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not choices:
        raise InvalidArgument("the answer holds no text")
    message = choices[0].get("message") or {}
    return Turn("assistant", str(message.get("content") or choices[0].get("text") or ""))
