"""Links to a model's files that need no key, as signed storage URLs do (WIRE 1.5)."""

import hashlib
import hmac
from pathlib import Path

from emulator.core.clock import SECOND
from emulator.core.errors import NotFound, PermissionDenied
from emulator.core.ids import Ids
from emulator.platform.models.models import Models
from emulator.state.blobs import RECORD
from emulator.state.world import World

LIFETIME_S = 3600


class Downloads:
    """Signs and checks links; they end after an hour on the emulator's clock."""

    def __init__(self, world: World, models: Models) -> None:
        self._world = world
        self._models = models
        self._secret = bytes.fromhex(Ids(world.ids.seed, boot=-1).hex(64))

    def links(self, model_name: str) -> dict[str, str]:
        """File name to path and query, for every file of a model; raises NotFound."""
        expires = self._world.clock.ticks() // SECOND + LIFETIME_S
        folder = self._models.folder(self._models.get(model_name))
        files = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != RECORD
        )
        # One segment of a path, whatever folder a file is in: named chat templates have one of their own.
        paths = {file: f"/v1/{model_name}/files/{file.replace('/', ':')}" for file in files}
        return {file: f"{path}?expires={expires}&signature={self._sign(path, expires)}" for file, path in paths.items()}

    def file(self, model_name: str, file: str, expires: str, signature: str) -> Path:
        """The file behind a link; raises PermissionDenied for a wrong or old one, NotFound."""
        path = f"/v1/{model_name}/files/{file}"
        stamp = int(expires) if expires.isascii() and expires.isdigit() and len(expires) < 20 else 0
        known = hmac.compare_digest(self._sign(path, stamp).encode(), signature.encode())
        if not known or self._world.clock.ticks() > stamp * SECOND:
            raise PermissionDenied("this link is not valid (any more): ask for the download endpoint again")
        found = self._models.folder(self._models.get(model_name)) / file.replace(":", "/")
        if file == RECORD or not found.is_file():
            raise NotFound(f"{model_name} has no file {file[:120]!r}")
        return found

    def _sign(self, path: str, expires: int) -> str:
        return hmac.new(self._secret, f"{path}?{expires}".encode(), hashlib.sha256).hexdigest()
