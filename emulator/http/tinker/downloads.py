"""Takes weights away: links to the files of a save, and the files behind them."""

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from emulator.core.clock import SECOND
from emulator.http import schemas
from emulator.http.control.models import address
from emulator.http.declare import ACTS, Endpoints
from emulator.http.schemas import STRING, obj
from emulator.http.tinker import bodies
from emulator.http.tinker.resources import path_of
from emulator.http.tinker.routes import submitted, target_of
from emulator.http.web import Reply, platform_of
from emulator.platform.models.links import LIFETIME_S
from emulator.platform.trainers.external import ARCHIVE

router = Endpoints()
COMPLETE = "checkpoint_complete"
"""An empty file of every archive, by which clients know that nothing is missing."""
_PIECE = 1 << 20


@router.serve("tinker_save_external", answer=schemas.ACCEPTED, body=bodies.SaveExternal)
async def _save(request: Request) -> Response:
    """Accept an adapter to be saved for whoever takes it away."""
    return await submitted(request, "save_weights_external", bodies.SaveExternal)


@router.serve("tinker_external_urls", answer=obj({"urls": schemas.EMPTY, "expires": STRING}))
async def _urls(request: Request) -> Response:
    """Give a signed link to every file of an external save."""
    target, base = target_of(request), address(request)
    links = await run_in_threadpool(target.platform.external.links, target.account, path_of(request))
    return Reply({"urls": {file: base + link for file, link in links.items()}, "expires": _end(request).isoformat()})


@router.serve("tinker_archive")
async def _archive(request: Request) -> Response:
    """Send on to the signed link to an archive of an adapter's files."""
    target = target_of(request)
    link = await run_in_threadpool(target.platform.external.archive, target.account, path_of(request))
    headers = {"Location": address(request) + link, "Expires": format_datetime(_end(request), usegmt=True)}
    return Response(status_code=302, headers=headers)


@router.serve(
    "tinker_checkpoint_file",
    query={"expires": ACTS, "signature": ACTS},
    media=("application/octet-stream", "application/x-tar"),
)
async def _file(request: Request) -> Response:
    """Send a file. No key is asked here: the link is signed."""
    query, named = request.query_params, request.path_params
    external = platform_of(request).external
    files = await run_in_threadpool(
        external.files,
        named["account"],
        path_of(request),
        named["file"],
        query.get("expires", ""),
        query.get("signature", ""),
    )
    if named["file"] != ARCHIVE:
        return FileResponse(files[0], media_type="application/octet-stream")
    return StreamingResponse(_pieces(await run_in_threadpool(_packed, files)), media_type="application/x-tar")


def _packed(files: Sequence[Path]) -> IO[bytes]:
    whole = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed by whoever reads it to its end)
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for file in files:
            archive.add(file, arcname=file.name, recursive=False)
        archive.addfile(tarfile.TarInfo(COMPLETE))
    whole.seek(0)
    return whole


def _pieces(whole: IO[bytes]) -> Iterator[bytes]:
    with whole:
        while piece := whole.read(_PIECE):
            yield piece


def _end(request: Request) -> datetime:
    """The time at which links that are made now end."""
    now = datetime.fromtimestamp(platform_of(request).world.clock.now() / SECOND, UTC)
    return (now + timedelta(seconds=LIFETIME_S)).replace(microsecond=0)
