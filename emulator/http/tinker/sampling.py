"""Sampling as tinker's own client asks for it: a session names the weights, a promise holds the sequences."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from emulator.backend import BackendError, GenerateRequest, Generation, Replica
from emulator.core import images, limits
from emulator.core.errors import InvalidArgument, ResourceExhausted
from emulator.http.tinker import bodies
from emulator.http.tinker.target import NativeTarget
from emulator.platform.trainers import native
from emulator.platform.trainers.futures import Promise
from emulator.platform.trainers.native import SamplingSession

_WHOLE = 1 << 30
"""More tokens than any context leaves: a sample without max_tokens goes on until it ends."""


def open_session(target: NativeTarget, asked: bodies.SamplingSession) -> SamplingSession:
    """Open the sampling session of a client session's number; the same request again gives the same.

    Raises InvalidArgument, NotFound.
    """
    platform = target.platform
    platform.sessions.running(target.account, asked.session_id)
    made = weights(target, asked.session_id, asked.sampling_session_seq_id, asked.model_path, asked.base_model)
    return platform.sampling.sessions.setdefault(made.id, made)


def weights(
    target: NativeTarget, session: str, number: int, path: str | None, base_model: str | None
) -> SamplingSession:
    """A sampling session that samples a save or a base model; raises InvalidArgument, NotFound."""
    platform, name = target.platform, f"{session}:sample:{number}"
    if path is not None:
        row = platform.native_runs.row(target.account, path)
        saved = platform.native_runs.pool_path(target.account, path)
        model = f"accounts/{target.account}/trainingSessions/{session}/checkpoints/{saved}"
        return SamplingSession(name, target.account, session, model, row.base_model, path)
    if not base_model:
        raise InvalidArgument("a sampler needs weights: give model_path or base_model")
    base = platform.models.visible(target.account, platform.models.named(base_model)).name
    return SamplingSession(name, target.account, session, base, base)


def submit(target: NativeTarget, asked: bodies.Sample) -> Promise:
    """Accept a sample; what is wrong with its prompt fails its future.

    Raises InvalidArgument, NotFound, and ResourceExhausted for one too many at a time, which the client sends again.
    """
    platform = target.platform
    session = _session(target, asked)
    owner = platform.sessions.running(target.account, session.session)
    promise = platform.futures.open(owner.name, owner.subject, session.id, "asample")
    try:
        _start(target, asked, session, promise)
    except Exception as error:
        platform.futures.fail(promise, error)
        if isinstance(error, ResourceExhausted):
            raise
    return promise


def _session(target: NativeTarget, asked: bodies.Sample) -> SamplingSession:
    platform, named = target.platform, asked.sampling_session_id
    if not named:
        raise InvalidArgument("asample: sampling_session_id is required: create a sampling client")
    if named not in platform.sampling.sessions and (found := _unnamed(target, named)) is not None:
        return found
    return platform.sampling.get(target.account, named)


def _unnamed(target: NativeTarget, named: str) -> SamplingSession | None:
    """The session that a save without a name stands for, opened when it is first sampled."""
    session, _, number = named.partition(":sample:")
    if not number.isdigit():
        return None
    for run in target.platform.native_runs.all(target.account):
        if run.session_id == session:
            path = f"tinker://{run.model_id}/sampler_weights/{native.UNNAMED}{number}"
            with contextlib.suppress(Exception):
                made = weights(target, session, int(number), path, None)
                return target.platform.sampling.sessions.setdefault(made.id, made)
    return None


def _start(target: NativeTarget, asked: bodies.Sample, session: SamplingSession, promise: Promise) -> None:
    platform, account = target.platform, target.account
    pieces = _pieces(asked.prompt.chunks)
    on = platform.completions.resolve(account, session.model)
    key = promise.request_id.encode()
    flight = contextlib.ExitStack()
    flight.callback(on.release)
    try:
        flight.callback(platform.completions.admit(on, session.model))
        flight.enter_context(platform.completions.in_flight(key))
        prompt, seen = _prompt(on.replica, pieces)
        one = _request(asked, prompt, seen)
        futures = [platform.completions.submit(on, one, key) for _ in range(asked.num_samples)]
    except BaseException:
        flight.close()
        raise

    def end() -> None:
        flight.close()
        try:
            platform.futures.resolve(promise, _result(asked, [future.result() for future in futures]))
        except BaseException as error:  # a generation failed, or was cancelled
            platform.futures.fail(promise, error)

    platform.sampling.run(promise.request_id, futures, end)


Piece = list[int] | tuple[bytes, int | None]
"""Tokens, or an image and the number of tokens that its client expects."""


def _pieces(chunks: Sequence[dict[str, Any]]) -> list[Piece]:
    """The pieces of a prompt; raises InvalidArgument for one that is none, or for nothing at all."""
    pieces: list[Piece] = []
    for chunk in chunks:
        found, kind = chunk.get("tokens"), chunk.get("type", "encoded_text")
        if kind == "image":
            with _refusing_images():
                pieces.append((images.of_base64(chunk.get("data"), chunk.get("format")), chunk.get("expected_tokens")))
            continue
        if kind != "encoded_text" or not isinstance(found, list):
            raise InvalidArgument(f"a piece of the prompt is {str(kind)[:40]!r}: send tokens, or an image itself")
        if not all(type(token) is int for token in found):
            raise InvalidArgument("a token of the prompt is no whole number")
        pieces.append(found)
    if not any(pieces):
        raise InvalidArgument("the prompt is empty: give at least one token")
    with _refusing_images():
        images.check_count(sum(isinstance(one, tuple) for one in pieces))
    return pieces


@contextlib.contextmanager
def _refusing_images() -> Iterator[None]:
    try:
        yield
    except images.ImageError as error:
        raise InvalidArgument(str(error)) from None


def _prompt(replica: Replica, pieces: Sequence[Piece]) -> tuple[list[int], list[bytes]]:
    """The tokens of a prompt, those of its images among them, and the images; raises InvalidArgument."""
    tokens: list[int] = []
    seen: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, list):
            tokens += piece
            continue
        image, expected = piece
        try:
            own = replica.expand(replica.encode(images.PAD), [image])
        except BackendError as error:
            raise InvalidArgument(error.message) from error
        with _refusing_images():
            images.check_expected(len(own), expected)
        tokens += own
        seen.append(image)
    return tokens, seen


def _request(asked: bodies.Sample, prompt: list[int], seen: Sequence[bytes]) -> GenerateRequest:
    settings = asked.sampling_params or bodies.Settings.model_validate({})
    given = settings.stop if isinstance(settings.stop, list) else [settings.stop] if settings.stop else []
    if len(given) > limits.STOPS.value:
        raise InvalidArgument(f"{len(given)} stop sequences: at most {limits.STOPS.value}")
    return GenerateRequest(
        prompt=prompt,
        images=seen,
        max_tokens=_WHOLE if settings.max_tokens is None else settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=max(settings.top_k, 0),
        seed=settings.seed,
        stop=[one for one in given if isinstance(one, str)],
        stop_tokens=[one for one in given if isinstance(one, int)],
        ignore_eos=settings.stop == [],
        echo=asked.prompt_logprobs or asked.topk_prompt_logprobs > 0,
        top_logprobs=max(asked.topk_prompt_logprobs, asked.topk_sample_logprobs),
    )


def _result(asked: bodies.Sample, results: Sequence[Generation]) -> dict[str, Any]:
    """The sequences, and what was asked of the prompt; its first token has no log-probability."""
    answer: dict[str, Any] = {"type": "sample", "sequences": [_sequence(asked, one) for one in results]}
    rows = results[0].prompt_tokens
    if asked.prompt_logprobs:
        answer["prompt_logprobs"] = [None if at == 0 else row.logprob for at, row in enumerate(rows)]
    if (most := asked.topk_prompt_logprobs) > 0:
        answer["topk_prompt_logprobs"] = [None if at == 0 else row.top[:most] for at, row in enumerate(rows)]
    return answer


def _sequence(asked: bodies.Sample, result: Generation) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "stop_reason": result.finish_reason,
        "tokens": [token.token_id for token in result.tokens],
        "logprobs": [token.logprob for token in result.tokens],
    }
    if (most := asked.topk_sample_logprobs) > 0:
        answer["topk_logprobs"] = [token.top[:most] for token in result.tokens]
    return answer
