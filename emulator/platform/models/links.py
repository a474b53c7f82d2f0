"""Signed links, which need no key, as those of a storage service do: to read a file, or to put one."""

import hashlib
import hmac

from emulator.core.clock import SECOND
from emulator.core.errors import PermissionDenied
from emulator.core.ids import Ids
from emulator.state.world import World

LIFETIME_S = 3600


class Links:
    """Signs and checks links; they end after an hour on the emulator's clock."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._secret = bytes.fromhex(Ids(world.ids.seed, boot=-1).hex(64))

    def signed(self, path: str, *facts: str) -> str:
        """The path with a query: its end, and a signature that also holds `facts`, which the link tells otherwise."""
        expires = self._world.clock.ticks() // SECOND + LIFETIME_S
        return f"{path}?expires={expires}&signature={self._sign(path, expires, *facts)}"

    def check(self, path: str, expires: str, signature: str, *facts: str) -> None:
        """Raises PermissionDenied for a link that was not signed here, or that has ended."""
        stamp = int(expires) if expires.isascii() and expires.isdigit() and len(expires) < 20 else 0
        known = hmac.compare_digest(self._sign(path, stamp, *facts).encode(), signature.encode())
        if not known or self._world.clock.ticks() > stamp * SECOND:
            raise PermissionDenied("this link is not valid (any more): ask for the endpoint again")

    def _sign(self, path: str, expires: int, *facts: str) -> str:
        text = "?".join((path, str(expires), *facts))
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


def file_path(model_name: str, file: str) -> str:
    """The path of a file of a model: one segment, whatever folder the file is in (chat templates have their own)."""
    return f"/v1/{model_name}/files/{file.replace('/', ':')}"
