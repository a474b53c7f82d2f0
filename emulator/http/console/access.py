"""Lets a person with a browser in: a link that is good once, a cookie for it, a token in every form.

The cookie has the rights of the emulator's own key and is signed with it, so that it outlives a restart on the same
state folder and ends with the key. Browsers give a cookie to every port of a host, and take these ports for one site:
the cookie bears the port in its name, and what changes something is refused unless it comes from this very origin.
"""

import hashlib
import hmac
import threading
from collections import OrderedDict
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from emulator.core.clock import Clock
from emulator.core.ids import one_time_token

ROOT = "/_ftsim/ui/"
LINK_S = 12 * 3600
"""Seconds for which a link that nobody has followed is good, of real time."""
LINKS = 64
"""Links that are good at a time; a new one takes the place of the oldest."""


class Access:
    """Lets people into the console. `keys` maps API keys to accounts, the emulator's own first."""

    def __init__(self, keys: Mapping[str, str], clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._lock = threading.Lock()
        self._links: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    @property
    def account(self) -> str:
        """The account of the emulator's own key."""
        return next(iter(self._keys.values()), "")

    @property
    def key(self) -> str:
        """The emulator's own key."""
        return next(iter(self._keys), "")

    def key_of(self, account: str) -> str:
        """A key of an account, the emulator's own where it has none."""
        return next((key for key, owner in self._keys.items() if owner == account), self.key)

    def link(self) -> str:
        """Make a path that lets the first who follows it in."""
        token = one_time_token()
        with self._lock:
            self._links[_digest(token)] = (self._clock.elapsed() + LINK_S, self.key)
            while len(self._links) > LINKS:
                self._links.popitem(last=False)
        return f"{ROOT}?token={token}"

    def sign_in(self, token: str) -> str | None:
        """The cookie for the token of a link, which is good no more then; None for one that is not."""
        with self._lock:
            until, key = self._links.pop(_digest(token), (0.0, ""))
        if self._clock.elapsed() > until or not key or key != self.key:
            return None
        nonce = one_time_token()
        return f"{nonce}.{self._sign('cookie', nonce)}"

    def admits(self, cookie: str) -> bool:
        """Say whether a cookie is one of ours, under the key as it is now."""
        nonce, _, signature = cookie.partition(".")
        return bool(self.key and nonce) and _equal(signature, self._sign("cookie", nonce))

    def form_token(self, cookie: str) -> str:
        """Make the token that a form must send back: no page of another site can read it."""
        return self._sign("form", cookie)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self.key.encode(), f"ftsim console {purpose} {text}".encode(), hashlib.sha256).hexdigest()


def cookie_name(host: str) -> str:
    """The cookie's name for a Host header: emulators on other ports have others."""
    port = host.rpartition(":")[2]
    return f"ftsim-console-{port if port.isdigit() else 80}"


def cookie_of(header: str, host: str) -> str:
    """The console's cookie in a Cookie header, or nothing."""
    try:
        found = SimpleCookie(header).get(cookie_name(host))
    except CookieError:
        return ""
    return found.value if found else ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode())
