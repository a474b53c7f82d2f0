"""Serves what lies in `assets`: our style and script, htmx and uPlot with their licences. None of it is secret."""

import mimetypes
from functools import cache
from pathlib import Path

from starlette.responses import PlainTextResponse, Response

FOLDER = Path(__file__).parent / "assets"


def response(name: str) -> Response:
    """A file by its name, 404 for any other."""
    found = _file(name)
    if found is None:
        return PlainTextResponse("there is no such file", 404)
    body, kind, versioned = found
    age = "public, max-age=31536000, immutable" if versioned else "no-cache"
    return Response(body, media_type=kind, headers={"cache-control": age})


@cache
def names() -> frozenset[str]:
    """The names of all files that are served."""
    return frozenset(path.name for path in FOLDER.iterdir() if path.is_file())


@cache
def _load(name: str) -> tuple[bytes, str, bool]:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return (FOLDER / name).read_bytes(), kind, ".min." in name


def _file(name: str) -> tuple[bytes, str, bool] | None:
    return _load(name) if name in names() else None
