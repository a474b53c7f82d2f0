"""Images as clients send them: bytes out of a data URL or of base64, and the one sentence that refuses them.

What is decoded here is the wire alone. Whether the bytes are a picture is for the model that sees to say.
"""

import base64
import binascii
import re

from emulator.core.limits import IMAGE_BYTES, IMAGES

PAD = "<|image_pad|>"
PLACE = f"<|vision_start|>{PAD}<|vision_end|>"
"""What stands in a prompt for an image, as the one family that sees here writes it."""
TEXT_ALONE = "this model reads text alone: send images to accounts/fireworks/models/qwen3-vl-8b-instruct"
"""The answer of every other model to an image."""
_URL = re.compile(r"data:image/([a-z0-9.+-]+);base64,", re.IGNORECASE)
_FORMATS = ("png", "jpeg", "jpg")


class ImageError(ValueError):
    """An image that cannot be taken; the text says why, and what to send."""


def check_count(count: int) -> None:
    """Raise ImageError for more images than a request may have."""
    if count > (most := IMAGES.value):
        raise ImageError(f"more than {most} images in a request: send fewer at a time")


def check_expected(tokens: int, expected: object) -> None:
    """Raise ImageError unless an image has the number of tokens that its client expects; None expects nothing."""
    if expected is not None and expected != tokens:
        raise ImageError(f"an image has {tokens} tokens here, and expected_tokens is {expected!r}")


def of_url(url: object) -> bytes:
    """The bytes of a data URL with a PNG or a JPEG; raises ImageError. Nothing is fetched."""
    if not isinstance(url, str):
        raise ImageError("an image is a data URL: data:image/png;base64,…")
    found = _URL.match(url)
    if found is None:
        kind = url[:8].partition(":")[0]
        raise ImageError(f"an image under {kind!r}: nothing is fetched here, send it as data:image/png;base64,…")
    return of_base64(url[found.end() :], found[1])


def of_base64(data: object, form: object) -> bytes:
    """The bytes of an image in base64, which is a PNG or a JPEG by what is said of it; raises ImageError."""
    if not isinstance(form, str) or form.lower() not in _FORMATS:
        raise ImageError(f"an image of format {str(form)[:40]!r}: send png or jpeg")
    if not isinstance(data, str):
        raise ImageError("the data of an image is base64")
    if len(data) > IMAGE_BYTES.value * 4 // 3 + 4:
        raise ImageError(f"an image is longer than {IMAGE_BYTES.value} bytes: send a smaller one")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("the data of an image is not base64") from None
