"""Images in requests for completions: taken out of messages or of `images`, and given places in the prompt."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from emulator.backend import BackendError, Replica
from emulator.core import images
from emulator.core.errors import InvalidArgument

PART = "image_url"
"""The type of a part of a chat message that is an image."""


def part(url: Any) -> dict[str, Any]:
    """An image as a chat message has it."""
    return {"type": PART, PART: {"url": url}}


def of_source(source: Any, where: str) -> dict[str, Any]:
    """An image as Anthropic's messages have it, as a chat message has it; raises InvalidArgument."""
    match source:
        case {"type": "base64", "media_type": kind, "data": data}:
            return part(f"data:{kind};base64,{data}")
        case {"type": "url", "url": url}:
            return part(url)
    raise InvalidArgument(f"{where}: give the source of an image as base64, with its media_type and data")


def of_messages(messages: Sequence[Any]) -> tuple[list[Any], list[bytes]]:
    """The messages with a place in the text for each image, and the images, in order; raises InvalidArgument."""
    found: list[bytes] = []
    return [_placed(one, f"messages.{at}.content", found) for at, one in enumerate(messages)], found


def _placed(message: Any, where: str, found: list[bytes]) -> Any:
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list) or message.get("role") == "assistant":
        return message
    parts = []
    for at, one in enumerate(content):
        if isinstance(one, Mapping) and one.get("type") == PART:
            url = one.get(PART)
            found.append(_read(url.get("url") if isinstance(url, Mapping) else url, f"{where}.{at}"))
            _check_count(len(found))
            one = {"type": "text", "text": images.PLACE}
        parts.append(one)
    return {**message, "content": parts}


def of_prompts(sent: Sequence[str | Sequence[str]], prompts: int) -> list[list[bytes]]:
    """The images of each of so many prompts: a list for each, or one list for a single prompt.

    Raises InvalidArgument.
    """
    if not sent:
        return [[] for _ in range(prompts)]
    flat = [one for one in sent if isinstance(one, str)]
    lists = [flat] if flat else [list(one) for one in sent]
    if (flat and len(flat) != len(sent)) or len(lists) != prompts:
        raise InvalidArgument(f"images: {prompts} prompts need a list of images each, in the order of the prompts")
    _check_count(sum(map(len, lists)))
    return [[_read(one, "images") for one in each] for each in lists]


def expanded(replica: Replica, prompt: list[int], seen: Sequence[bytes]) -> list[int]:
    """The prompt with a token for each part of its images; raises InvalidArgument."""
    if not seen:
        return prompt
    try:
        return replica.expand(prompt, seen)
    except BackendError as error:
        raise InvalidArgument(error.message) from error


def _read(url: Any, where: str) -> bytes:
    with _refusing(f"{where}: "):
        return images.of_url(url)


def _check_count(count: int) -> None:
    with _refusing():
        images.check_count(count)


@contextmanager
def _refusing(where: str = "") -> Iterator[None]:
    try:
        yield
    except images.ImageError as error:
        raise InvalidArgument(f"{where}{error}") from None
