"""The trainer gateway, dedicated flavour (WIRE 2.4): `/training/v1/rlorTrainerJobs/{account}/{job}/api/v1/<verb>`.

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
from starlette.routing import Router

from emulator.errors import InvalidArgument, NotFound
from emulator.gateway import answers
from emulator.platform.futures import Promise
from emulator.platform.platform import Platform
from emulator.platform.trainers import Trainer
from emulator.web import Reply, parse, platform_of

HOLD_S = 25.0
_UNSERVED = frozenset({"create_sampling_session", "asample", "sample", "create_sampling_route", "weight_sync"})

router = Router()
Handler = Callable[[Platform, Request, bytes], Awaitable[Response]]


async def gateway(request: Request) -> Response:
    """Every verb of a trainer."""
    verb = request.path_params["verb"]
    handler = _HANDLERS.get((request.method, verb))
    if handler is not None:
        return await handler(platform_of(request), request, await request.body())
    platform = platform_of(request)
    if request.method == "POST" and verb in platform.training.verbs:
        raw = await request.body()
        body = parse(raw)
        return _accepted(platform.training.submit(_trainer(platform, request), verb, body, _fingerprint(verb, raw)))
    if verb in _UNSERVED:
        raise InvalidArgument(f"{verb} is not served by a dedicated trainer: sample from a deployment")
    raise NotFound(f"the trainer has no {request.method} {str(verb)[:80]!r}")


router.add_route("/training/v1/rlorTrainerJobs/{account}/{job}/api/v1/{verb:path}", gateway, methods=["GET", "POST"])


async def _healthz(platform: Platform, request: Request, _raw: bytes) -> Response:
    status = platform.jobs.health(request.path_params["account"], request.path_params["job"])
    if status == 200:
        return Reply({"status": "ok"})
    return Reply({"code": 14, "message": "the trainer is not ready", "details": []}, status)


async def _capabilities(platform: Platform, request: Request, _raw: bytes) -> Response:
    job = _trainer(platform, request).job
    return Reply({"supported_models": [{"model_name": job.base_model, "max_context_length": job.max_context_length}]})


async def _list_checkpoints(platform: Platform, request: Request, _raw: bytes) -> Response:
    return Reply({"checkpoints": platform.training.names(_trainer(platform, request))})


async def _client_config(_platform: Platform, _request: Request, _raw: bytes) -> Response:
    return Reply(answers.CLIENT_CONFIG)


async def _auth_token(platform: Platform, _request: Request, _raw: bytes) -> Response:
    return Reply({"jwt": answers.token(platform.world.clock.now())})


async def _create_session(platform: Platform, request: Request, _raw: bytes) -> Response:
    session_id = platform.trainers.create_session(_trainer(platform, request))
    return Reply({"type": "create_session", "session_id": session_id})


async def _heartbeat(platform: Platform, request: Request, raw: bytes) -> Response:
    _trainer(platform, request, in_use=False).sessions.heartbeat(str(parse(raw).get("session_id", "")))
    return Reply({"type": "session_heartbeat"})


async def _telemetry(_platform: Platform, _request: Request, _raw: bytes) -> Response:
    return Reply({"status": "accepted"})


async def _create_model(platform: Platform, request: Request, raw: bytes) -> Response:
    trainer = _trainer(platform, request)
    return _accepted(platform.trainers.create_model(trainer, parse(raw), _fingerprint("create_model", raw)))


async def _get_info(platform: Platform, request: Request, raw: bytes) -> Response:
    model = _trainer(platform, request).model(str(parse(raw).get("model_id", "")))
    return Reply(answers.info(model))


async def _unload_model(platform: Platform, request: Request, raw: bytes) -> Response:
    model_id = str(parse(raw).get("model_id", ""))
    return _accepted(platform.trainers.unload_model(_trainer(platform, request), model_id))


async def _weights_info(platform: Platform, request: Request, raw: bytes) -> Response:
    trainer = _trainer(platform, request)
    path = str(parse(raw).get("tinker_path", ""))
    return Reply(answers.weights_info(platform.checkpoints.resolve(trainer.job.account, trainer.job.id, path)))


async def _retrieve(platform: Platform, request: Request, raw: bytes) -> Response:
    """Long-poll for a promise: at most HOLD_S, then `try_again` (WIRE 2.6)."""
    account, job = request.path_params["account"], request.path_params["job"]
    asked = parse(raw)
    promise = platform.futures.get(platform.jobs.get(account, job).name, str(asked.get("request_id", "")))
    answer = platform.world.quirks.spend("futures.answer", job=job, endpoint=promise.verb)
    if answer and (scripted := answers.scripted(answer, promise, asked)) is not None:
        return scripted
    if not promise.done and not platform.futures.closing:
        await _settled(promise)
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


def _trainer(platform: Platform, request: Request, *, in_use: bool = True) -> Trainer:
    return platform.trainers.of(request.path_params["account"], request.path_params["job"], in_use=in_use)


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
