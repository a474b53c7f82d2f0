"""Every renderer of the cookbook builds what the chat templates render, but for the differences in the table."""

import warnings
from functools import cache
from importlib.metadata import version
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what its imports say is not ours
    from tinker_cookbook import model_info, renderers
    from tinker_cookbook.image_processing_utils import get_image_processor
    from tinker_cookbook.tokenizer_utils import get_tokenizer

from ftsim.compute.models import families, hub
from tests.renderers.cases import CASES, calls
from tests.renderers.compare import difference, rendered, templated
from tests.renderers.table import NAMES, expected

pytestmark = pytest.mark.filterwarnings("ignore:use_system_prompt=True but messages")
RELEASE = version("tinker-cookbook")
OWN_TOKENIZER = ("tml_v0", "kimi_k31_pro")
"""Renderers that bring the tokenizer they render with; their ids are far above any stand-in's."""


def models() -> dict[str, str]:
    """Renderer -> the first model that it is recommended for."""
    found: dict[str, str] = {}
    for name in (name for name in dir(model_info) if name.startswith("get_") and name.endswith("_info")):
        for model, about in getattr(model_info, name)().items():
            for renderer in about.recommended_renderers:
                if not renderer.startswith(OWN_TOKENIZER):
                    found.setdefault(renderer, f"{about.organization}/{model}")
    return found


MODELS = models()


@cache
def renderer_of(name: str) -> Any:
    return renderers.get_renderer(name, get_tokenizer(MODELS[name]))


def test_the_cases_of_the_table_are_those_that_are_tried() -> None:
    assert set(CASES) == set(NAMES)
    assert len(MODELS) >= {"0.4.3": 24, "0.6.1": 38}[RELEASE]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [name for name in MODELS if name != "role_colon"])
def test_ids_are_those_of_the_chat_template(name: str, case: str) -> None:
    renderer = renderer_of(name)
    try:
        built = rendered(renderer, CASES[case])
    except (renderers.base.RendererError, ValueError, AssertionError):
        assert expected(RELEASE, name, case) == "refuses"
        return
    template = templated(renderer, name, renderer.tokenizer, CASES[case])
    assert difference(renderer.tokenizer, built, template) == expected(RELEASE, name, case)


@pytest.mark.parametrize("repository", hub.repositories())
def test_each_marker_is_one_token_and_any_family_has_prompts_and_examples(repository: str) -> None:
    tokenizer = get_tokenizer(repository)
    family = families.family_of(hub.repositories()[repository].name)
    for token in (*family.special, *family.markup):
        ids = tokenizer.encode(token, add_special_tokens=False)
        assert len(ids) == 1
        assert tokenizer.decode(ids) == token
    plain = renderers.get_renderer("role_colon", tokenizer)
    assert plain.build_generation_prompt(CASES["prompt"].messages).length > 5
    tokens, weights = plain.build_supervised_example(CASES["answer"].messages)
    assert tokens.length == len(weights)
    assert 0 < weights.sum() < len(weights)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "role_colon"])
def test_tools_are_declared_and_stop_sequences_are_tokens(name: str) -> None:
    renderer = renderer_of(name)
    assert all(isinstance(token, int) and token < 2048 for token in renderer.get_stop_sequences())
    tool = {"name": "add", "description": "Adds", "parameters": {"type": "object", "properties": {}}}
    try:
        head = renderer.create_conversation_prefix_with_tools([tool], "Be kind.")
    except NotImplementedError:
        assert name == "llama3"
        return
    prompt = renderer.build_generation_prompt([*head, *CASES["prompt"].messages]).to_ints()
    assert "add" in renderer.tokenizer.decode(prompt)
    answer = {"role": "assistant", "content": "", "tool_calls": calls({"a": 1})}
    assert renderer.build_supervised_example([*head, *CASES["prompt"].messages, answer])[0].length > len(prompt)


@pytest.mark.parametrize("model", ["Qwen/Qwen3.5-9B", "Qwen/Qwen3-VL-30B-A3B-Instruct", "moonshotai/Kimi-K2.6"])
def test_an_image_stands_in_a_prompt(model: str) -> None:
    from PIL import Image

    tokenizer, processor = get_tokenizer(model), get_image_processor(model)
    name = model_info.get_recommended_renderer_name(model)
    renderer = renderers.get_renderer(name, tokenizer, processor)
    parts = [{"type": "image", "image": Image.new("RGB", (256, 256))}, {"type": "text", "text": "What is it?"}]
    prompt = renderer.build_generation_prompt([{"role": "user", "content": parts}])
    assert prompt.length > 64
