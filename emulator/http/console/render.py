"""Renders the console's pages with Jinja: what every page has around it, parts that are asked for again, notes."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from emulator.core.clock import rfc3339
from emulator.core.ids import one_time_token
from emulator.http.console.access import ROOT
from emulator.http.web import platform_of

NAVIGATION = (
    ("runs", "Runs", "r"),
    ("requests", "Requests", "q"),
    ("deployments", "Deployments", "d"),
    ("models", "Models", "m"),
    ("failures", "Failures", "f"),
    ("clock", "Clock", "c"),
    ("state", "State", "s"),
)
"""The pages by path, title, and the key that leads there after `g`."""
NOTES = 64
"""Notes that wait for the page on which they are shown."""
EVERY_S = 3
"""Seconds between two looks at a part of a page that is live."""


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(root=ROOT, to=link)
    return made


def link(*parts: str, **query: object) -> str:
    """A path within the console: `link("run", name, page=2)`; empty values are left out."""
    path = ROOT + "/".join(quote(part, safe="/:") for part in parts)
    kept = {name: value for name, value in query.items() if value not in ("", 0, None)}
    return f"{path}?{urlencode(kept)}" if kept else path


def page(request: Request, template: str, here: str, http_status: int = 200, **shown: Any) -> Response:
    """A whole page; `here` is the entry of the navigation that it belongs to."""
    text = _environment().get_template(template).render(**_around(request, here), **shown)
    return HTMLResponse(text, http_status)


def live(request: Request, template: str, part: str, here: str, address: str, **shown: Any) -> Response:
    """A page with a part that is looked at again every so often, or that part alone, or nothing if it is the same."""
    around = _around(request, here)
    text = _environment().get_template(part).render(**around, **shown)
    seen = hashlib.sha256(text.encode()).hexdigest()[:16]
    if request.query_params.get("seen") == seen:
        return Response(status_code=204)
    again = f"{address}{'&' if '?' in address else '?'}seen={seen}"
    inside = {"inner": text, "again": again, "every": EVERY_S}
    if "hx-request" in request.headers:
        return HTMLResponse(_environment().get_template("_live.html").render(**inside))
    return HTMLResponse(_environment().get_template(template).render(**around, **shown, **inside))


def back(request: Request, address: str, note: str, tone: str = "good") -> Response:
    """Lead to a page that shows a note."""
    notes: OrderedDict[str, tuple[str, str]] = _notes(request)
    key = one_time_token()[:16]
    notes[key] = (note, tone)
    while len(notes) > NOTES:
        notes.popitem(last=False)
    return RedirectResponse(f"{address}{'&' if '?' in address else '?'}note={key}", 303)


def _notes(request: Request) -> "OrderedDict[str, tuple[str, str]]":
    state = request.app.state
    if not hasattr(state, "console_notes"):
        state.console_notes = OrderedDict()
    found: OrderedDict[str, tuple[str, str]] = state.console_notes
    return found


def _around(request: Request, here: str) -> Mapping[str, Any]:
    """Returns what every template may use."""
    platform = platform_of(request)
    return {
        "here": here,
        "navigation": NAVIGATION,
        "host": request.headers.get("host", ""),
        "form_token": request.scope["form_token"],
        "now": rfc3339(platform.world.clock.now(), 0),
        "switches": len(platform.world.quirks.active()),
        "date": platform.world.platform,
        "light": request.app.state.light,
        "note": _notes(request).get(request.query_params.get("note", ""), ("", "")),
    }
