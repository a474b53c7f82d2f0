"""Serves what tinker's own client asks of trainers and samplers.

Steps come as protobuf (from tinker 0.25 on) or as JSON; results go out in the form that the client accepts. All else is
the gateway's own verbs (`emulator.http.gateway`), asked of a `NativeTarget`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.core import limits
from emulator.core.endpoints import row
from emulator.core.errors import FailedPrecondition, InvalidArgument
from emulator.http import schemas
from emulator.http.bodies import Body, parse, read_body, refuse
from emulator.http.declare import Endpoints
from emulator.http.gateway import answers, bodies as gateway
from emulator.http.gateway.routes import VERBS, accepted, fingerprint, retrieved
from emulator.http.schemas import Schema, obj
from emulator.http.tinker import bodies, sampling, wire
from emulator.http.tinker.target import NativeTarget, check_optimizer
from emulator.http.web import Reply, caller, platform_of
from emulator.platform.trainers.native import UNNAMED

router = Endpoints()
CONFIG = {**answers.CLIENT_CONFIG, "fwdbwd_max_chunk_len": 1024, "fwdbwd_max_chunk_bytes_count": 5_000_000}
DYNAMIC = {"refresh_interval_sec": 300, "sample_cancel_enabled": True, "sample_cancel_max_batch_size": 64}
_AS_MESSAGE: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "forward": wire.step_result,
    "forward_backward": wire.step_result,
    "asample": wire.sample_result,
}
"""The operations whose results may go out as protobuf."""


def target_of(request: Request) -> NativeTarget:
    return NativeTarget(platform_of(request), caller(request), request.scope.get("program", ""))


def _pass(operation: str, body: type[Body] | None, answer: Schema) -> None:
    """Let the gateway's own verb answer."""
    verb = row(operation).path.partition("/api/v1/")[2]
    handler = VERBS.find(row(operation).method, verb)
    assert handler is not None, verb

    async def serve(request: Request) -> Response:
        return await handler(target_of(request), await request.body())

    serve.__doc__ = handler.__doc__
    router.serve(operation, answer=answer, body=body)(serve)


_pass("tinker_healthz", None, schemas.HEALTH)
_pass("tinker_capabilities", None, obj({"supported_models": schemas.each(schemas.EMPTY)}))
_pass("tinker_token", gateway.Nothing, obj({"jwt": schemas.STRING}))
_pass("tinker_create_session", bodies.CreateSession, schemas.SESSION)
_pass("tinker_heartbeat", gateway.Heartbeat, obj({"type": schemas.STRING}))
_pass("tinker_telemetry", bodies.Telemetry, obj({"status": {"const": "accepted"}}))
_pass("tinker_create_model", bodies.CreateModel, schemas.ACCEPTED)
_pass("tinker_get_info", gateway.OneModel, schemas.INFO)
_pass("tinker_unload_model", gateway.OneModel, schemas.ACCEPTED)
_pass("tinker_weights_info", bodies.WeightsInfo, schemas.EMPTY)


@router.serve("tinker_config", body=gateway.ClientConfig)
async def _config(_request: Request) -> Response:
    """Tell a client how it may talk."""
    return Reply(CONFIG)


@router.serve("tinker_dynamic_config", body=gateway.ClientConfig)
async def _dynamic_config(_request: Request) -> Response:
    """Tell a client what may change while it runs."""
    return Reply(DYNAMIC)


async def _step(request: Request) -> Response:
    """Accept a step: a protobuf message, compressed or not, or JSON. `forward_only` takes no gradients."""
    raw = await request.body()
    if request.headers.get("content-type", "").startswith(wire.MEDIA):
        whole = await run_in_threadpool(
            wire.unpacked, raw, request.headers.get("content-encoding", ""), limits.BODY.value
        )
        verb, sent = await run_in_threadpool(wire.step, whole)
    else:
        verb, sent = request.url.path.rpartition("/")[2], parse(raw)
    body = gateway.Forward if verb == "forward" else gateway.ForwardBackward
    return _submit(request, verb, sent, body, raw)


for _operation, _body in (
    ("tinker_forward", gateway.Forward),
    ("tinker_forward_backward", gateway.ForwardBackward),
):
    router.serve(_operation, answer=schemas.ACCEPTED, body=_body)(_step)


def _submit(request: Request, verb: str, sent: dict[str, Any], body: type[Body], raw: bytes) -> Response:
    """Accept an operation of a model's sequence: what is wrong with its body fails its future."""
    target = target_of(request)
    promise = target.platform.training.submit(
        target.trainer(sent), verb, sent, fingerprint(verb, raw), partial(refuse, sent, body)
    )
    return accepted(promise)


async def submitted(request: Request, verb: str, body: type[Body]) -> Response:
    """Accept an operation whose body is JSON."""
    raw = await request.body()
    return _submit(request, verb, parse(raw), body, raw)


@router.serve("tinker_optim_step", answer=schemas.ACCEPTED, body=bodies.OptimStep)
async def _optim_step(request: Request) -> Response:
    """Accept a step of the optimizer."""
    return await submitted(request, "optim_step", bodies.OptimStep)


@router.serve("tinker_save_weights", answer=schemas.ACCEPTED, body=bodies.SaveWeights)
async def _save_weights(request: Request) -> Response:
    """Accept a training state to be saved."""
    return await submitted(request, "save_weights", bodies.SaveWeights)


@router.serve("tinker_save_sampler", answer=schemas.ACCEPTED, body=bodies.SaveSamplerWeights)
async def _save_sampler(request: Request) -> Response:
    """Accept weights to be saved for a sampler; without a name, the answer names a sampling session that holds them."""
    raw = await request.body()
    sent = parse(raw)
    number = sent.get("sampling_session_seq_id")
    if sent.get("path") is None:
        if type(number) is not int:
            raise InvalidArgument("save_weights_for_sampler: give path, or sampling_session_seq_id without one")
        sent["path"] = f"{UNNAMED}{number}"
    return _submit(request, "save_weights_for_sampler", sent, bodies.SaveSamplerWeights, raw)


@router.serve("tinker_load_weights", answer=schemas.ACCEPTED, body=bodies.LoadWeights)
async def _load_weights(request: Request) -> Response:
    """Accept a state to be loaded, into a model or into one that is made for it."""
    raw = await request.body()
    sent, target = parse(raw), target_of(request)
    runs = target.platform.native_runs
    path = str(sent.get("path", ""))
    sent = {**sent, "path": runs.pool_path(target.account, path)}
    if sent.get("model_id") is None:
        check_optimizer(sent.get("optimizer_config"))
        model = _model_of(target, sent, path, raw)
        sent |= {"model_id": model, "seq_id": None}
    return _submit(request, "load_weights", sent, bodies.LoadWeights, raw)


def _model_of(target: NativeTarget, sent: dict[str, Any], path: str, raw: bytes) -> str:
    """The id of a model like the one that a state was saved of; it is made before the state is loaded."""
    saved = target.weights(path)
    adapter = {"rank": saved.lora_rank, "alpha": 32.0, **saved.trained}
    asked = {
        "session_id": sent.get("session_id"),
        "model_seq_id": sent.get("model_seq_id"),
        "base_model": sent.get("base_model") or saved.base_model,
        "lora_config": adapter,
    }
    return target.create_model(asked, fingerprint("create_model", raw)).model_id


@router.serve("tinker_retrieve_future", body=gateway.RetrieveFuture, media=(wire.MEDIA,))
async def _retrieve(request: Request) -> Response:
    """Long-poll for a result; those of steps and samples are protobuf for clients that accept it."""
    target, raw = target_of(request), await request.body()
    promise, answer = await retrieved(target, raw)
    if answer.status_code != 200 or wire.MEDIA not in request.headers.get("accept", ""):
        return answer
    write = _AS_MESSAGE.get(promise.verb)
    if write is None or answer.body is not promise.payload:  # still to come, or a switch has answered
        return answer
    return await run_in_threadpool(_as_message, answer, write)


def _as_message(answer: Response, write: Callable[[dict[str, Any]], bytes]) -> Response:
    result = orjson.loads(answer.body)
    return answer if "error" in result else Response(write(result), media_type=wire.MEDIA)


@router.serve("tinker_cancel_future", body=bodies.RequestId)
async def _cancel(request: Request) -> Response:
    """Stop what a request draws; one that is answered, or is a step, stays as it is."""
    asked = parse(await request.body())
    platform, request_id = platform_of(request), str(asked.get("request_id", ""))
    platform.futures.get(target_of(request).within(), request_id)
    platform.sampling.cancel(request_id)
    return Reply({})


@router.serve(
    "tinker_sampling_session", answer=obj({"sampling_session_id": schemas.STRING}), body=bodies.SamplingSession
)
async def _sampling_session(request: Request) -> Response:
    """Open a sampling session on a save or a base model."""
    sent, _ = await read_body(request, bodies.SamplingSession)
    opened = await run_in_threadpool(sampling.open_session, target_of(request), sent)
    return Reply({"type": "create_sampling_session", "sampling_session_id": opened.id})


@router.serve("tinker_asample", answer=schemas.ACCEPTED, body=bodies.Sample)
async def _asample(request: Request) -> Response:
    """Accept a prompt to be continued."""
    sent, _ = await read_body(request, bodies.Sample)
    promise = await run_in_threadpool(sampling.submit, target_of(request), sent)
    ids = [f"{promise.request_id}:{at}" for at in range(sent.num_samples)]
    return accepted(promise, sample_sequence_ids=ids)


_WHY = {
    "publish": "there is one account, and nobody to publish to",
    "copy_weights": "there is one project: load the weights by their path",
    "project": "there is one project",
    "audit": "`ftsim journal` shows all that was asked",
    "billing": "nothing is billed, and `size_bytes` of a checkpoint says what it takes",
    "trace_export": "`ftsim journal --har FILE` writes what was asked and when",
    "search": "list_sessions lists them all",
}
"""The reason why something is not served, by a word of its path."""


async def unserved(request: Request) -> Response:
    """Refuse what is not served here."""
    words = request.path_params["path"].split("/")
    why = next((_WHY[word] for word in words if word in _WHY), "docs/tinker.md lists what is")
    # Not 501, which the client takes for a passing trouble: it would ask again for minutes.
    raise FailedPrecondition(f"{request.method} {request.url.path[:120]} is not served: {why}")
