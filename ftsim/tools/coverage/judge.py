"""Judges one call: it works, is refused with a sentence, by the emulator or by the client itself, or is not there."""

import asyncio
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WORKS, REFUSED, CLIENT, MISSING, FAILS = "works", "refused", "the client refuses", "not there", "fails"
UNCALLED = "not called"
ANSWERS = (WORKS, REFUSED, CLIENT, MISSING, FAILS, UNCALLED)
_HTTP = re.compile(r"\(HTTP (\d+)\)")
_TAIL, _IDS = re.compile(r" for self\.request_id=.*| \(HTTP \d+\).*"), re.compile(r"\b(?:req-)?[0-9a-f]{8,}\b")
NOBODY = "asked for one that is not there"
_SENTENCE = re.compile(r'"(?:message|detail)"\s*:\s*"((?:[^"\\]|\\.)*)"|\'(?:message|detail)\': (["\'])(.*?)\2[,}]')


@dataclass(frozen=True)
class Call:
    """The outcome of one call; `said` is the sentence of a refusal."""

    name: str
    answer: str
    said: str = ""


def judged(name: str, call: Callable[[], Any]) -> Call:
    """Make a call, wait for what it returns, and judge it by what the caller gets."""
    try:
        _finish(call())
    except Exception as error:
        return _refusal(name, error)
    return Call(name, WORKS)


def _finish(value: Any) -> None:
    if inspect.isawaitable(value):

        async def wait() -> Any:
            found = await value
            return await found if inspect.isawaitable(found) else found

        asyncio.run(wait())
    elif inspect.isasyncgen(value):

        async def read() -> None:
            async for _ in value:
                pass

        asyncio.run(read())
    elif callable(getattr(value, "result", None)):
        value.result()


def _refusal(name: str, error: Exception) -> Call:
    text = " ".join(str(error).split())
    told = _HTTP.search(text)
    status = int(told[1]) if told else _status(error)
    if found := _SENTENCE.search(text):
        text = found[1] or found[3]
    text = _IDS.sub("…", _TAIL.sub("", text.removeprefix("Request failed: ")))
    if "no such path" in text or status == 405:
        return Call(name, MISSING)
    if status == 404:  # the path is served: there is nothing of that name
        return Call(name, WORKS, NOBODY)
    if status is not None or type(error).__name__ == "RequestFailedError":
        return Call(name, FAILS if status and status >= 500 and status != 501 else REFUSED, text)
    return Call(name, FAILS if isinstance(error, TypeError | AttributeError | LookupError) else CLIENT, text)


def _status(error: BaseException | None) -> int | None:
    """The status of the answer behind an error, or behind the one that it was raised from."""
    while error is not None:
        status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__ or error.__context__
    return None
