"""Streams of events put together, so that two can be compared: which tokens shared a write is no part of an answer."""

from typing import Any

import orjson

MEDIA = "text/event-stream"
_GROWING = ("text", "content", "reasoning_content")


def assembled(raw: bytes) -> dict[str, Any]:
    """A stream as one answer: per choice texts joined, rows in a list, the last of everything else.

    `done` says whether the stream was ended with `[DONE]`, `error` what ended it instead.
    """
    whole: dict[str, Any] = {"choices": {}, "done": False}
    for block in raw.split(b"\n\n"):
        data = b"".join(line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:"))
        if data == b"[DONE]":
            whole["done"] = True
            continue
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:  # between two events, or the last one was cut
            continue
        if not isinstance(event, dict):
            continue
        for choice in event.pop("choices", ()):
            _grow(whole["choices"].setdefault(str(choice.get("index")), {}), choice)
        whole |= event
    return whole


def comparable(recorded: bytes, replayed: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two streams put together; of one that broke off (its client left, the line was cut) as much as there is."""
    one, other = assembled(recorded), assembled(replayed)
    if not one["done"] and "error" not in one:
        other = _begun(one, other)
    return one, other


def _grow(so_far: dict[str, Any], choice: dict[str, Any]) -> None:
    delta = choice.pop("delta", {})
    for key, value in {**choice, **delta}.items():
        if key in _GROWING and isinstance(value, str):
            so_far[key] = so_far.get(key, "") + value
        elif key in ("token_ids", "tool_calls"):
            so_far[key] = [*so_far.get(key, ()), *value]
        elif key == "logprobs":
            rows = so_far.setdefault(key, {})
            for name, column in (value or {}).items():
                rows[name] = [*rows.get(name, ()), *(column or ())]
        elif value is not None:
            so_far[key] = value


def _begun(part: Any, whole: Any) -> Any:
    """As much of `whole` as `part` has."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return {key: _begun(value, whole[key]) for key, value in part.items() if key in whole} | (
            {"done": False} if "done" in part else {}
        )
    if isinstance(part, str | list) and isinstance(whole, type(part)):
        return whole[: len(part)]
    return whole
