"""The console's pages by path: each reads its query, builds a view, renders it. Buttons: actions.py."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from emulator.core.errors import NotFound, PlatformError
from emulator.http.console import actions, render
from emulator.http.console.access import ROOT
from emulator.http.console.render import link
from emulator.http.console.views import (
    clock as clock_views,
    deployments as deployment_views,
    failures as failure_views,
    models as model_views,
    requests as request_views,
    run as run_views,
    runs as runs_views,
    states as state_views,
)
from emulator.http.web import Reply, platform_of
from emulator.journal.har import har
from emulator.journal.journal import Journal

Page = Callable[..., Awaitable[Response]]
HAR_MOST = 2000
"""Exchanges of an archive that is downloaded here; `ftsim journal --har` writes all."""


async def answer(request: Request) -> Response:
    """The answer to a request that the gate has let in; raises PlatformError."""
    path = request.url.path.removeprefix(ROOT)
    found = _GET if request.method in ("GET", "HEAD") else actions.POST if request.method == "POST" else ()
    for pattern, handler in found:
        if match := pattern.fullmatch(path):
            return await handler(request, **match.groupdict())
    raise NotFound(f"the console has no page {path[:120]!r}")


def refusal(request: Request, refused: PlatformError) -> Response:
    """A refusal as a page of its own."""
    return render.page(request, "refusal.html", "", refused.http, message=refused.message, status=refused.http)


async def _front(request: Request) -> Response:
    return RedirectResponse(link("runs"), 307)


async def _runs(request: Request) -> Response:
    query = request.query_params
    words, asked = query.get("words", ""), query.get("page", "")
    shown = runs_views.runs(platform_of(request), asked, words)
    address = link("runs", page=asked, words=words)
    return render.live(request, "runs.html", "_runs.html", "runs", address, shown=shown, words=words)


async def _run(request: Request, name: str) -> Response:
    platform, asked = platform_of(request), request.query_params.get("page", "")
    return render.live(
        request,
        "run.html",
        "_run.html",
        "runs",
        link("run", name, page=asked),
        run=run_views.run(platform, name),
        rows=run_views.run_rows(platform, name, asked),
        tree=run_views.run_tree(platform, name),
        curves=run_views.run_curves(platform, name),
    )


async def _curves(request: Request, name: str) -> Response:
    platform = platform_of(request)
    owner = run_views.owner_named(platform, name)
    if request.query_params.get("seen") == run_views.curves_version(platform, owner.name):
        return Response(status_code=204)
    told = run_views.run_curves(platform, name)
    figures = [
        {
            "key": one.key,
            "last": one.last,
            "lines": [{"label": line.label, "points": list(zip(*line.points, strict=True))} for line in one.lines],
        }
        for one in told.figures
    ]
    return Reply({"version": told.version, "saves": told.saves, "figures": figures})


async def _requests(request: Request) -> Response:
    wanted = request_views.Filter.of(request.query_params)
    below = request.query_params.get("below", "")
    number = int(below) if below.isascii() and below.isdigit() and len(below) < 12 else 0
    shown = request_views.requests(journal_of(request), wanted, number)
    address = link("requests", below=number, **wanted.query)
    return render.live(
        request,
        "requests.html",
        "_requests.html",
        "requests",
        address,
        shown=shown,
        wanted=wanted,
        below=number,
    )


async def _request(request: Request, number: str) -> Response:
    shown = request_views.request(journal_of(request), int(number))
    return render.page(request, "request.html", "requests", shown=shown)


async def _har(request: Request) -> Response:
    journal, query = journal_of(request), request.query_params
    one = query.get("number", "")
    wanted = request_views.Filter.of(query)
    found = [e for e in request_views.chosen(journal, wanted) if not one or str(e.began) == one][:HAR_MOST]
    archive: dict[str, Any] = har(reversed(found), base_url=f"http://{request.headers.get('host', '')}")
    name = f"ftsim-{len(found)}-requests.har"
    return Reply(archive, headers={"content-disposition": f'attachment; filename="{name}"'})


async def _deployments(request: Request) -> Response:
    asked = request.query_params.get("page", "")
    shown = deployment_views.deployments(platform_of(request), asked)
    address = link("deployments", page=asked)
    return render.live(request, "deployments.html", "_deployments.html", "deployments", address, shown=shown)


async def _deployment(request: Request, name: str) -> Response:
    shown = deployment_views.deployment(platform_of(request), name)
    address = link("deployment", name)
    return render.live(request, "deployment.html", "_deployment.html", "deployments", address, shown=shown)


async def _models(request: Request) -> Response:
    query = request.query_params
    shown = model_views.models(platform_of(request), query.get("page", ""), query.get("words", ""))
    return render.page(request, "models.html", "models", shown=shown, words=query.get("words", ""))


async def _model(request: Request, name: str) -> Response:
    return render.page(request, "model.html", "models", shown=model_views.model(platform_of(request), name))


async def _files(request: Request, name: str) -> Response:
    shown = await run_in_threadpool(model_views.files, platform_of(request), name)
    return render.page(request, "files.html", "runs" if shown.back else "models", shown=shown)


async def _file(request: Request, name: str, file: str) -> Response:
    shown = await run_in_threadpool(model_views.files, platform_of(request), name)
    if file not in dict(shown.files):
        raise NotFound(f"{name} has no file {file[:120]!r}")
    download = f"{shown.what}-{file.replace('/', '-')}"
    return FileResponse(f"{shown.folder}/{file}", media_type="application/octet-stream", filename=download)


async def _chat(request: Request, name: str) -> Response:
    return actions.chat_page(request, name, [])


async def _failures(request: Request) -> Response:
    query = request.query_params
    words, only = query.get("words", ""), query.get("on", "") == "on"
    shown = failure_views.catalogue(platform_of(request).world.quirks, words, only)
    return render.page(request, "failures.html", "failures", shown=shown, words=words, only=only)


async def _clock(request: Request) -> Response:
    shown = clock_views.clock(platform_of(request))
    return render.page(request, "clock.html", "clock", shown=shown)


async def _state(request: Request) -> Response:
    return render.page(request, "state.html", "state", shown=state_views.states(platform_of(request)))


async def _compare(request: Request) -> Response:
    query = request.query_params
    one, other = query.get("one", ""), query.get("other", state_views.NOW)
    shown = await run_in_threadpool(state_views.compare, platform_of(request), one, other)
    return render.page(request, "compare.html", "state", shown=shown)


async def _archive(request: Request, name: str) -> Response:
    return FileResponse(state_views.file_of(platform_of(request), name), media_type="application/zip", filename=name)


def journal_of(request: Request) -> Journal:
    found = request.app.state.journal
    assert isinstance(found, Journal)
    return found


def _table(*rows: tuple[str, Page]) -> tuple[tuple[re.Pattern[str], Page], ...]:
    return tuple((re.compile(pattern), handler) for pattern, handler in rows)


_GET = _table(
    ("", _front),
    ("runs", _runs),
    ("run/(?P<name>accounts/.+)", _run),
    ("curves/(?P<name>accounts/.+)", _curves),
    ("requests", _requests),
    (r"requests/(?P<number>\d{1,12})", _request),
    (r"requests\.har", _har),
    ("deployments", _deployments),
    ("deployment/(?P<name>accounts/.+)", _deployment),
    ("models", _models),
    ("model/(?P<name>accounts/.+)", _model),
    ("files/(?P<name>accounts/.+)", _files),
    ("file/(?P<name>accounts/[^/]+(?:/[^/]+)+?)/-/(?P<file>.+)", _file),
    ("chat/(?P<name>accounts/[^/]+/(?:models|deployments)/[^/]+)", _chat),
    ("failures", _failures),
    ("clock", _clock),
    ("state", _state),
    ("state/compare", _compare),
    ("state/file/(?P<name>[^/]+)", _archive),
)
