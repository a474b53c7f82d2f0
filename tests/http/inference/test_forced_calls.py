"""A call that is forced is written in the form of the model's family, whatever the model would rather say."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from emulator.core.answer_format import Format
from emulator.core.errors import InvalidArgument
from emulator.http.inference.call_forms import form_of
from emulator.http.inference.formats import tool_call
from ftsim.compute.models.families import FAMILIES, chat_template
from ftsim.compute.models.tokenizer import write_folder
from ftsim.compute.sampler.shaping import Formats
from ftsim.compute.standins.tokenizer import StandInTokenizer
from tests.http.inference.test_calls import CALLING, assistant, called, read, rendered

ONE_BY_ONE = ("qwen3.5", "nemotron3", "glm-4", "glm-5", "minimax", "deepseek-v4")
PARAMETERS = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 6},
        "kind": {"enum": ["a<b", "5", "no more"], "type": "string"},
        "n": {"$ref": "#/$defs/Small"},
        "either": {"type": ["boolean", "null"]},
        "deep": {
            "type": "object",
            "properties": {"x": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}},
            "required": ["x"],
            "additionalProperties": False,
        },
    },
    "required": ["text", "kind", "n"],
    "additionalProperties": False,
    "$defs": {"Small": {"type": "integer", "minimum": 1, "maximum": 9}},
}
NOTHING = {"type": "object", "additionalProperties": False}
TOOLS = [
    {"type": "function", "function": {"name": "find", "description": "A tool.", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": NOTHING}},
]


@cache
def formats(name: str, folder: Path) -> tuple[StandInTokenizer, Formats]:
    place = folder / name
    place.mkdir(exist_ok=True)
    write_folder(place, 4096, FAMILIES[name])
    tokenizer = StandInTokenizer(place, FAMILIES[name])
    return tokenizer, Formats(tokenizer, len(tokenizer), tokenizer.encode(FAMILIES[name].ends[0]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def drawn(name: str, folder: Path, wanted: Format, seed: int) -> str:
    """Draw as a model does that likes all tokens alike, and decode as the sampler does."""
    tokenizer, known = formats(name, folder)
    guide, chance = known.guide(wanted), np.random.default_rng(seed)
    tokens: list[int] = []
    ends = {tokenizer.encode(end)[0] for end in FAMILIES[name].ends}
    while len(tokens) < 400:
        token = int(chance.choice(np.flatnonzero(guide.allowed(len(tokenizer)).numpy())))
        if token in ends:
            break
        tokens.append(token)
        if guide.take(token):
            break
    return tokenizer.decode(tokens, skip_special_tokens=False)


def forced(name: str, tools: Sequence[Mapping[str, Any]], choice: Any = "required", number: int = 0) -> Format:
    wanted = tool_call(choice, tools, form_of(chat_template(name)), number, "")
    assert wanted is not None
    return wanted


@pytest.mark.parametrize("name", CALLING)
def test_what_is_drawn_is_a_call_that_the_familys_template_would_write(name: str, folder: Path) -> None:
    valid, found = Draft202012Validator(PARAMETERS), set()
    for seed in range(12):
        text = drawn(name, folder, forced(name, TOOLS), seed)
        message, _ = read(name, "", text, len(text), TOOLS)
        ((function, arguments),) = called(message)
        assert function == "now" or valid.is_valid(arguments), text
        found.add(function)
        _, shown = rendered(name, assistant([(function, arguments)]))
        assert shown.strip().removesuffix("<|call|>").endswith(text.strip().removesuffix("<|call|>")), text
    assert found == {"find", "now"}


def test_the_number_of_a_call_goes_on_where_the_conversation_is(folder: Path) -> None:
    text = drawn("kimi-k2.5", folder, forced("kimi-k2.5", TOOLS, {"function": {"name": "now"}}, number=3), 0)
    message, _ = read("kimi-k2.5", "", text, len(text))
    assert [call["id"] for call in message["tool_calls"]] == ["functions.now:3"]


@pytest.mark.parametrize("name", ONE_BY_ONE)
@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ({"type": "object", "anyOf": [{"required": ["a"]}]}, "'anyOf'"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "^x"}}}, "'pattern of a'"),
        ({"type": "object", "properties": {}, "required": ["b"]}, "'b'"),
    ],
)
def test_what_bare_text_cannot_be_held_to_is_refused(name: str, parameters: dict[str, Any], what: str) -> None:
    tool = {"type": "function", "function": {"name": "find", "parameters": parameters}}
    with pytest.raises(InvalidArgument, match=f"cannot be forced exactly: .*{what}"):
        forced(name, [tool])


def test_json_is_held_to_what_bare_text_cannot_be(folder: Path) -> None:
    parameters = {
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": "^xy?$"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "find", "parameters": parameters}}
    text = drawn("qwen3", folder, forced("qwen3", [tool]), 1)
    assert json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))["arguments"]["a"] in ("x", "xy")
