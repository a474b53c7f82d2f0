"""The shipped tokenizer: Qwen3's special tokens, any Unicode, and the chat template's observable behaviour."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from transformers import AutoTokenizer

from ftsim.compute.assets import FOLDER
from ftsim.compute.models import tokenizer
from ftsim.compute.models.markers import MARKUP_TOKENS, SPECIAL_TOKENS

SHIPPED = tokenizer.load()


@pytest.fixture(scope="module")
def auto(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.write_folder(folder, 4096)
    return AutoTokenizer.from_pretrained(folder)


def test_training_again_gives_the_shipped_bytes(tmp_path: Path) -> None:
    tokenizer.train().save(str(tmp_path / "tokenizer.json"), pretty=False)
    assert (tmp_path / "tokenizer.json").read_bytes() == (FOLDER / "tokenizer.json").read_bytes()


def test_too_little_text_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        tokenizer.train(["one short line"])


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_round_trips(text: str) -> None:
    assert SHIPPED.decode(SHIPPED.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    "text",
    ["e\u0301 vs \u00e9", "👩‍👩‍👧 \u200b \ufeff", "a\r\n\tb  c \n\n", "﷽ \U0010ffff \x00", "<|im_start|>x</think>"],
)
def test_awkward_text_round_trips_through_transformers(auto: Any, text: str) -> None:
    assert auto.decode(auto.encode(text)) == text


@pytest.mark.parametrize("token", SPECIAL_TOKENS + MARKUP_TOKENS)
def test_every_special_token_is_one_token_where_its_id_is_declared(auto: Any, token: str) -> None:
    assert auto.encode(token) == [tokenizer.special_id(token)]


def test_skipping_special_tokens_keeps_the_markup(auto: Any) -> None:
    ids = auto.encode("<|im_start|><think>a</think><tool_call>b</tool_call><|im_end|><|endoftext|>")
    assert auto.decode(ids, skip_special_tokens=True) == "<think>a</think><tool_call>b</tool_call>"


def test_roles_of_the_special_tokens(auto: Any) -> None:
    assert (auto.eos_token, auto.pad_token, auto.bos_token) == ("<|im_end|>", "<|endoftext|>", None)
    assert len(auto) == tokenizer.VOCAB_SIZE
    assert auto.model_max_length == 4096


def test_nothing_is_added_around_a_text(auto: Any) -> None:
    assert auto.encode("a b") == auto.encode("a b", add_special_tokens=False)
    assert auto.encode("") == []


def test_digits_stay_apart(auto: Any) -> None:
    assert auto.convert_ids_to_tokens(auto.encode("12345")) == list("12345")


USER: dict[str, Any] = {"role": "user", "content": "Hi"}
ASSISTANT: dict[str, Any] = {"role": "assistant", "content": "Yo"}
SYSTEM: dict[str, Any] = {"role": "system", "content": "Be kind."}
U, A, S = (
    "<|im_start|>user\n{}<|im_end|>\n",
    "<|im_start|>assistant\n{}<|im_end|>\n",
    "<|im_start|>system\n{}<|im_end|>\n",
)
EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
CALL = {"function": {"name": "add", "arguments": {"a": 1}}}
CALL_TEXT = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([USER], U.format("Hi")),
        ([SYSTEM, USER], S.format("Be kind.") + U.format("Hi")),
        ([USER, SYSTEM], U.format("Hi") + S.format("Be kind.")),
        ([USER, ASSISTANT], U.format("Hi") + A.format(EMPTY_THOUGHT + "Yo")),
        ([USER, ASSISTANT, USER], U.format("Hi") + A.format("Yo") + U.format("Hi")),
        (
            [USER, {**ASSISTANT, "reasoning_content": "hm"}],
            U.format("Hi") + A.format("<think>\nhm\n</think>\n\nYo"),
        ),
        (
            [USER, {**ASSISTANT, "content": "<think>\nhm\n</think>\n\nYo"}],
            U.format("Hi") + A.format("<think>\nhm\n</think>\n\nYo"),
        ),
        (
            [USER, {**ASSISTANT, "content": "<think>\nhm\n</think>\n\nYo"}, USER],
            U.format("Hi") + A.format("Yo") + U.format("Hi"),
        ),
        (
            [USER, {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}, USER],
            U.format("Hi") + A.format(CALL_TEXT + "\n" + CALL_TEXT) + U.format("Hi"),
        ),
        (
            [USER, {"role": "assistant", "content": "See", "tool_calls": [CALL["function"]]}, USER],
            U.format("Hi") + A.format("See\n" + CALL_TEXT) + U.format("Hi"),
        ),
        (
            [USER, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, ASSISTANT],
            U.format("Hi")
            + "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
            + A.format(EMPTY_THOUGHT + "Yo"),
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": "See "}, {"type": "image", "image": "x.png"}]}],
            U.format("See <|vision_start|><|image_pad|><|vision_end|>"),
        ),
    ],
)
def test_conversations_render_as_chatml(auto: Any, messages: list[dict[str, Any]], expected: str) -> None:
    assert auto.apply_chat_template(messages, tokenize=False) == expected


@pytest.mark.parametrize(
    ("options", "ending"),
    [
        ({}, ""),
        ({"add_generation_prompt": True}, "<|im_start|>assistant\n"),
        ({"add_generation_prompt": True, "enable_thinking": True}, "<|im_start|>assistant\n"),
        ({"add_generation_prompt": True, "enable_thinking": False}, "<|im_start|>assistant\n" + EMPTY_THOUGHT),
    ],
)
def test_the_generation_prompt(auto: Any, options: dict[str, bool], ending: str) -> None:
    assert auto.apply_chat_template([USER], tokenize=False, **options) == U.format("Hi") + ending


def test_tools_stand_in_the_system_turn(auto: Any) -> None:
    tool = {"type": "function", "function": {"name": "add", "description": "Adds ü", "parameters": {}}}
    text = auto.apply_chat_template([SYSTEM, USER], tools=[tool], tokenize=False)
    system, user = text.split("<|im_end|>\n")[:2]
    assert system.startswith("<|im_start|>system\nBe kind.\n\n# Tools\n\n")
    assert json.loads(system.split("<tools>\n")[1].split("\n</tools>")[0]) == tool
    assert user == "<|im_start|>user\nHi"


def test_a_rendered_conversation_is_a_prefix_of_its_continuation(auto: Any) -> None:
    prompt = auto.apply_chat_template([USER], tokenize=False, add_generation_prompt=True)
    assert auto.apply_chat_template([USER, ASSISTANT], tokenize=False).startswith(prompt)
