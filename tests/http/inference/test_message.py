"""The message in a model's text, however the text is cut (WIRE 3.1)."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from emulator.http.inference.message import Marks, Message, marks_of

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
ADD = {"id": "call_x0", "index": 0, "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def message(*pieces: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The message, and its deltas joined."""
    found = Message("x")
    joined: dict[str, Any] = {}
    for delta in (*map(found.add, pieces), found.end()):
        for key, value in delta.items():
            joined[key] = joined[key] + value if key in joined else value
    return found.whole(), joined


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", {"content": ""}),
        ("  cold ", {"content": "  cold "}),
        ("<think>\n\n</think>\n\ncold", {"content": "cold"}),
        (" <think>\nhm\nhm \n</think>\ncold\n", {"reasoning_content": "hm\nhm", "content": "cold\n"}),
        ("<think>\nhm ", {"reasoning_content": "hm", "content": ""}),
        ("<thin", {"content": "<thin"}),
        ("a <think>b</think>", {"content": "a <think>b</think>"}),
        (CALL, {"content": None, "tool_calls": [ADD]}),
        (f"I add. \n{CALL}\n", {"content": "I add.", "tool_calls": [ADD]}),
        (f"<think>t</think>{CALL} Done", {"reasoning_content": "t", "content": "Done", "tool_calls": [ADD]}),
        (f"a {CALL} b", {"content": "a  b", "tool_calls": [ADD]}),
        ("<tool_call>{nonsense}</tool_call> ", {"content": "<tool_call>{nonsense}</tool_call> "}),
        ("<tool_call>[1]</tool_call>", {"content": "<tool_call>[1]</tool_call>"}),
        ('a <tool_call>{"name": ', {"content": 'a <tool_call>{"name": '}),
        ("1 < 2 <tool", {"content": "1 < 2 <tool"}),
    ],
)
def test_thought_content_and_calls_are_told_apart(text: str, says: dict[str, Any]) -> None:
    assert message(text)[0] == {"role": "assistant", **says}
    assert message(*text) == message(text)


PARTS = st.sampled_from(["<think>", "</think>", "<tool_call>", "</tool_call>", '{"name": "f"}', "<", " ", "\n", "word"])


@given(st.lists(PARTS, max_size=8), st.lists(st.integers(1, 7), max_size=30))
def test_where_the_text_is_cut_makes_no_difference(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    pieces, at = [], 0
    for size in cuts:
        pieces.append(text[at : at + size])
        at += size
    assert message(*pieces, text[at:]) == message(text)


@given(st.lists(PARTS, max_size=8))
def test_deltas_add_up_to_the_message(parts: list[str]) -> None:
    whole, joined = message("".join(parts))
    assert joined.get("reasoning_content", "") == whole.get("reasoning_content", "")
    assert joined.get("tool_calls", []) == whole.get("tool_calls", [])
    content = joined.get("content", "")
    assert (content.strip() or None if "tool_calls" in whole else content) == whole["content"]


HARMONY, GEMMA, MISTRAL = (marks_of(sign) for sign in ("x<|channel|>", "x<|channel>", "x[THINK]"))
FINAL = "<|channel|>final<|message|>"
THOUGHT = {"reasoning_content": "hm", "content": "cold"}


@pytest.mark.parametrize(
    ("marks", "text", "says"),
    [
        (Marks().after("assistant\n<think>\n"), "hm\n</think>\n\ncold", THOUGHT),
        (Marks().after("<think>"), "</think>cold", {"content": "cold"}),
        (Marks().after("<think>"), "hm", {"reasoning_content": "hm", "content": ""}),
        (Marks().after("</think>"), "cold", {"content": "cold"}),
        (HARMONY, f"{FINAL}cold", {"content": "cold"}),
        (HARMONY, f"<|channel|>analysis<|message|>hm<|end|><|start|>assistant{FINAL}cold", THOUGHT),
        (HARMONY, "<|chan", {"content": "<|chan"}),
        (HARMONY, "cold", {"content": "cold"}),
        (GEMMA, "<|channel>thought\nhm\n<channel|>cold", THOUGHT),
        (MISTRAL, "[THINK]hm[/THINK]cold", THOUGHT),
    ],
)
def test_families_have_marks_of_their_own(marks: Marks, text: str, says: dict[str, Any]) -> None:
    for step in (1, 3, len(text)):
        found = Message("x", marks)
        for at in range(0, len(text), step):
            found.add(text[at : at + step])
        found.end()
        assert found.whole() == {"role": "assistant", **says}
