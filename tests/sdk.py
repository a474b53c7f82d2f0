"""The vendor's client in either generation: its own types from 1.2.25 on, before that those of `tinker` (WIRE 10)."""

try:
    from fireworks.training.sdk import types
    from fireworks.training.sdk._core._exceptions import RequestFailedError
    from fireworks.training.sdk._core.lib.retryable_exception import RetryableException

    LEGACY = False
except ImportError:
    from tinker import RequestFailedError, types
    from tinker.lib.retryable_exception import RetryableException

    LEGACY = True

BACKGROUND = frozenset({"session_heartbeat", "telemetry"})
"""What a client says by itself; the older pair goes on saying it after `close`."""

__all__ = ["BACKGROUND", "LEGACY", "RequestFailedError", "RetryableException", "types"]
