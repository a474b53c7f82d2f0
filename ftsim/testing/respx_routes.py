"""https://api.fireworks.ai, answered in this process by an emulator's own application.

respx sees what goes through httpx: control plane, inference, hot-load. Trainer traffic does not (docs/failures.md,
"Two facts"), so requests to loopback addresses pass through to the emulator's port. The SDK's asynchronous client is
httpx with aiohttp below it, where respx does not look: its requests are shown to the same routes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import httpx
import respx
from anyio.from_thread import start_blocking_portal
from httpx_aiohttp import AiohttpTransport
from respx.models import PassThrough

from emulator.http.app import create_app
from emulator.server import Emulator

SERVICE = "https://api.fireworks.ai"
_LOOPBACK = r"https?://(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?/.*"


@contextmanager
def answered_by(emulator: Emulator, service: str = SERVICE) -> Iterator[respx.Router]:
    """Within the block every httpx request to `service` is answered by `emulator`, and every key it carries is good."""
    keys = dict(emulator.keys)
    app = create_app(emulator.platform, keys=emulator.keys, journal=emulator.journal, hosts=(httpx.URL(service).host,))
    transport = httpx.ASGITransport(app)
    with (
        start_blocking_portal() as portal,
        respx.mock(assert_all_called=False, assert_all_mocked=True) as router,
        _aiohttp_too(router),
    ):

        async def answer(request: httpx.Request) -> httpx.Response:
            response = await transport.handle_async_request(request)
            return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

        def forward(request: httpx.Request) -> httpx.Response:
            for key in _presented(request):
                emulator.keys.setdefault(key, emulator.account)  # its trainers will be asked with it too
            return portal.call(answer, _readable(request))

        router.route(url__startswith=f"{service}/").mock(side_effect=forward)
        router.route(url__regex=_LOOPBACK).pass_through()
        try:
            yield router
        finally:
            emulator.keys.clear()
            emulator.keys.update(keys)


@contextmanager
def _aiohttp_too(router: respx.Router) -> Iterator[None]:
    """Without it these requests would reach the service itself, whatever the routes say."""
    send = AiohttpTransport.handle_async_request

    async def routed(self: AiohttpTransport, request: httpx.Request) -> httpx.Response:
        await request.aread()
        try:
            return await router.async_handler(request)
        except PassThrough:
            return await send(self, request)

    with mock.patch.object(AiohttpTransport, "handle_async_request", routed):
        yield


def _presented(request: httpx.Request) -> list[str]:
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    return [key for key in (request.headers.get("x-api-key", ""), bearer) if key]


def _readable(request: httpx.Request) -> httpx.Request:
    """The request with its body in memory, as an asynchronous transport wants it."""
    return httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
