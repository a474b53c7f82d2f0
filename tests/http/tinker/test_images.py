"""Images as tinker's own client sends them: in datums, as protobuf and as JSON, and in prompts."""

from array import array
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from emulator import Emulator
from emulator.core.images import PAD, TEXT_ALONE
from emulator.http.tinker import wire
from emulator.http.tinker.messages import FLOAT32, INT64, message
from ftsim.compute.backend import TorchBackend
from ftsim.compute.models.families import family_of
from ftsim.compute.models.tokenizer import special_id
from tests.http.tinker.test_service import ACCEPTS, PROTOBUF
from tests.squares import SEES, TOKENS, chunk, square

RED, BLUE = square("red"), square("blue")
PLAIN = "accounts/fireworks/models/qwen3-8b"
TARGETS = [6, *[0] * TOKENS, 7, 8, 9]
WEIGHTS = [0.0] * (TOKENS + 2) + [1.0, 1.0]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    backend = TorchBackend(tmp_path_factory.mktemp("bases"))
    with (
        Emulator(backend) as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as client,
    ):
        yield client


def post(http: httpx.Client, verb: str, **body: Any) -> Any:
    answer = http.post(f"/tinker/api/v1/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def done(http: httpx.Client, request_id: str) -> Any:
    return post(http, "retrieve_future", request_id=request_id)


def session(http: httpx.Client) -> str:
    return str(post(http, "create_session", tags=[], sdk_version="0.38.0")["session_id"])


def model(http: httpx.Client, base: str) -> str:
    asked = {"session_id": session(http), "model_seq_id": 0, "base_model": base, "lora_config": {"rank": 4}}
    return str(done(http, post(http, "create_model", **asked)["request_id"])["model_id"])


def step(model_id: str, number: int, image: bytes, **more: Any) -> bytes:
    """A step with one datum, as the client writes it."""
    sent = message("ForwardBackwardRequest")(model_id=model_id, seq_id=number, loss_fn="cross_entropy")
    datum = sent.data.add()
    datum.model_input.add().encoded_text.tokens = array("i", [5, 6]).tobytes()
    datum.model_input.add().image.MergeFrom(message("ImageChunk")(data=image, format="png", **more))
    datum.model_input.add().encoded_text.tokens = array("i", [7, 8]).tobytes()
    for name, values, code, number_of in (("target_tokens", TARGETS, "q", INT64), ("weights", WEIGHTS, "f", FLOAT32)):
        tensor = datum.loss_fn_inputs[name]
        tensor.dense, tensor.dtype = array(code, values).tobytes(), number_of
        tensor.shape.append(len(values))
    return bytes(sent.SerializeToString())


def stepped(http: httpx.Client, body: bytes) -> Any:
    answer = http.post("/tinker/api/v1/forward_backward", content=body, headers={**PROTOBUF, **ACCEPTS})
    assert answer.status_code == 200, answer.text
    return done(http, answer.json()["request_id"])


def test_an_image_travels_as_protobuf() -> None:
    size = message("ImageDimensions")(width=3, height=4)
    _, made = wire.step(step("m", 1, RED, expected_tokens=TOKENS, override_dimensions=size))
    given = made["forward_backward_input"]["data"][0]["model_input"]["chunks"][1]
    assert given == chunk(RED, expected_tokens=TOKENS, override_dimensions={"width": 3, "height": 4})
    _, made = wire.step(step("m", 1, RED))
    assert made["forward_backward_input"]["data"][0]["model_input"]["chunks"][1] == chunk(RED)


def test_a_step_learns_of_images(http: httpx.Client) -> None:
    made, losses = model(http, SEES), []
    for number in range(1, 6, 2):
        losses.append(stepped(http, step(made, number, RED, expected_tokens=TOKENS))["metrics"]["loss:sum"])
        adam = {"learning_rate": 0.01}
        done(http, post(http, "optim_step", model_id=made, seq_id=number + 1, adam_params=adam)["request_id"])
    assert losses[2] < losses[1] < losses[0]
    refused = stepped(http, step(made, 7, RED, expected_tokens=TOKENS + 1))
    assert f"an image has {TOKENS} tokens here" in refused["error"]


def sampled(http: httpx.Client, base: str, *images: dict[str, Any], **more: Any) -> Any:
    opened = post(http, "create_sampling_session", session_id=session(http), sampling_session_seq_id=0, base_model=base)
    text = [{"type": "encoded_text", "tokens": [5, 6]}, {"type": "encoded_text", "tokens": more.pop("behind", [7])}]
    asked = {
        "sampling_session_id": opened["sampling_session_id"],
        "seq_id": 0,
        "prompt": {"chunks": [text[0], *images, text[1]]},
        "sampling_params": {"max_tokens": 3, "seed": 1},
        "prompt_logprobs": True,
    }
    return done(http, post(http, "asample", **asked)["request_id"])


def test_a_prompt_with_images_is_sampled(http: httpx.Client) -> None:
    red, again, blue = (sampled(http, SEES, chunk(one, expected_tokens=TOKENS)) for one in (RED, RED, BLUE))
    assert len(red["prompt_logprobs"]) == TOKENS + 3
    assert red["sequences"] == again["sequences"]
    assert red["sequences"][0]["logprobs"] != blue["sequences"][0]["logprobs"]


@pytest.mark.parametrize(
    ("images", "more", "said"),
    [
        ([chunk(RED, expected_tokens=3)], {}, "64 tokens here, and expected_tokens is 3"),
        ([chunk(b"none")], {}, "no PNG or JPEG that opens"),
        ([chunk(RED) | {"data": 7}], {}, "is base64"),
        ([{"type": "image_asset_pointer", "location": "https://example.com"}], {}, "send tokens, or an image itself"),
        ([chunk(RED)] * 17, {}, "more than 16 images"),
        ([chunk(RED)], {"behind": [special_id(PAD, family_of(SEES))]}, "the prompt has 65 places"),
    ],
)
def test_what_cannot_be_seen_fails_its_future(
    http: httpx.Client, images: list[dict[str, Any]], more: dict[str, Any], said: str
) -> None:
    assert said in sampled(http, SEES, *images, **more)["error"]


def test_every_other_model_refuses_them_in_one_sentence(http: httpx.Client) -> None:
    assert sampled(http, PLAIN, chunk(RED))["error"] == TEXT_ALONE
    assert stepped(http, step(model(http, PLAIN), 1, RED))["error"] == f"datum 0: {TEXT_ALONE}"
