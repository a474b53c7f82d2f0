"""Judges every request: who is asking (WIRE 1.1), whose resource it is, and how long its body may be."""

import re
from collections.abc import Collection, Mapping, Set
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import Scope

from emulator.core.catalogue import ACCOUNTS
from emulator.core.endpoints import ENDPOINTS, Callers, pattern
from emulator.core.errors import PermissionDenied, PlatformError, Unauthenticated
from emulator.core.keys import Keys, parted
from emulator.core.names import Subject
from emulator.http.budget import SMALL, Budget, Share
from emulator.http.web import Reply, refusal
from emulator.quirks import calls
from emulator.quirks.engine import Quirks

OPEN = frozenset(row.path for row in ENDPOINTS if row.callers is Callers.ANYONE)
UNLIMITED = frozenset({"/_ftsim/snapshot"})
"""Their bodies go to the disk as they come; what is in them is limited there."""
READABLE = frozenset({*ACCOUNTS, "-"})
_ACCOUNT = re.compile(r"/v1/accounts/([^/]+)/|/training/v1/rlorTrainerJobs/([^/]+)/")
_INFERENCE = frozenset(row.path for row in ENDPOINTS if row.callers is Callers.INFERENCE)
_INFERENCE_PATTERNS = tuple(pattern(path) for path in _INFERENCE if "{" in path)
_SIGNED = [pattern(row.path) for row in ENDPOINTS if row.callers is Callers.LINK]


class Guard:
    """Refuses unknown keys (401), other accounts' resources (403) and bodies over `body_limit` bytes (413).

    What a body will cost once it is parsed is limited too (`Budget`).
    """

    def __init__(
        self, *, keys: Mapping[str, str], body_limit: int, quirks: Quirks, hosts: Collection[str] = ()
    ) -> None:
        """`keys` maps an API key to its account; the first is the emulator's own, which may ask for everything.

        `hosts` are names under which it may be reached besides addresses and localhost.
        """
        self._hosts = frozenset(host.lower() for host in hosts)
        self._keys = keys
        self.retired: Set[str] = keys.retired if isinstance(keys, Keys) else frozenset[str]()
        """Keys that were good before a reset."""
        self.quirks = quirks
        self._budget = Budget(body_limit)

    def judge(self, scope: Scope) -> tuple[Reply | None, Share | None]:
        """The answer to a request that is not let in; or None for one that is, whose account is noted.

        With it the counter of its body, None where the body is short, or may be as long as it likes.
        """
        try:
            return None, self._admit(scope)
        except PlatformError as refused:
            return refusal(scope, refused.http, refused.envelope()), None

    def is_of_the_past(self, scope: Scope) -> bool:
        """Say whether a request comes from a client that a reset has cut off: its key was good once."""
        headers = dict(scope["headers"])
        if self._key(headers) is not None:
            return False
        sent = (headers.get(b"x-api-key", b""), headers.get(b"authorization", b"").removeprefix(b"Bearer ").strip())
        return any(parted(key.decode("latin-1").removeprefix("tml-"))[0] in self.retired for key in sent)

    def _admit(self, scope: Scope) -> Share | None:
        path, headers = scope["path"], dict(scope["headers"])
        self._check_origin(headers)
        signed = b"signature=" in scope["query_string"] and any(one.fullmatch(path) for one in _SIGNED)
        if signed and scope["method"] == "PUT":
            return None  # its handler looks at the link first, and takes no byte more than that says
        if path in OPEN or signed or _is_page(path, headers):
            return self._share(path, headers)
        key, program = self._key(headers) or (None, "")
        account = None if key is None else self._keys[key]
        if account is None:
            raise Unauthenticated("unknown or missing API key: send it as X-Api-Key or as Authorization: Bearer")
        scope["account"], scope["admin"], scope["program"] = account, key == next(iter(self._keys), None), program
        narrow = not self.quirks.quiet and self.quirks.value(calls.INFERENCE_ONLY, Subject(account=account))
        if narrow and not _for_inference(path):  # the key is good, and not for this (FAILURES F18)
            raise Unauthenticated("this API key is for inference only: use one that may train")
        if match := _ACCOUNT.match(path):
            owner = match[1] or match[2]
            if owner != account and not (owner in READABLE and scope["method"] in ("GET", "HEAD")):
                raise PermissionDenied(f"this key belongs to account {account!r}, not to {owner[:64]!r}")
        return self._share(path, headers)

    def _share(self, path: str, headers: Mapping[bytes, bytes]) -> Share | None:
        """The counter of a body that may become long; the server reads no more of one than its announced length."""
        if path in UNLIMITED:
            return None
        announced = headers.get(b"content-length", b"")
        length = int(announced) if announced.isdigit() else None
        if length is not None and length > self._budget.body_limit:
            raise self._budget.too_long()
        bodiless = length is None and b"transfer-encoding" not in headers
        return None if bodiless or (length is not None and length <= SMALL) else self._budget.share()

    def _key(self, headers: Mapping[bytes, bytes]) -> tuple[str, str] | None:
        """The known key that the request carries, and the mark of the program that was given it.

        Trainers get X-API-Key only, old clients send both (WIRE 2.1, 7).
        """
        key = self._known(headers.get(b"x-api-key", b"").decode("latin-1"))
        if key is None and b"authorization" in headers:
            scheme, _, token = headers[b"authorization"].decode("latin-1").partition(" ")
            key = self._known(token.strip()) if scheme.lower() == "bearer" else None
        return key

    def _check_origin(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse what a page of another site has a browser send; raises PermissionDenied.

        A browser cannot be made to send another Host than the name in its address bar, and an address cannot be made to
        mean another machine; a name can (DNS rebinding).
        """
        host = _host(b"//" + headers.get(b"host", b"localhost"))
        if not (host in self._hosts or _is_here(host) or _is_address(host)):
            raise PermissionDenied(
                f"Host is {host[:80]!r}: use 127.0.0.1 or localhost, or start with --allow-host {host[:80]}"
            )
        if b"origin" in headers:
            origin = _host(headers[b"origin"])
            if not (origin in self._hosts or _is_here(origin)):
                raise PermissionDenied(
                    f"Origin is {headers[b'origin'][:80].decode('latin-1')!r}: pages of other sites are not answered; "
                    "start with --allow-host and their host if they should be"
                )

    def _known(self, key: str) -> tuple[str, str] | None:
        """A key as it is known, or with the `tml-` that tinker's client wants keys to begin with; None for no key.

        With it the mark of a program, which may stand behind the key.
        """
        for one in (key, key.removeprefix("tml-")):
            if one in self._keys:
                return one, ""
            if (marked := parted(one))[0] in self._keys:
                return marked
        return None


def _is_page(path: str, headers: Mapping[bytes, bytes]) -> bool:
    """Say whether a browser asks for the console, which lets people in by itself, or for the address leading there."""
    if path == "/":
        return b"text/html" in headers.get(b"accept", b"")
    return path == "/_ftsim/ui" or path.startswith("/_ftsim/ui/")


def _for_inference(path: str) -> bool:
    """Say whether a key for inference only may ask this; whoever tests may always use the control API."""
    return path in _INFERENCE or path.startswith("/_ftsim/") or any(one.fullmatch(path) for one in _INFERENCE_PATTERNS)


@lru_cache(64)
def _host(url: bytes) -> str:
    """The host that a URL names, in lower case; "" for none."""
    try:
        return (urlsplit(url.decode("latin-1")).hostname or "").rstrip(".")
    except ValueError:
        return ""


@lru_cache(64)
def _is_here(host: str) -> bool:
    """Say whether a name means this machine, whatever a name server answers."""
    return host == "localhost" or host.endswith(".localhost") or (_is_address(host) and ip_address(host).is_loopback)


@lru_cache(64)
def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
