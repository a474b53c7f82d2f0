"""The names taken from the vendor's SDK, in the one place that knows its two generations.

From 1.2.25 on the SDK brings its own types; before, they live in the external `tinker` package.
"""

import os
import traceback

import httpx

from ftsim.training.errors import ConfigError
from ftsim.training.lazy_torch import import_sdk

import_sdk()

from fireworks.training.sdk import (  # noqa: E402 - the import above is the one that costs
    FiretitanServiceClient,
    FireworksClient,
    TrainerJobConfig,
    TrainerJobManager,
)

try:
    from fireworks.training.sdk import RequestFailedError, types
except (ImportError, AttributeError):
    from tinker import RequestFailedError, types

__all__ = [
    "FiretitanServiceClient",
    "FireworksClient",
    "RequestFailedError",
    "TrainerJobConfig",
    "TrainerJobManager",
    "api_key",
    "base_url",
    "is_refusal",
    "types",
]

DEFAULT_BASE_URL = "https://api.fireworks.ai"


def api_key() -> str:
    """Returns the key in FIREWORKS_API_KEY; `ConfigError` when there is none."""
    key = os.environ.get("FIREWORKS_API_KEY", "")
    if not key:
        raise ConfigError("FIREWORKS_API_KEY is not set: export the key of the account that shall own the trainer job")
    return key


def base_url() -> str:
    """Returns FIREWORKS_BASE_URL, which the SDK's managers do not read themselves, or the service's own address."""
    return os.environ.get("FIREWORKS_BASE_URL") or DEFAULT_BASE_URL


def is_refusal(error: BaseException) -> bool:
    """Returns True for an error that the service or the SDK raised for a request, False for a fault in the program."""
    if isinstance(error, httpx.HTTPError) or _of_sdk(type(error).__module__):
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    # The managers have no error class of their own for most of what goes wrong.
    return (
        type(error) in (RuntimeError, ValueError) and bool(frames) and _of_sdk(frames[-1].f_globals.get("__name__", ""))
    )


def _of_sdk(module: str) -> bool:
    return module.partition(".")[0] in ("fireworks", "tinker")
