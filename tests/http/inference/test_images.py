"""Images in chats, completions, responses and messages: the model that takes them, and the sentence of all others."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fireworks.training.sdk import DeploymentSampler, FireworksClient
from transformers import AutoTokenizer

from emulator import Emulator
from emulator.core.images import PAD, PLACE, TEXT_ALONE
from emulator.light import LightBackend
from ftsim.compute.backend import TorchBackend
from ftsim.compute.models.families import family_of
from ftsim.compute.models.tokenizer import special_id
from tests.http.inference.conftest import Train, attached
from tests.sdk import RequestFailedError, types
from tests.squares import SEES, TOKENS, square, url

CHAT, COMPLETIONS = "/inference/v1/chat/completions", "/inference/v1/completions"
RED, BLUE = square("red"), square("blue")
PAD_ID = special_id(PAD, family_of(SEES))


def chat(image: object, model: str = SEES, **more: Any) -> dict[str, Any]:
    parts = [{"type": "text", "text": "What"}, {"type": "image_url", "image_url": image}, {"type": "text", "text": "?"}]
    return {"model": model, "messages": [{"role": "user", "content": parts}], "max_tokens": 4, "seed": 1, **more}


def completion(*images: object, model: str = SEES, prompt: object = None, **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": prompt or f"Look {PLACE * len(images)} at it:",
        "images": list(images),
        "max_tokens": 4,
        "seed": 1,
        "logprobs": True,
        **more,
    }


def response(image: object, model: str = SEES) -> dict[str, Any]:
    parts = [{"type": "input_text", "text": "What"}, {"type": "input_image", "image_url": image}]
    return {"model": model, "input": [{"role": "user", "content": parts}], "max_output_tokens": 4}


def message(data: bytes, model: str = SEES) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data).decode()}
    blocks = [{"type": "image", "source": source}, {"type": "text", "text": "What?"}]
    return {"model": model, "messages": [{"role": "user", "content": blocks}], "max_tokens": 4}


def answered(http: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def scores(answer: dict[str, Any]) -> list[float]:
    return [row["logprob"] for row in answer["choices"][0]["logprobs"]["content"]]


def test_a_chat_sees_its_pictures(http: httpx.Client) -> None:
    red, again, blue = (
        answered(http, CHAT, chat({"url": url(one)}, logprobs=True, return_token_ids=True)) for one in (RED, RED, BLUE)
    )
    assert scores(red) == scores(again) != scores(blue)
    text = answered(http, CHAT, chat({"url": url(RED)}) | {"messages": [{"role": "user", "content": "What?"}]})
    # Two marks stand around an image.
    assert red["usage"]["prompt_tokens"] == text["usage"]["prompt_tokens"] + TOKENS + 2
    assert len(red["prompt_token_ids"]) == red["usage"]["prompt_tokens"]


def test_the_place_of_an_image_is_that_of_the_models_own_template(
    http: httpx.Client, emulator: Emulator, tmp_path: Path
) -> None:
    folder = TorchBackend(tmp_path).folder(emulator.platform.models.base(SEES))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids(PAD) == PAD_ID
    parts = [{"type": "text", "text": "What"}, {"type": "image"}, {"type": "text", "text": "?"}]
    own = tokenizer.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)["input_ids"]
    at = own.index(PAD_ID)
    found = answered(http, CHAT, chat(url(RED), return_token_ids=True))["prompt_token_ids"]
    assert found == [*own[:at], *[PAD_ID] * TOKENS, *own[at + 1 :]]


def test_completions_see_images_one_by_one_and_in_batches(http: httpx.Client) -> None:
    red, blue = (answered(http, COMPLETIONS, completion(url(one), temperature=0)) for one in (RED, BLUE))
    assert scores(red) != scores(blue)
    assert red["choices"][0]["prompt_token_ids"].count(PAD_ID) == TOKENS
    prompt = f"Look {PLACE} at it:"
    both = answered(http, COMPLETIONS, completion([url(RED)], [url(BLUE)], prompt=[prompt, prompt], temperature=0))
    assert [scores({"choices": [one]}) for one in both["choices"]] == [scores(red), scores(blue)]
    assert both["usage"]["prompt_tokens"] == 2 * red["usage"]["prompt_tokens"]


def test_responses_and_messages_see_them_too(http: httpx.Client) -> None:
    told = answered(http, "/inference/v1/responses", response(url(RED)))["usage"]
    assert told["input_tokens"] > TOKENS
    assert answered(http, "/inference/v1/messages", message(RED))["usage"]["input_tokens"] > TOKENS


def test_a_stream_tells_the_prompt_with_its_places(http: httpx.Client) -> None:
    whole = answered(http, COMPLETIONS, completion(url(RED)))
    with http.stream("POST", COMPLETIONS, json=completion(url(RED), stream=True)) as answer:
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: {")]
    first = httpx.Response(200, content=events[0]).json()
    assert first["choices"][0]["prompt_token_ids"] == whole["choices"][0]["prompt_token_ids"]
    assert httpx.Response(200, content=events[-1]).json()["usage"] == whole["usage"]


Ask = Callable[[str], tuple[str, dict[str, Any]]]
DOORS: dict[str, Ask] = {
    "chat": lambda model: (CHAT, chat({"url": url(RED)}, model)),
    "completions": lambda model: (COMPLETIONS, completion(url(RED), model=model)),
    "responses": lambda model: ("/inference/v1/responses", response(url(RED), model)),
    "messages": lambda model: ("/inference/v1/messages", message(RED, model)),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("model", ["qwen3-4b", "qwen3-vl-30b-a3b-instruct", "glm-5", "kimi-k2p5", "gemma-3-27b-it"])
def test_every_other_model_refuses_them_in_one_sentence(http: httpx.Client, door: str, model: str) -> None:
    path, body = DOORS[door](f"accounts/fireworks/models/{model}")
    answer = http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["message"] == TEXT_ALONE
    assert SEES in TEXT_ALONE


@pytest.mark.parametrize("door", DOORS)
def test_the_light_backend_sees_nothing_and_says_so(door: str) -> None:
    with (
        Emulator(LightBackend()) as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}) as http,
    ):
        path, body = DOORS[door](SEES)
        answer = http.post(path, json=body)
    assert (answer.status_code, "the light backend sees no images" in answer.text) == (400, True), answer.text


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (CHAT, chat({"url": "https://example.com/a.png"}), "messages.0.content.1: an image under 'https': nothing is"),
        (CHAT, chat({"url": "file:///etc/passwd"}), "nothing is fetched here"),
        (CHAT, chat({"url": "data:image/gif;base64,R0lGOD=="}), "send png or jpeg"),
        (CHAT, chat({"url": "data:image/png;base64,?"}), "not base64"),
        (CHAT, chat({"url": url(b"hello")}), "no PNG or JPEG that opens"),
        (CHAT, chat({}), "an image is a data URL"),
        (CHAT, chat({"url": url(RED)}, images=[url(RED)]), "images is not supported"),
        (CHAT, chat({"url": url(square("red", (3000, 1000)))}), "make it smaller"),
        (COMPLETIONS, completion(url(RED), prompt="none"), "the prompt has 0 places for images"),
        (COMPLETIONS, completion(url(RED), prompt=PAD * 2), "the prompt has 2 places for images"),
        (COMPLETIONS, completion(url(RED), prompt=["a", "b"]), "2 prompts need a list of images each"),
        (COMPLETIONS, completion(*[url(RED)] * 17), "more than 16 images"),
        (COMPLETIONS, completion(7), "images"),
    ],
)
def test_what_cannot_be_seen_is_refused(http: httpx.Client, path: str, body: dict[str, Any], said: str) -> None:
    answer = http.post(path, json=body)
    assert (answer.status_code, said in answer.text) == (400, True), answer.text


def test_videos_are_refused(http: httpx.Client) -> None:
    parts = [{"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AA=="}}]
    answer = http.post(CHAT, json={"model": SEES, "messages": [{"role": "user", "content": parts}]})
    assert (answer.status_code, "a part of type 'video_url'" in answer.text) == (400, True), answer.text


def datum(image: bytes, before: Sequence[int] = (5, 6), behind: Sequence[int] = (7, 8, 9)) -> types.Datum:
    """Tokens around an image, of which the last ones are learned."""
    chunks = [
        types.EncodedTextChunk(tokens=list(before)),
        types.ImageChunk(data=image, format="png", expected_tokens=TOKENS),
        types.EncodedTextChunk(tokens=list(behind[:-1])),
    ]
    targets = [*before[1:], *[0] * TOKENS, *behind]
    weighted = [0.0] * (len(targets) - len(behind) + 1) + [1.0] * (len(behind) - 1)
    inputs = {
        "target_tokens": types.TensorData(data=targets, dtype="int64", shape=[len(targets)]),
        "weights": types.TensorData(data=weighted, dtype="float32", shape=[len(targets)]),
    }
    return types.Datum(model_input=types.ModelInput(chunks=chunks), loss_fn_inputs=inputs)


@pytest.mark.parametrize("rank", [0, 4])
def test_the_vendors_clients_train_promote_and_sample_with_images(
    emulator: Emulator, http: httpx.Client, train: Train, rank: int
) -> None:
    client = train("t1", rank, SEES)
    before = client.forward([datum(RED)], "cross_entropy").result().metrics["loss:sum"]
    for _ in range(3):
        client.forward_backward([datum(RED)], "cross_entropy").result()
        client.optim_step(types.AdamParams(learning_rate=0.003)).result()
    assert client.forward([datum(RED)], "cross_entropy").result().metrics["loss:sum"] < before
    trained = [row.trained for row in emulator.platform.usages.rows(emulator.account)]
    assert sum(trained) == 3 * (TOKENS + 4)
    row = client.save_weights_for_sampler_ext("red", checkpoint_type="base").snapshot_name
    FireworksClient(api_key=emulator.api_key, base_url=emulator.url).promote_checkpoint(
        name=f"{attached(emulator)}/checkpoints/{row}", output_model_id="mine", base_model=SEES
    )
    mine = f"accounts/{emulator.account}/models/mine"
    asked = completion(url(RED), model=mine, prompt=[5, 6, PAD_ID, 7, 8], echo=True)
    found = answered(http, COMPLETIONS, asked)["choices"][0]
    drawn = found["token_ids"] if "token_ids" in found else [row["token_id"] for row in found["logprobs"]["content"]]
    behind = [7, 8, *drawn[-4:]]
    right = client.forward([datum(RED, behind=behind)], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
    rows = [row["logprob"] for row in found["logprobs"]["content"]]
    assert rows[-5:] == pytest.approx(list(right)[-5:], abs=1e-4)


def test_a_trainer_of_another_model_refuses_an_image_in_the_same_sentence(train: Train) -> None:
    with pytest.raises(RequestFailedError, match=TEXT_ALONE):
        train("t1", 4).forward([datum(RED)], "cross_entropy").result()


def test_the_vendors_sampler_sends_images(emulator: Emulator) -> None:
    async def run() -> list[Any]:
        client = DeploymentSampler(inference_url=emulator.url, model=SEES, api_key=emulator.api_key)
        settings = {"max_tokens": 4, "seed": 1, "logprobs": True}
        done = [
            await client.sample_with_prompt_tokens([5, PAD_ID, 6], images=[url(one)], **settings)
            for one in (RED, RED, BLUE)
        ]
        client.close()
        await asyncio.sleep(0.01)  # its connections close in a task
        return [one for (one,) in done]

    red, again, blue = asyncio.run(run())
    assert red.full_tokens[: red.prompt_len] == [5, *[PAD_ID] * TOKENS, 6]
    assert red.inference_logprobs == again.inference_logprobs != blue.inference_logprobs
