"""The way into the console, for every request under `/_ftsim/ui/`: who asks, from where, with which headers back.

The guard has looked at Host and Origin already. What comes through here has the rights of the emulator's own key. The
pages, and Jinja with them, are imported when somebody asks for the first one.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from emulator.core.errors import PermissionDenied, PlatformError
from emulator.http.console.access import ROOT, Access, cookie_name, cookie_of

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),  # with none at all, browsers send forms from the origin "null"
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_ASSETS = f"{ROOT}assets/"
_FORM_LIMIT = 1_000_000
_STRANGER = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ftsim console</title>
<link rel="stylesheet" href="/_ftsim/ui/assets/console.css"><main class="stranger"><h1>This page needs its link</h1>
<p>A link to the console is good once, for the browser that follows it. Get a new one:</p><pre>ftsim open</pre>
<p>It opens the console of the emulator of your state folder; <code>ftsim open --print</code> prints the link.
From Python it is <code>emulator.console_url()</code>.</p></main></html>"""
_WELCOME = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ftsim console</title>
<meta http-equiv="refresh" content="0;url=/_ftsim/ui/"><p><a href="/_ftsim/ui/">To the console</a></p></html>"""


class Gate:
    """Admits whoever has the cookie, gives it for the token of a link, and passes the request on to a page."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                cached = any(name == b"cache-control" for name, _ in message["headers"])
                message["headers"] = [
                    *message["headers"],
                    *HEADERS,
                    *(() if cached else ((b"cache-control", b"no-store"),)),
                ]
            await send(message)

        response = await self._answer(request)
        await response(scope, receive, guarded)

    async def _answer(self, request: Request) -> Response:
        path, host = request.url.path, request.headers.get("host", "")
        if not path.startswith(ROOT):
            return RedirectResponse(ROOT, 307)
        if path.startswith(_ASSETS):
            from emulator.http.console import files

            return files.response(path.removeprefix(_ASSETS))
        if token := request.query_params.get("token"):
            return self._sign_in(request, token, host)
        cookie = cookie_of(request.headers.get("cookie", ""), host)
        if not self._access.admits(cookie):
            return HTMLResponse(_STRANGER, 401)
        request.scope.update({"account": self._access.account, "admin": True, "form": {}})
        request.scope["form_token"] = self._access.form_token(cookie)
        from emulator.http.console import pages

        try:
            if request.method not in ("GET", "HEAD"):
                request.scope["form"] = await _form(request, host, request.scope["form_token"])
            return await pages.answer(request)
        except PlatformError as refused:
            return pages.refusal(request, refused)

    def _sign_in(self, request: Request, token: str, host: str) -> Response:
        cookie = self._access.sign_in(token)
        if cookie is None:
            return HTMLResponse(_STRANGER, 401)
        # From a page of another site a redirect would arrive without the cookie, which is for this site alone.
        abroad = request.headers.get("sec-fetch-site", "none") == "cross-site"
        response: Response = HTMLResponse(_WELCOME) if abroad else RedirectResponse(ROOT, 303)
        response.set_cookie(cookie_name(host), cookie, path=ROOT, httponly=True, samesite="strict")
        return response


async def _form(request: Request, host: str, token: str) -> Mapping[str, str]:
    """The fields of a form; raises PermissionDenied unless a page of this console has sent it."""
    origin, sender = request.headers.get("origin", ""), request.headers.get("sec-fetch-site", "same-origin")
    if urlsplit(origin).netloc.lower() != host.lower() or not host or sender != "same-origin":
        raise PermissionDenied("this form was not sent by a page of this console")
    sent: dict[str, str] = {}
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raw = await _body(request)
        sent = {name: values[-1] for name, values in parse_qs(raw, keep_blank_values=True).items()}
    given: Any = sent.pop("form_token", None) or request.headers.get("x-form-token", "")
    if given != token:
        raise PermissionDenied("this page is from before the emulator's key changed: load it again")
    return sent


async def _body(request: Request) -> str:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _FORM_LIMIT:
            raise PermissionDenied(f"a form of over {_FORM_LIMIT} bytes is not read")
    return raw.decode("utf-8", "replace")


async def front(request: Request) -> Response:
    """Lead a browser that opens the emulator's address to the console; for anybody else there is nothing here."""
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(404)
    return RedirectResponse(ROOT, 307)


def routes(access: Access) -> list[Route]:
    """The routes of the console: all of it is behind the gate."""
    gate = Gate(access)
    return [Route("/", front, methods=None), Route(ROOT.rstrip("/"), gate), Route(f"{ROOT}{{path:path}}", gate)]
