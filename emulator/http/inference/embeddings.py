"""/inference/v1/embeddings: vectors of texts or of token ids, as OpenAI's client reads them."""

import asyncio
import base64
import struct
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.backend import BackendError
from emulator.core import limits
from emulator.http import schemas
from emulator.http.bodies import Refusal, Refused, SnakeBody, read_body
from emulator.http.declare import Endpoints
from emulator.http.inference.completions import prompts_of
from emulator.http.inference.measured import named
from emulator.http.inference.requests import Prompts, Sampling, answered_name, reply, target, tell_unread
from emulator.http.web import platform_of
from emulator.platform.deployments.completions import Target, failure

router = Endpoints()
MOST_INPUTS = limits.INPUTS.value
VECTORS = schemas.obj(
    {
        "object": {"const": "list"},
        "data": schemas.each(
            schemas.obj({"object": {"const": "embedding"}, "index": schemas.INTEGER, "embedding": {}})
        ),
        "usage": schemas.obj({"prompt_tokens": schemas.INTEGER, "total_tokens": schemas.INTEGER}),
    },
    {"model": schemas.STRING},
)


class CreateEmbedding(SnakeBody):
    """The body; an input may be several."""

    model: str = ""
    input: Prompts
    dimensions: int | None = Field(None, ge=1)
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    refused: ClassVar[Refused] = {
        "normalize": Refusal("a vector has length 1", (True,)),
        "prompt_template": Refusal("write the text as the model is to read it"),
        "return_logits": Refusal("completions tell log-probabilities"),
    }


async def create(request: Request) -> Response:
    """Give the vector of each input, of length 1; with `dimensions` its first numbers, made so long again."""
    sent, _ = await read_body(request, CreateEmbedding)
    tell_unread(request, sent)
    on = await target(request, Sampling.model_validate({"model": sent.model, "user": sent.user}), embeds=True)
    prompts = await run_in_threadpool(prompts_of, on.replica, sent.input, MOST_INPUTS)
    vectors = await _vectors(request, on, prompts, sent.dimensions or 0)
    content = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": at, "embedding": _written(one, sent)} for at, one in enumerate(vectors)
        ],
        "model": answered_name(request, on, sent.model),
        "usage": dict.fromkeys(("prompt_tokens", "total_tokens"), sum(map(len, prompts))),
    }
    return reply(request, content, named(on))


async def _vectors(request: Request, on: Target, prompts: Sequence[Sequence[int]], size: int) -> list[Sequence[float]]:
    """The vectors, in order; when one fails the others are cancelled. Raises InvalidArgument, Internal."""
    completions, futures = platform_of(request).completions, []
    try:
        for prompt in prompts:
            futures.append(completions.embed(on, prompt, size))
        return await asyncio.gather(*map(asyncio.wrap_future, futures))
    except BackendError as error:
        raise failure(error) from error
    finally:
        for future in futures:
            future.cancel()


def _written(vector: Sequence[float], sent: CreateEmbedding) -> list[float] | str:
    """A vector as it is asked for, in float32 both ways."""
    packed = struct.pack(f"<{len(vector)}f", *vector)
    return base64.b64encode(packed).decode() if sent.encoding_format == "base64" else _floats(packed)


def _floats(packed: bytes) -> list[Any]:
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))


router.serve("embeddings", answer=VECTORS, body=CreateEmbedding)(create)
