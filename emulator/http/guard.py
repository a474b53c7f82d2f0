"""Pure ASGI middleware: who is asking (WIRE 1.1), whose resource it is, and how long a body may be."""

import re
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.core.endpoints import ENDPOINTS, Callers, pattern
from emulator.core.errors import PayloadTooLarge, PermissionDenied, PlatformError, Unauthenticated
from emulator.core.names import Subject
from emulator.http.web import refusal
from emulator.quirks import calls
from emulator.quirks.engine import Quirks

OPEN = frozenset(row.path for row in ENDPOINTS if row.callers is Callers.ANYONE)
UNLIMITED = frozenset({"/_ftsim/snapshot"})
"""Their bodies go to the disk as they come; what is in them is limited there."""
READABLE = frozenset({"fireworks", "-"})
_ACCOUNT = re.compile(r"/v1/accounts/([^/]+)/|/training/v1/rlorTrainerJobs/([^/]+)/")
_INFERENCE = frozenset(row.path for row in ENDPOINTS if row.callers is Callers.INFERENCE)
_SIGNED = [pattern(row.path) for row in ENDPOINTS if row.callers is Callers.LINK]


class Guard:
    """Refuses unknown keys (401), other accounts' resources (403) and bodies over `body_limit` bytes (413)."""

    def __init__(self, app: ASGIApp, *, keys: Mapping[str, str], body_limit: int, quirks: Quirks) -> None:
        """`keys` maps an API key to its account."""
        self._app = app
        self._keys = keys
        self._quirks = quirks
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._admit(scope)
        except PlatformError as refused:
            await refusal(scope, refused.http, refused.envelope())(scope, receive, send)
            return
        await self._app(scope, receive if scope["path"] in UNLIMITED else self._counted(receive), send)

    def _admit(self, scope: Scope) -> None:
        path = scope["path"]
        if path in OPEN or (b"signature=" in scope["query_string"] and any(one.fullmatch(path) for one in _SIGNED)):
            return
        headers = dict(scope["headers"])
        account = self._account(headers)
        if account is None:
            raise Unauthenticated("unknown or missing API key: send it as X-Api-Key or as Authorization: Bearer")
        scope["account"] = account
        narrow = not self._quirks.quiet and self._quirks.value(calls.INFERENCE_ONLY, Subject(account=account))
        if narrow and not _for_inference(path):  # FAILURES F18
            raise Unauthenticated("this API key is for inference only: use one that may train")
        if match := _ACCOUNT.match(path):
            owner = match[1] or match[2]
            if owner != account and not (owner in READABLE and scope["method"] in ("GET", "HEAD")):
                raise PermissionDenied(f"this key belongs to account {account!r}, not to {owner[:64]!r}")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._body_limit and path not in UNLIMITED:
            raise self._too_large()

    def _account(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Whose key the request carries; trainers get X-API-Key only, old clients send both (WIRE 2.1, 7)."""
        account = self._of(headers.get(b"x-api-key", b"").decode("latin-1"))
        if account is None and b"authorization" in headers:
            scheme, _, token = headers[b"authorization"].decode("latin-1").partition(" ")
            account = self._of(token.strip()) if scheme.lower() == "bearer" else None
        return account

    def _of(self, key: str) -> str | None:
        """The account of a key, as it is or with the `tml-` that tinker's client wants keys to begin with."""
        return self._keys.get(key) or self._keys.get(key.removeprefix("tml-"))

    def _counted(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._body_limit:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"the request body is over {self._body_limit} bytes: send fewer datums per call")


def _for_inference(path: str) -> bool:
    """Say whether a key for inference only may ask this; whoever tests may always use the control API."""
    return path in _INFERENCE or path.startswith("/_ftsim/")
