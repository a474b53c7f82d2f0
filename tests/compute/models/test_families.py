"""Tokenizers by family: ids that never change, markers that are one token, templates with the families' structure."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftsim.compute.assets import MARKERS, learn
from ftsim.compute.models import catalogue as models, families, tokenizer
from ftsim.compute.models.families import FAMILIES, PLACES, Family

IDS = {
    "qwen3": "69be2c686188c397",
    "qwen3-instruct": "69be2c686188c397",
    "qwen3-thinking": "69be2c686188c397",
    "qwen3.5": "69be2c686188c397",
    "qwen3.8": "69be2c686188c397",
    "deepseek-v3": "a691de86cdcabfda",
    "deepseek-r1": "a691de86cdcabfda",
    "deepseek-v3.1": "a691de86cdcabfda",
    "deepseek-v4": "a691de86cdcabfda",
    "kimi-k2-instruct": "71bc6edecee07f3e",
    "kimi-k2": "71bc6edecee07f3e",
    "kimi-k2.5": "71bc6edecee07f3e",
    "glm-4": "aacbda82c4caa981",
    "glm-5": "aacbda82c4caa981",
    "glm-5.3": "aacbda82c4caa981",
    "nemotron3": "841754f4e0b93889",
    "nemotron3-ultra": "841754f4e0b93889",
    "llama3": "644e71f3f688f575",
    "gemma3": "324d08858702fa0f",
    "gemma4": "e8e36b68fa8372ca",
    "gpt-oss": "7d813830c73dff03",
    "mistral": "9f059366bbd56028",
    "minimax": "95a465372b3ed4d7",
}
"""Digests of every token with its id. One that changes makes checkpoints unreadable that users have trained."""


def ids(family: Family) -> str:
    content = tokenizer.vocabulary(family)
    known = content["model"]["vocab"] | {entry["content"]: entry["id"] for entry in content["added_tokens"]}
    return hashlib.sha256(json.dumps(sorted(known.items(), key=lambda one: one[1])).encode()).hexdigest()[:16]


@cache
def spoken(name: str, place: Path) -> Any:
    (place / name).mkdir()
    tokenizer.write_folder(place / name, 4096, FAMILIES[name])
    return AutoTokenizer.from_pretrained(place / name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def test_ids_are_those_that_they_have_always_been() -> None:
    assert {name: ids(family) for name, family in FAMILIES.items()} == IDS


@pytest.mark.parametrize("name", FAMILIES)
def test_markers_are_one_token_and_roles_are_the_familys(place: Path, name: str) -> None:
    made, family = spoken(name, place), FAMILIES[name]
    for token in family.tokens:
        assert made.encode(token, add_special_tokens=False) == [tokenizer.special_id(token, family)]
    assert (made.bos_token, made.eos_token, made.pad_token) == (family.bos, family.end, family.padding)
    assert made.decode(made.encode("a b")) == "".join(family.begins) + "a b"
    assert made.decode(made.encode("a b"), skip_special_tokens=True) == "a b"
    shown = "".join(family.markup)
    assert made.decode(made.encode(shown + family.special[3]), skip_special_tokens=True) == shown
    assert len(made) == tokenizer.VOCAB_SIZE
    stops = models.generation_config(family)["eos_token_id"]
    assert made.convert_ids_to_tokens(stops) == list(family.ends)


SAID = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yo"},
]
CHATML = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = {
    "qwen3": CHATML,
    "qwen3.5": CHATML + "<think>\n",
    "deepseek-v3": "<｜begin▁of▁sentence｜>Be kind.<｜User｜>Hi<｜Assistant｜>",
    "deepseek-v3.1": "<｜begin▁of▁sentence｜>Be kind.<｜User｜>Hi<｜Assistant｜></think>",
    "kimi-k2-instruct": (
        "<|im_system|>system<|im_middle|>Be kind.<|im_end|><|im_user|>user<|im_middle|>Hi<|im_end|>"
        "<|im_assistant|>assistant<|im_middle|>"
    ),
    "glm-4": "[gMASK]<sop><|system|>\nBe kind.<|user|>\nHi<|assistant|>",
    "glm-5": "[gMASK]<sop><|system|>Be kind.<|user|>Hi<|assistant|><think>",
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "gemma3": "<bos><start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\n",
    "gemma4": "<bos><|turn>system\nBe kind.<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n",
    "mistral": "<s>[SYSTEM_PROMPT]Be kind.[/SYSTEM_PROMPT][INST]Hi[/INST]",
    "minimax": "]~b[]~b]system\nBe kind.[e~[\n]~b]user\nHi[e~[\n]~b]ai\n",
    "nemotron3": CHATML + "<think>\n",
}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_has_the_familys_structure(place: Path, name: str) -> None:
    text = spoken(name, place).apply_chat_template(SAID[:2], tokenize=False, add_generation_prompt=True)
    assert text == PROMPTS[name]


CALL = {"id": "functions.add:0", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "x"}}}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {"type": "object"}}}
CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "seven", "name": "add", "tool_call_id": "functions.add:0"},
]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "gemma3"])
def test_tools_calls_and_results_are_written(place: Path, name: str) -> None:
    text = spoken(name, place).apply_chat_template(CALLED, tools=[TOOL], tokenize=False, add_generation_prompt=True)
    assert text.index("Adds") < text.index("Hi") < text.rindex("add") < text.rindex("seven")


def test_what_a_template_has_no_place_for_is_refused(place: Path) -> None:
    with pytest.raises(Exception, match="this template has no tools"):
        spoken("gemma3", place).apply_chat_template(CALLED[:1], tools=[TOOL], tokenize=False)
    image = [{"role": "user", "content": [{"type": "image", "image": "x"}]}]
    with pytest.raises(Exception, match="sees no images"):
        spoken("llama3", place).apply_chat_template(image, tokenize=False)
    assert "<image></img>" in spoken("nemotron3", place).apply_chat_template(image, tokenize=False)


@pytest.mark.parametrize(("settings", "ending"), [({}, "<think>\n"), ({"enable_thinking": False}, "<think></think>")])
def test_thinking_is_turned_off(place: Path, settings: Mapping[str, bool], ending: str) -> None:
    text = spoken("nemotron3", place).apply_chat_template(
        SAID[:2], tokenize=False, add_generation_prompt=True, **settings
    )
    assert text.endswith("assistant\n" + ending)


def test_too_many_markers_are_refused() -> None:
    with pytest.raises(ValueError, match="27 markers for 26 places"):
        Family("x", tuple(map(str, range(27))))


def test_every_stand_in_has_learned_every_familys_markers_and_nothing_else_of_it_differs(tmp_path: Path) -> None:
    names = [f"{architecture}-{rows}" for architecture, rows in learn.pairs()]
    assert sorted(path.stem for path in MARKERS.iterdir()) == names
    assert all(
        part.shape == (PLACES, 64) for name in names for part in load_file(MARKERS / f"{name}.safetensors").values()
    )
    plain, llama = (
        load_file(models.base_folder(models.PREFIX + name, tmp_path) / "model.safetensors")
        for name in ("qwen3-8b", "llama-v3p1-8b-instruct")
    )
    for name, part in plain.items():
        words = slice(0, -PLACES if name in ("model.embed_tokens.weight", "lm_head.weight") else None)
        assert (part[words] == llama[name][words]).all()
    assert (plain["lm_head.weight"][-PLACES:] != llama["lm_head.weight"][-PLACES:]).any()


def test_learning_moves_only_the_markers(tmp_path: Path) -> None:
    folder = models.base_folder(models.PREFIX + "glm-5", tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    before = {name: part.clone() for name, part in model.state_dict().items()}
    first, *_, last = learn.learn(model, [FAMILIES["glm-5"]], steps=3)
    assert first > 0 < last
    moved = {name for name, part in model.state_dict().items() if not torch.equal(part, before[name])}
    assert moved == {"model.embed_tokens.weight", "lm_head.weight"}
    assert all(torch.equal(model.state_dict()[name][:-PLACES], before[name][:-PLACES]) for name in moved)


ONE_OF_EACH = (
    "qwen3p5-9b",
    "deepseek-v3p1",
    "kimi-k2p6",
    "glm-5p1",
    "llama-v3p1-8b-instruct",
    "gpt-oss-20b",
    "gemma-4-31b-it",
    "mistral-small-24b-instruct-2501",
    "minimax-m3",
    "nemotron-nano-3-30b-a3b",
)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_base_model_answers_in_its_familys_template_and_stops(tmp_path: Path, name: str) -> None:
    folder = models.base_folder(models.PREFIX + name, tmp_path)
    made, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    prompt = made.apply_chat_template(
        [{"role": "user", "content": "What is 2 + 3?"}], add_generation_prompt=True, return_dict=False
    )
    given = torch.tensor([prompt])
    answer = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=60, do_sample=False)
    assert int(answer[0, -1]) in models.generation_config(families.family_of(name))["eos_token_id"]
