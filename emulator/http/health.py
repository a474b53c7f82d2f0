"""Health of the emulator, for whoever starts it: `/healthz` and `/readyz`, without a key."""

from starlette.requests import Request
from starlette.responses import Response

from emulator.core import threads
from emulator.http import schemas
from emulator.http.declare import Endpoints
from emulator.http.entrance import HEALTHY
from emulator.http.web import Reply, platform_of

router = Endpoints()
routers = (router,)


@router.serve("healthy", answer=schemas.HEALTH)
async def healthz(request: Request) -> Response:
    """Answer as soon as the socket does; 503 once nothing can be stored any more, since its folder is gone."""
    store = platform_of(request).world.store
    if trouble := store.look():
        return Reply({"status": "unhealthy", "message": trouble}, 503)
    return Reply({"status": "ok", "readOnly": store.read_only} if store.read_only else HEALTHY)


@router.serve("ready", answer=schemas.HEALTH)
async def readyz(request: Request) -> Response:
    """Answer 200 once trainers open without a long first import; asking begins that import."""
    backend = platform_of(request).backend
    if backend.ready():
        sampler = getattr(backend, "sampler", "torch")  # said where it is another than usual
        return Reply({"status": "ready"} | ({"sampler": sampler} if sampler != "torch" else {}))
    if not getattr(request.app.state, "warming", False):
        request.app.state.warming = True
        threads.start(backend.warm, "warm")
    return Reply({"status": "warming"}, 503)
