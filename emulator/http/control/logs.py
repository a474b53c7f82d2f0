"""/v1/accounts/{account}/rlorTrainerJobs/{job}/publicLogs: a signed link to what was asked of a trainer."""

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from emulator.core import endpoints
from emulator.core.clock import rfc3339
from emulator.http import schemas
from emulator.http.control.models import address
from emulator.http.declare import ACTS, Endpoints
from emulator.http.web import Reply, platform_of
from emulator.journal.journal import Journal

router = Endpoints()
LOGS = schemas.obj({"signedUrl": schemas.STRING})


@router.serve("get_public_logs", answer=LOGS)
async def public_logs(request: Request) -> Response:
    """Give a signed link to the log of a trainer job."""
    platform = platform_of(request)
    job = platform.jobs.get(request.path_params["account"], request.path_params["job"])
    return Reply({"signedUrl": address(request) + platform.links.signed(f"/v1/{job.name}/logs.txt")})


@router.serve("download_public_logs", query={"expires": ACTS, "signature": ACTS}, media=("text/plain",))
async def text(request: Request) -> Response:
    """Send the log, a line for each request of the job that the journal still has. No key is asked: it is signed."""
    query, platform = request.query_params, platform_of(request)
    platform.links.check(request.url.path, query.get("expires", ""), query.get("signature", ""))
    job = platform.jobs.get(request.path_params["account"], request.path_params["job"])
    lines = [f"{rfc3339(job.created)} {job.name} was created", *_lines(request.app.state.journal, job.id)]
    return PlainTextResponse("\n".join([*lines, f"{job.state} {job.message}".strip(), ""]))


def _lines(journal: Journal, job: str) -> Iterator[str]:
    for one in journal:
        name, ids = endpoints.endpoint(one.method, one.path)
        if ids.get("job") == job:
            yield f"{rfc3339(one.at)} {name} {one.status}{' ' + one.error if one.error else ''}"
