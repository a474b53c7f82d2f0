"""The verbs of the trainer gateway (WIRE 2.4), the same on a job's trainer and on the pool but for the `GatewayTarget`.

Bodies are declared (`gateway/bodies.py`) and judged inside the operation, so that a bad datum fails its future and
never the client (WIRE 2.7); a training step passes here several times.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.endpoints import ENDPOINTS, row
from emulator.core.errors import InvalidArgument, NotFound
from emulator.http import schemas
from emulator.http.bodies import Body, parse, refuse
from emulator.http.declare import Declared, declare
from emulator.http.gateway import answers, bodies
from emulator.http.gateway.target import GatewayTarget
from emulator.http.schemas import STRING, Schema, each, obj
from emulator.http.web import Reply
from emulator.platform.trainers.futures import Promise
from emulator.quirks import trainers

HOLD_S = 25.0
Handler = Callable[[GatewayTarget, bytes], Awaitable[Response]]
H = TypeVar("H", bound=Handler)


class Verbs:
    """The verbs that a trainer answers. One path pattern leads here, and the verb at its end finds its handler."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, str], Handler] = {}
        self._declare: dict[str, Callable[[str], Declared]] = {}

    def serve(self, verb: str, *, answer: Schema = schemas.EMPTY, body: type[Body] | None = None) -> Callable[[H], H]:
        """Let the decorated function answer a verb, in both flavours."""

        def bind(handler: H) -> H:
            self._declare[verb] = lambda operation: declare(operation, handler, answer=answer, body=body)
            self._handlers[row(_operation(verb)).method, verb] = handler
            return handler

        return bind

    def submit(self, verb: str, body: type[Body]) -> None:
        """Let a verb take a place in a model's sequence: what is wrong with its body fails its future."""

        async def accept(target: GatewayTarget, raw: bytes) -> Response:
            sent = parse(raw)
            operations, trainer = target.platform.training, target.trainer(sent)
            check = partial(refuse, sent, body)
            return accepted(operations.submit(trainer, verb, sent, fingerprint(verb, raw), check))

        accept.__doc__ = body.__doc__
        self.serve(verb, answer=schemas.ACCEPTED, body=body)(accept)

    def find(self, method: str, verb: str) -> Handler | None:
        return self._handlers.get((method, verb))

    def declared(self, prefix: str) -> list[Declared]:
        """One flavour's verbs; those that clients know and nobody serves are only refused."""
        rows = [one for one in ENDPOINTS if one.path.startswith(prefix)]
        found = [self._declare[one.name](one.operation) for one in rows if one.name in self._declare]
        others = [one for one in rows if one.name not in self._declare and one.operation not in SERVED_BY_ROUTES]
        return found + [declare(one.operation, _unserved, answer=None, body=bodies.Nothing) for one in others]


VERBS = Verbs()
SERVED_BY_ROUTES = ("serverless_create_sampling_route",)
"""A verb that one flavour alone serves, by a route of its own."""


async def answer(target: GatewayTarget, request: Request) -> Response:
    """Answer a verb of a trainer; raises NotFound for one that nobody knows, InvalidArgument for one of elsewhere."""
    verb = request.path_params["verb"]
    handler = VERBS.find(request.method, verb)
    if handler is not None:
        return await handler(target, await request.body())
    if refused := target.refusal(verb):
        raise InvalidArgument(refused)
    raise NotFound(f"the trainer has no {request.method} {str(verb)[:80]!r}")


def _unserved() -> None:
    """Refused: the answer says where to ask instead."""


def _operation(verb: str) -> str:
    return verb.replace("/", "_")


@VERBS.serve("healthz", answer=schemas.HEALTH)
async def _healthz(target: GatewayTarget, _raw: bytes) -> Response:
    """Say whether the trainer runs."""
    status = target.health()
    if status == 200:
        return Reply({"status": "ok"})
    return Reply({"code": 14, "message": "the trainer is not ready", "details": []}, status)


@VERBS.serve("get_server_capabilities", answer=obj({"supported_models": each(schemas.EMPTY)}))
async def _capabilities(target: GatewayTarget, _raw: bytes) -> Response:
    """Name the base model that the trainer holds."""
    return Reply({"supported_models": target.capabilities()})


@VERBS.serve("list_checkpoints", answer=obj({"checkpoints": each(STRING)}))
async def _list_checkpoints(target: GatewayTarget, _raw: bytes) -> Response:
    """List the checkpoints that load_weights accepts."""
    return Reply({"checkpoints": target.names()})


@VERBS.serve("client/config", body=bodies.ClientConfig)
async def _client_config(_target: GatewayTarget, _raw: bytes) -> Response:
    """Tell a client how it may talk."""
    return Reply(answers.CLIENT_CONFIG)


@VERBS.serve("auth/token", answer=obj({"jwt": STRING}), body=bodies.Nothing)
async def _auth_token(target: GatewayTarget, _raw: bytes) -> Response:
    """Give a token that nothing here asks for."""
    return Reply({"jwt": answers.token(target.platform.world.clock.now())})


@VERBS.serve("create_session", answer=schemas.SESSION, body=bodies.CreateSession)
async def _create_session(target: GatewayTarget, _raw: bytes) -> Response:
    """Open a session."""
    return Reply({"type": "create_session", "session_id": target.create_session()})


@VERBS.serve("session_heartbeat", answer=obj({"type": STRING}), body=bodies.Heartbeat)
async def _heartbeat(target: GatewayTarget, raw: bytes) -> Response:
    """Note that a session is still in use."""
    target.heartbeat(str(parse(raw).get("session_id", "")))
    return Reply({"type": "session_heartbeat"})


@VERBS.serve("telemetry", answer=obj({"status": {"const": "accepted"}}), body=bodies.Telemetry)
async def _telemetry(_target: GatewayTarget, _raw: bytes) -> Response:
    """Thank a client for what it tells of itself."""
    return Reply({"status": "accepted"})


@VERBS.serve("create_model", answer=schemas.ACCEPTED, body=bodies.CreateModel)
async def _create_model(target: GatewayTarget, raw: bytes) -> Response:
    """Accept a model to be made."""
    return accepted(target.create_model(parse(raw), fingerprint("create_model", raw)))


@VERBS.serve("get_info", answer=schemas.INFO, body=bodies.OneModel)
async def _get_info(target: GatewayTarget, raw: bytes) -> Response:
    """Describe a live model."""
    body = parse(raw)
    return Reply(answers.info(target.trainer(body).model(str(body.get("model_id", "")))))


@VERBS.serve("unload_model", answer=schemas.ACCEPTED, body=bodies.OneModel)
async def _unload_model(target: GatewayTarget, raw: bytes) -> Response:
    """Accept a model to be forgotten; twice is no error."""
    body = parse(raw)
    trainer = target.trainer(body)
    return accepted(target.platform.trainers.unload_model(trainer, str(body.get("model_id", ""))))


@VERBS.serve("weights_info", body=bodies.WeightsInfo)
async def _weights_info(target: GatewayTarget, raw: bytes) -> Response:
    """Describe a checkpoint."""
    return Reply(answers.weights_info(target.weights(str(parse(raw).get("tinker_path", "")))))


@VERBS.serve("retrieve_future", body=bodies.RetrieveFuture)
async def _retrieve(target: GatewayTarget, raw: bytes) -> Response:
    """Long-poll for a promise: at most HOLD_S, then `try_again` (WIRE 2.6)."""
    _, answer = await retrieved(target, raw)
    return answer


async def retrieved(target: GatewayTarget, raw: bytes) -> tuple[Promise, Response]:
    """The promise that a request asks for, and what it is answered."""
    asked, platform = parse(raw), target.platform
    promise = platform.futures.get(target.within(), str(asked.get("request_id", "")))
    said = platform.world.quirks.spend(trainers.FUTURES_ANSWER, promise.subject)
    if said and (scripted := answers.scripted(said, promise, asked)) is not None:
        return promise, scripted
    if promise.payload is None and not platform.futures.closing:
        await _settled(promise)
        platform.futures.check(promise)
    return promise, Reply(answers.try_again(promise) if promise.payload is None else promise.payload)


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


def accepted(promise: Promise, **more: object) -> Response:
    """Answer with where the result of an operation will be."""
    return Reply({"request_id": promise.request_id, "model_id": promise.model_id, **more})


def fingerprint(verb: str, raw: bytes) -> bytes:
    """A digest by which a request that is sent again is known: that of its bytes, for each verb its own."""
    return hashlib.blake2b(raw, digest_size=16, person=verb.encode()[:16]).digest()


for _verb, _body in (
    ("forward", bodies.Forward),
    ("forward_backward", bodies.ForwardBackward),
    ("optim_step", bodies.OptimStep),
    ("save_weights", bodies.SaveWeights),
    ("save_weights_for_sampler", bodies.SaveSamplerWeights),
    ("load_weights", bodies.LoadWeights),
    ("load_adapter", bodies.LoadAdapter),
):
    VERBS.submit(_verb, _body)
