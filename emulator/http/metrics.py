"""The figures of a run: what its trainer measured, and what its program tells, which no trainer knows (a reward)."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.errors import InvalidArgument, NotFound
from emulator.http import schemas
from emulator.http.bodies import Body, SnakeBody, body
from emulator.http.control.requests import listed
from emulator.http.declare import ACTS, LIST, Endpoints
from emulator.http.web import Reply, caller, platform_of
from emulator.platform.queries.paging import Page, Query
from emulator.platform.trainers.curves import Point
from emulator.quirks import engine
from emulator.state.curves import segments, thinned, told

router = Endpoints()
routers = (router,)
CURVE = schemas.obj(
    {"metricKey": schemas.STRING, "steps": schemas.each(schemas.STRING), "values": schemas.each({"type": "number"})}
)


class LogMetrics(Body):
    """Figures of a session, `{key, step, value}` each; a `timestamp` is taken and not kept: the step places a point."""

    points: list[dict[str, Any]]


class TellMetrics(SnakeBody):
    """Figures of a job or session, `{key, step, value}` each."""

    owner: str
    points: list[dict[str, Any]]


@router.serve("log_session_metrics", body=LogMetrics)
async def log_session_metrics(request: Request) -> Response:
    """Keep figures that a program tells of its training session; the console draws them."""
    platform = platform_of(request)
    session = platform.sessions.running(request.path_params["account"], request.path_params["session"])
    platform.curves.tell(session.account, session.name, points_of(await body(request)))
    return Reply({})


@router.serve(
    "list_session_curves",
    answer=schemas.page("curves", CURVE),
    query={**LIST, "metricKeys": ACTS, "maxPoints": ACTS},
)
async def list_session_curves(request: Request) -> Response:
    """List what was measured of a training session and what its program told; what it told goes before."""
    platform, asked = platform_of(request), request.query_params
    session = platform.sessions.get(request.path_params["account"], request.path_params["session"])
    pieces = platform.world.curves.of(session.name)
    found: dict[str, dict[int, float]] = {}
    for segment in segments(pieces):  # a step that was taken again after a load is shown as it was taken last
        for name, column in segment.columns.items():
            known = found.setdefault(name, {})
            known.update((at, value) for at, value in zip(segment.steps, column, strict=False) if value is not None)
    found |= told(pieces)
    wanted = asked.getlist("metricKeys")
    names = [name for name in sorted(found) if not wanted or name in wanted]
    most = _most(asked.get("maxPoints"))
    curves = [_curve(name, found[name], most) for name in names]
    numbered = [*enumerate(curves, 1)]

    def find(query: Query[tuple[int, dict[str, Any]]]) -> Page[tuple[int, dict[str, Any]]]:
        return query.page(numbered, lambda one: one[0])

    return listed(request, "curves", lambda one: one[1], find)


@router.serve("log_metrics", body=TellMetrics)
async def log_metrics(request: Request) -> Response:
    """Keep figures that a program tells of its job or session: `{"owner": name, "points": [{key, step, value}]}`."""
    sent = await body(request)
    for name in sent:
        if name not in ("owner", "points"):
            raise engine.unknown("key", name, ("owner", "points"), "")
    platform = platform_of(request)
    platform.curves.tell(caller(request), _owner(request, str(sent.get("owner", ""))), points_of(sent))
    return Reply({})


@router.serve("read_curves", query={"owner": ACTS})
async def read_curves(request: Request) -> Response:
    """Show what the trainer of a job or session measured, segment by segment, and what its program told.

    `?owner=` is its full name. A segment begins when a model is made or a checkpoint is loaded."""
    pieces = platform_of(request).world.curves.of(_owner(request, request.query_params.get("owner", "")))
    measured = [
        {"model_id": one.model_id, "origin": one.origin, "steps": one.steps, "metrics": one.columns}
        for one in segments(pieces)
    ]
    said = {name: {"steps": [*points], "values": [*points.values()]} for name, points in told(pieces).items()}
    return Reply({"segments": measured, "told": said})


def points_of(sent: Mapping[str, Any]) -> list[Point]:
    """The points of a body; raises InvalidArgument."""
    points = sent.get("points")
    if not isinstance(points, list):
        raise InvalidArgument("points: give a list of {key, step, value}")
    return [_point(number, point) for number, point in enumerate(points)]


def _point(number: int, point: object) -> Point:
    if not isinstance(point, Mapping):
        raise InvalidArgument(f"points[{number}]: give {{key, step, value}}")
    key, step, value = point.get("key"), point.get("step", 0), point.get("value", 0.0)
    if isinstance(step, str) and step.isascii() and step.isdigit() and len(step) < 17:  # as JSON has 64-bit numbers
        step = int(step)
    if not isinstance(key, str) or type(step) is not int or type(value) not in (int, float):
        raise InvalidArgument(f"points[{number}]: key is a text, step a whole number, value a number")
    return Point(key, step, float(value))


def _curve(name: str, points: Mapping[int, float], most: int) -> dict[str, Any]:
    shown = thinned(sorted(points.items()), most) if most else sorted(points.items())
    return {"metricKey": name, "steps": [str(step) for step, _ in shown], "values": [value for _, value in shown]}


def _most(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 8):
        raise InvalidArgument(f"maxPoints {text[:40]!r}: give a number of points")
    return int(text)


def _owner(request: Request, name: str) -> str:
    """The full name of a job or session of the caller; raises InvalidArgument, NotFound."""
    world = platform_of(request).world
    if not name.startswith(f"accounts/{caller(request)}/"):
        raise InvalidArgument("owner: give the full name of a job or session of your account")
    if world.jobs.get(name) is None and world.sessions.get(name) is None:
        raise NotFound(f"there is no job and no session {name[:200]!r}")
    return name
