"""Conversations in the cookbook's form, and what a chat template is told to render as a renderer does."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinker_cookbook.renderers import ToolCall

Message = dict[str, Any]


def said(role: str, content: str, **more: Any) -> Message:
    return {"role": role, "content": content, **more}


def thought(text: str, content: str, **more: Any) -> Message:
    parts = [{"type": "thinking", "thinking": text}, {"type": "text", "text": content}]
    return {"role": "assistant", "content": parts if content else parts[:1], **more}


def calls(*arguments: dict[str, Any]) -> list[ToolCall]:
    return [
        ToolCall(function=ToolCall.FunctionBody(name="add", arguments=json.dumps(each)), id=f"functions.add:{at}")
        for at, each in enumerate(arguments)
    ]


def result(at: int, text: str) -> Message:
    return said("tool", text, name="add", tool_call_id=f"functions.add:{at}")


SYSTEM, ASKED, SAID = said("system", "Answer in one word."), said("user", "What is 2 + 3?"), said("assistant", "Five.")
AGAIN, MORE = said("user", "And one more?"), said("assistant", "Six.")
CALL = said("assistant", "", tool_calls=calls({"a": 2, "b": 3}))
BOTH = said("assistant", "Both.", tool_calls=calls({"a": 2, "b": [3]}, {"a": "x", "deep": True}))


@dataclass(frozen=True)
class Case:
    """A conversation: a prompt for the next turn, or an example whose last message is trained."""

    messages: Sequence[Message]
    prompt: bool = False
    tools: bool = False
    thinks: bool = False


CASES = {
    "prompt": Case([ASKED], prompt=True),
    "prompt after a system message": Case([SYSTEM, ASKED], prompt=True),
    "prompt of a third turn": Case([SYSTEM, ASKED, SAID, AGAIN], prompt=True),
    "prompt after a thought": Case([ASKED, thought("Two, three.", "Five."), AGAIN], prompt=True, thinks=True),
    "answer": Case([ASKED, SAID]),
    "answer after a system message": Case([SYSTEM, ASKED, SAID]),
    "second answer": Case([ASKED, SAID, AGAIN, MORE]),
    "answer with a thought": Case([ASKED, thought("Two, three.", "Five.")], thinks=True),
    "second answer, with thoughts": Case(
        [ASKED, thought("Two, three.", "Five."), AGAIN, thought("Five and one.", "Six.")], thinks=True
    ),
    "call": Case([ASKED, CALL], tools=True),
    "two calls after words": Case([ASKED, BOTH], tools=True),
    "prompt after a result": Case([ASKED, CALL, result(0, "5")], prompt=True, tools=True),
    "answer after two results": Case([ASKED, BOTH, result(0, "5"), result(1, "y"), SAID], tools=True),
    "answer after a thoughtful call": Case(
        [ASKED, thought("I add.", "", tool_calls=CALL["tool_calls"]), result(0, "5"), thought("So.", "Five.")],
        tools=True,
        thinks=True,
    ),
}
VARIABLES: dict[str, dict[str, Any]] = {
    "qwen3_disable_thinking": {"enable_thinking": False},
    "qwen3_5_disable_thinking": {"enable_thinking": False},
    "qwen3_5_preserve_thinking": {"preserve_thinking": True},
    "qwen3_8_disable_thinking": {"enable_thinking": False},
    "qwen3_8_medium_reasoning": {"reasoning_effort": "medium"},
    "qwen3_8_low_reasoning": {"reasoning_effort": "low"},
    "deepseekv3_thinking": {"thinking": True},
    "deepseekv4_1_low_reasoning": {"reasoning_effort": "low"},
    "deepseekv4_1_max_reasoning": {"reasoning_effort": "max"},
    "deepseekv4_1_disable_thinking": {"thinking": False},
    "deepseekv4_1_preserve_thinking": {"preserve_thinking": True},
    "kimi_k25_disable_thinking": {"thinking": False},
    "kimi_k26_disable_thinking": {"thinking": False},
    "kimi_k26_preserve_thinking": {"preserve_thinking": True},
    "nemotron3_disable_thinking": {"enable_thinking": False},
    "nemotron3_preserve_thinking": {"truncate_history_thinking": False},
    "nemotron3_low_thinking": {"reasoning_effort": "low"},
    "nemotron3_ultra_disable_thinking": {"enable_thinking": False},
    "nemotron3_ultra_medium_thinking": {"reasoning_effort": "medium"},
    "nemotron3_ultra_preserve_thinking": {"truncate_history_thinking": False},
    "glm5_3_low_reasoning": {"reasoning_effort": "low"},
    "glm5_3_high_reasoning": {"reasoning_effort": "high"},
    "gpt_oss_medium_reasoning": {"reasoning_effort": "medium"},
}
"""Renderer -> variables of the chat template that ask for the same."""
