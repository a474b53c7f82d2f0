"""Small pictures of one colour, and what clients send of them."""

import base64
from functools import cache
from io import BytesIO
from typing import Any

from PIL import Image

SEES = "accounts/fireworks/models/qwen3-vl-8b-instruct"
TOKENS = 64
"""Tokens of a small square picture: it is grown to 256 pixels a side, and a token has 32."""


@cache
def square(colour: str, size: tuple[int, int] = (20, 20), form: str = "PNG") -> bytes:
    """A file with one colour."""
    place = BytesIO()
    Image.new("RGB", size, colour).save(place, form)
    return place.getvalue()


def url(data: bytes, form: str = "png") -> str:
    return f"data:image/{form};base64,{base64.b64encode(data).decode()}"


def chunk(data: bytes, **more: Any) -> dict[str, Any]:
    """An image as a datum or a prompt of tinker's has it."""
    return {"type": "image", "data": base64.b64encode(data).decode(), "format": "png", **more}
