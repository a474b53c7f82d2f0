"""Links to a model's files that need no key, as signed storage URLs do (WIRE 1.5)."""

from pathlib import Path

from emulator.core.errors import NotFound
from emulator.platform.models.links import Links, file_path
from emulator.platform.models.models import Models
from emulator.state.blobs import RECORD


class Downloads:
    """Finds the files that signed links lead to."""

    def __init__(self, links: Links, models: Models) -> None:
        self._links = links
        self._models = models

    def links(self, model_name: str) -> dict[str, str]:
        """File name to path and query, for every file of a model; raises NotFound."""
        folder = self._models.folder(self._models.get(model_name))
        files = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != RECORD
        )
        return {file: self._links.signed(file_path(model_name, file)) for file in files}

    def file(self, model_name: str, file: str, expires: str, signature: str) -> Path:
        """The file behind a link; raises PermissionDenied for a wrong or old one, NotFound."""
        self._links.check(f"/v1/{model_name}/files/{file}", expires, signature)
        found = self._models.folder(self._models.get(model_name)) / file.replace(":", "/")
        if file == RECORD or not found.is_file():
            raise NotFound(f"{model_name} has no file {file[:120]!r}")
        return found
