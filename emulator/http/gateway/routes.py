"""The verbs of the trainer gateway (WIRE 2.4), the same on a dedicated trainer and on the pool but for the `Site`.

Plain routes without validation models: a training step passes here several times, and bodies are judged inside the
operation so that a bad datum fails its future and never the client (WIRE 2.7).
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.errors import InvalidArgument, NotFound
from emulator.http.gateway import answers
from emulator.http.gateway.site import Site
from emulator.http.web import Reply, parse
from emulator.platform.trainers.futures import Promise
from emulator.quirks import trainers

HOLD_S = 25.0
Handler = Callable[[Site, bytes], Awaitable[Response]]


async def answer(site: Site, request: Request) -> Response:
    """Every verb of a trainer."""
    verb = request.path_params["verb"]
    handler = _HANDLERS.get((request.method, verb))
    if handler is not None:
        return await handler(site, await request.body())
    training = site.platform.training
    if request.method == "POST" and verb in training.verbs:
        raw = await request.body()
        body = parse(raw)
        return _accepted(training.submit(site.trainer(body), verb, body, _fingerprint(verb, raw)))
    if refused := site.refusal(verb):
        raise InvalidArgument(refused)
    raise NotFound(f"the trainer has no {request.method} {str(verb)[:80]!r}")


async def _healthz(site: Site, _raw: bytes) -> Response:
    status = site.health()
    if status == 200:
        return Reply({"status": "ok"})
    return Reply({"code": 14, "message": "the trainer is not ready", "details": []}, status)


async def _capabilities(site: Site, _raw: bytes) -> Response:
    return Reply({"supported_models": site.capabilities()})


async def _list_checkpoints(site: Site, _raw: bytes) -> Response:
    return Reply({"checkpoints": site.names()})


async def _client_config(_site: Site, _raw: bytes) -> Response:
    return Reply(answers.CLIENT_CONFIG)


async def _auth_token(site: Site, _raw: bytes) -> Response:
    return Reply({"jwt": answers.token(site.platform.world.clock.now())})


async def _create_session(site: Site, _raw: bytes) -> Response:
    return Reply({"type": "create_session", "session_id": site.create_session()})


async def _heartbeat(site: Site, raw: bytes) -> Response:
    site.heartbeat(str(parse(raw).get("session_id", "")))
    return Reply({"type": "session_heartbeat"})


async def _telemetry(_site: Site, _raw: bytes) -> Response:
    return Reply({"status": "accepted"})


async def _create_model(site: Site, raw: bytes) -> Response:
    return _accepted(site.create_model(parse(raw), _fingerprint("create_model", raw)))


async def _get_info(site: Site, raw: bytes) -> Response:
    body = parse(raw)
    return Reply(answers.info(site.trainer(body).model(str(body.get("model_id", "")))))


async def _unload_model(site: Site, raw: bytes) -> Response:
    body = parse(raw)
    trainer = site.trainer(body)
    return _accepted(site.platform.trainers.unload_model(trainer, str(body.get("model_id", ""))))


async def _weights_info(site: Site, raw: bytes) -> Response:
    return Reply(answers.weights_info(site.weights(str(parse(raw).get("tinker_path", "")))))


async def _retrieve(site: Site, raw: bytes) -> Response:
    """Long-poll for a promise: at most HOLD_S, then `try_again` (WIRE 2.6)."""
    asked, platform = parse(raw), site.platform
    promise = platform.futures.get(site.within(), str(asked.get("request_id", "")))
    said = platform.world.quirks.spend(trainers.FUTURES_ANSWER, promise.subject)
    if said and (scripted := answers.scripted(said, promise, asked)) is not None:
        return scripted
    if not promise.done and not platform.futures.closing:
        await _settled(promise)
        platform.futures.check(promise)
    return Reply(promise.payload) if promise.payload is not None else Reply(answers.try_again(promise))


async def _settled(promise: Promise) -> None:
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be gone when a stopped emulator's trainer ends
            loop.call_soon_threadsafe(woken.set)

    promise.watch(wake)
    try:
        async with asyncio.timeout(HOLD_S):
            await woken.wait()
    except TimeoutError:
        promise.unwatch(wake)


def _accepted(promise: Promise) -> Response:
    return Reply({"request_id": promise.request_id, "model_id": promise.model_id})


def _fingerprint(verb: str, raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16, person=verb.encode()[:16]).digest()


_HANDLERS: Mapping[tuple[str, Any], Handler] = {
    ("GET", "healthz"): _healthz,
    ("GET", "get_server_capabilities"): _capabilities,
    ("GET", "list_checkpoints"): _list_checkpoints,
    ("POST", "client/config"): _client_config,
    ("POST", "auth/token"): _auth_token,
    ("POST", "create_session"): _create_session,
    ("POST", "session_heartbeat"): _heartbeat,
    ("POST", "telemetry"): _telemetry,
    ("POST", "create_model"): _create_model,
    ("POST", "get_info"): _get_info,
    ("POST", "unload_model"): _unload_model,
    ("POST", "weights_info"): _weights_info,
    ("POST", "retrieve_future"): _retrieve,
}
