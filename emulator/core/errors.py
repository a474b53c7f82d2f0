"""Named errors of the platform, their HTTP status, and the vendor's JSON envelope (WIRE 1.2)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class PlatformError(Exception):
    """A refusal by the platform. `http` and `code` (gRPC) follow WIRE 1.2; the message says what to do about it."""

    http: ClassVar[int] = 500
    code: ClassVar[int] = 13

    def __init__(self, message: str, *, details: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)

    def envelope(self) -> dict[str, Any]:
        """The body as the vendor's gateway writes it."""
        return {"code": self.code, "message": self.message, "details": self.details}


class InvalidArgument(PlatformError):
    """A field is wrong."""

    http, code = 400, 3


class UnknownField(InvalidArgument):
    """A field that a completions endpoint does not know: clients go by these words and by the form of the answer."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Extra inputs are not permitted, field: '{name}'")


class FailedPrecondition(PlatformError):
    """The request is well formed, the state forbids it."""

    http, code = 400, 9


class Damaged(FailedPrecondition):
    """Files are not what was saved: refused, never served."""


class Unauthenticated(PlatformError):
    """No key, or one nobody knows."""

    http, code = 401, 16


class PermissionDenied(PlatformError):
    """Another account's resource."""

    http, code = 403, 7


class NotFound(PlatformError):
    """No such resource, or it was purged."""

    http, code = 404, 5


class AlreadyExists(PlatformError):
    """The id is taken."""

    http, code = 409, 6


class Conflict(PlatformError):
    """Something has ended that a request wants to go on with."""

    http, code = 409, 10


class Gone(PlatformError):
    """It was there and is kept no longer (FAILURES F14)."""

    http, code = 410, 5


class PreconditionFailed(PlatformError):
    """Something is not enabled for this account (HTTP 412, FAILURES F18)."""

    http, code = 412, 9


class PayloadTooLarge(PlatformError):
    """A body over the limit."""

    http, code = 413, 3


class Cancelled(PlatformError):
    """Whoever asked has left; only the journal reads it (HTTP 499, as gateways note it)."""

    http, code = 499, 1


class ResourceExhausted(PlatformError):
    """A quota; clients retry this one (WIRE 1.2)."""

    http, code = 429, 8


class Internal(PlatformError):
    """The emulator itself failed."""

    http, code = 500, 13


class Unimplemented(PlatformError):
    """The service does not do it any more, or the emulator does not."""

    http, code = 501, 12


class Unavailable(PlatformError):
    """Not now; clients retry this one."""

    http, code = 503, 14


class TrainerLost(Unavailable):
    """A trainer's process is gone, and the models on it: as when its machine is taken away."""


class StorageFailed(PlatformError):
    """The state folder cannot be written. 507 is a status that no client retries (WIRE 1.2)."""

    http, code = 507, 8


SERVERLESS = "/training/v1/serverless/"
INFERENCE = ("/inference/v1/", "/v1/chat/", "/v1/completions", "/v1/messages")
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_CODES = {1: "cancelled", 3: "invalid_argument", 4: "deadline_exceeded", 5: "not_found", 6: "already_exists",
          7: "permission_denied", 8: "resource_exhausted", 9: "failed_precondition", 12: "unimplemented",
          13: "internal", 14: "unavailable", 16: "unauthenticated"}  # fmt: skip


def error_body(path: str, status: int, envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    """The envelope as whoever serves this path writes it: the serverless gateway has one of its own (WIRE 2.12).

    Beside it stands, for the clients of the APIs that inference has, an error as each of them reads it.
    """
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    if path.startswith(INFERENCE):
        if "/messages" in path:
            kind = "api_error" if kind == "server_error" else kind
            return {**envelope, "type": "error", "error": {"type": kind, "message": envelope["message"]}}
        return {**envelope, "error": {"object": "error", "type": kind, "code": kind, "message": envelope["message"]}}
    if not path.startswith(SERVERLESS):
        return envelope
    code = _CODES.get(envelope["code"], "unknown")
    return {"error": {"code": code, "type": kind, "message": envelope["message"]}}


def error_info(reason: str, **metadata: str) -> dict[str, Any]:
    """A google.rpc.ErrorInfo for `details`, in the form that clients classify by (FAILURES F17)."""
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "training.fireworks.ai",
        "metadata": {"version": "1", "source": "lifecycle", **metadata},
    }


def too_long(prompt: int, context: int, unit: str = "") -> str:
    """Say that a prompt does not fit a context, in tokens, in the words by which clients know this error."""
    return f"The prompt is too long: {prompt}{unit}, model maximum context length: {context}"
