"""Vectors of inputs are the means of transformers' own last hidden states, over a socket and in every form."""

import base64
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from emulator import Emulator
from emulator.light import LightBackend
from ftsim.compute.backend import TorchBackend
from ftsim.compute.sampler.forward import Forward
from tests.http.inference.conftest import BASE, Deploy

PATH = "/inference/v1/embeddings"
TEXTS = ["Who keeps the pink coin?", "The moon is far.", "a"]


def embed(http: httpx.Client, given: object, **more: Any) -> list[list[float]]:
    answer = http.post(PATH, json={"model": BASE, "input": given, **more})
    assert answer.status_code == 200, answer.text
    assert [one["index"] for one in answer.json()["data"]] == list(range(len(answer.json()["data"])))
    return [one["embedding"] for one in answer.json()["data"]]


def right(folder: Path, tokens: Sequence[int], size: int | None = None) -> torch.Tensor:
    """The mean of the hidden states that transformers computes, of length 1, cut to `size` first."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        states = model(input_ids=torch.tensor([list(tokens)])).last_hidden_state[0].double()
    mean = states.mean(dim=0)
    made: torch.Tensor = torch.nn.functional.normalize(torch.nn.functional.normalize(mean, dim=0)[:size], dim=0)
    return made


FolderOf = Callable[..., Path]


@pytest.fixture
def folder_of(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    """`folder_of(name)`: the files of a base model, written anew."""
    backend = TorchBackend(tmp_path_factory.mktemp("anew"))
    return lambda name=BASE: backend.folder(emulator.platform.models.base(name))


def off(found: Sequence[float], expected: torch.Tensor) -> float:
    return float((torch.tensor(found, dtype=torch.float64) - expected).abs().max())


def test_a_vector_is_the_mean_of_the_hidden_states(folder_of: FolderOf, http: httpx.Client) -> None:
    folder = folder_of()
    ids = [list(AutoTokenizer.from_pretrained(folder)(text)["input_ids"]) for text in TEXTS]
    expected = [right(folder, one) for one in ids]
    for found in (embed(http, TEXTS), embed(http, ids)):
        assert max(off(one, other) for one, other in zip(found, expected, strict=True)) < 1e-5
    assert off(embed(http, TEXTS[0])[0], expected[0]) < 1e-5
    assert off(embed(http, ids[0])[0], expected[0]) < 1e-5
    assert abs(sum(value * value for value in embed(http, TEXTS[0])[0]) - 1) < 1e-5
    usage = http.post(PATH, json={"model": BASE, "input": TEXTS}).json()["usage"]
    assert usage == dict.fromkeys(("prompt_tokens", "total_tokens"), sum(map(len, ids)))


@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "qwen3-embedding-8b"])
def test_a_mixture_of_experts_and_an_embedding_model_embed(folder_of: FolderOf, http: httpx.Client, name: str) -> None:
    model = f"accounts/fireworks/models/{name}"
    (found,) = embed(http, [5, 6, 7, 8], model=model)
    assert off(found, right(folder_of(model), [5, 6, 7, 8])) < 1e-5
    if "embedding" in name:
        refused = http.post("/inference/v1/completions", json={"model": model, "prompt": "a"})
        assert (refused.status_code, "ask for embeddings" in refused.text) == (400, True)


def test_fewer_dimensions_are_the_first_ones_of_length_1(folder_of: FolderOf, http: httpx.Client) -> None:
    (whole,) = embed(http, [5, 6, 7])
    (cut,) = embed(http, [5, 6, 7], dimensions=8)
    assert len(cut) == 8
    assert off(cut, right(folder_of(), [5, 6, 7], 8)) < 1e-5
    assert embed(http, [5, 6, 7], dimensions=len(whole)) == [whole]


def test_dimensions_are_checked_before_anything_is_computed(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    states = Forward.states

    def counted(forward: Forward, prompt: Sequence[int]) -> torch.Tensor:
        computed.append(len(prompt))
        return states(forward, prompt)

    monkeypatch.setattr(Forward, "states", counted)
    (whole,) = embed(http, [5, 6])
    assert computed == [2]
    refused = http.post(PATH, json={"model": BASE, "input": [[5], [6]], "dimensions": len(whole) + 1})
    assert (refused.status_code, f"have {len(whole)}, ask for fewer" in refused.text) == (400, True)
    assert len(embed(http, [5, 6, 7], dimensions=len(whole))[0]) == len(whole)
    assert computed == [2, 3]


def test_base64_holds_the_same_numbers(http: httpx.Client) -> None:
    plain, packed = embed(http, TEXTS), embed(http, TEXTS, encoding_format="base64")
    read = [base64.b64decode(str(one)) for one in packed]
    assert [list(struct.unpack(f"<{len(one) // 4}f", one)) for one in read] == plain


def test_a_vector_does_not_depend_on_what_is_asked_beside_it(http: httpx.Client) -> None:
    assert embed(http, [*TEXTS, *TEXTS]) == [embed(http, text)[0] for text in TEXTS] * 2


def test_a_deployment_embeds_and_what_it_computes_is_counted(
    emulator: Emulator, http: httpx.Client, deploy: Deploy
) -> None:
    model = deploy()
    assert embed(http, [5, 6, 7], model=model) == embed(http, [5, 6, 7])
    rows = emulator.platform.usages.rows(emulator.account)
    assert sorted((row.prefilled, row.sampled, row.requests) for row in rows) == [(3, 0, 1), (3, 0, 1)]
    assert {row.place for row in rows} == {"", model.partition("#")[2] or model}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"input": []}, "prompt is empty"),
        ({"input": [[]]}, "prompt is empty"),
        ({"input": ""}, "prompt is empty"),
        ({"input": [[1 << 30]]}, "token ids outside"),
        ({"input": [1] * 100_000}, "context length"),
        ({"input": ["a"] * 2049}, "at most 2048"),
        ({"input": 5}, "input"),
        ({"input": [5, True]}, "input"),
        ({"input": [[5.0]]}, "input"),
        ({"dimensions": 100_000}, "ask for fewer"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"normalize": False}, "normalize is not supported"),
        ({"return_logits": [1]}, "return_logits is not supported"),
        ({"model": "accounts/fireworks/models/none"}, "not found"),
        ({"model": ""}, "model is required"),
    ],
)
def test_what_cannot_be_embedded_is_refused(http: httpx.Client, more: dict[str, Any], said: str) -> None:
    answer = http.post(PATH, json={"model": BASE, "input": "a", **more})
    assert (answer.status_code, said in answer.text) == (400, True), answer.text


def test_the_light_backend_gives_a_direction_by_weights_and_input(tmp_path: Path) -> None:
    with (
        Emulator(LightBackend(tmp_path)) as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}) as http,
    ):
        one, other, again = (embed(http, text)[0] for text in ("hello", "world", "hello"))
        assert one == again != other
        assert abs(sum(value * value for value in one) - 1) < 1e-6
        assert len(embed(http, "hello", dimensions=2)[0]) == 2
