"""Tool calls: what a family's template renders is read back as it was, whole and piece by piece."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from emulator.http.inference.call_forms import form_of
from emulator.http.inference.message import Message, marks_of
from ftsim.compute.models.families import FAMILIES, chat_template

Arguments = Mapping[str, Any]
Tools = Sequence[Mapping[str, Any]]
PARAMETERS = {
    "add": {"a": {"type": "integer"}, "b": {"type": "number"}},
    "say": {"text": {"type": "string"}, "loud": {"type": "boolean"}, "to": {"type": ["array", "null"]}},
    "find": {"where": {"type": "object"}, "n": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
    "now": {},
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "A tool.",
            "parameters": {"type": "object", "properties": properties},
        },
    }
    for name, properties in PARAMETERS.items()
]
CALLS: dict[str, list[tuple[str, Arguments]]] = {
    "numbers": [("add", {"a": 1, "b": 2.5})],
    "text like a number": [("say", {"text": "5", "loud": True, "to": None})],
    "lines": [("say", {"text": "\na <b>\n\n{c}\n", "loud": False, "to": ["é", "☃", 1]})],
    "text like values": [("say", {"text": "null", "loud": True, "to": []})],
    "nested": [("find", {"where": {"x": {"y": [1, {"z": '"'}]}}, "n": 3})],
    "no arguments": [("now", {})],
    "two": [("add", {"a": -1, "b": 0.5}), ("say", {"text": "héllo", "loud": False, "to": None})],
    "the same twice": [("now", {}), ("now", {})],
}
CALLING = [name for name in FAMILIES if name != "gemma3"]


def rendered(name: str, message: Mapping[str, Any]) -> tuple[str, str]:
    """The prompt before an assistant's message, and what a model would write so that the template shows the message."""
    user = {"role": "user", "content": "Hi"}
    settings = {
        "tools": TOOLS,
        "chat_template": chat_template(name),
        "enable_thinking": not name.startswith("nemotron"),
    }
    ((prompt,), _), ((whole,), _) = (
        render_jinja_template(conversations=[said], add_generation_prompt=opens, **settings)
        for said, opens in (([user], True), ([user, dict(message)], False))
    )
    assert whole.startswith(prompt)
    ends = "|".join(map(re.escape, (*FAMILIES[name].ends, "<|tool_response>", "<|call|>")))
    return prompt, re.sub(rf"(?:{ends}|\n)+$", "", whole[len(prompt) :])


def assistant(calls: Sequence[tuple[str, Arguments]], **more: str) -> dict[str, Any]:
    made = [
        {"id": f"functions.{name}:{at}", "type": "function", "function": {"name": name, "arguments": dict(arguments)}}
        for at, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": "", "tool_calls": made, **more}


def read(name: str, prompt: str, text: str, step: int, tools: Tools = TOOLS) -> tuple[dict[str, Any], dict[str, Any]]:
    """The message in a text that comes in pieces, and its deltas joined."""
    template = chat_template(name)
    message = Message("x", marks_of(template).calling(template, tools).after(prompt[-40:]))
    joined: dict[str, Any] = {}
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    for delta in (*map(message.add, pieces), message.end()):
        for key, value in delta.items():
            joined[key] = joined[key] + value if key in joined else value
    return message.whole(), joined


def called(message: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        (call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message.get("tool_calls", ())
    ]


@pytest.mark.parametrize("name", CALLING)
def test_calls_that_a_template_renders_are_read_back(name: str) -> None:
    for calls in CALLS.values():
        prompt, text = rendered(name, assistant(calls))
        for step in (len(text), 1, 7):
            whole, joined = read(name, prompt, text, step)
            assert called(whole) == calls, text
            assert whole["content"] is None
            assert joined["tool_calls"] == whole["tool_calls"]


@pytest.mark.parametrize("name", CALLING)
def test_words_stand_before_calls(name: str) -> None:
    calls = CALLS["two"]
    prompt, text = rendered(name, assistant(calls, content="I add."))
    for step in (len(text), 1, 5):
        whole, joined = read(name, prompt, text, step)
        assert (whole["content"], called(whole)) == ("I add.", calls), text
        assert joined["content"].strip() == "I add."


@pytest.mark.parametrize("name", CALLING)
def test_a_call_that_is_cut_off_is_no_call(name: str) -> None:
    prompt, text = rendered(name, assistant(CALLS["lines"]))
    cut = text[: text.index("é")]
    whole, _ = read(name, prompt, cut, len(cut))
    assert "tool_calls" not in whole
    assert "say" in whole["content"]


def test_a_family_that_writes_ids_keeps_them() -> None:
    prompt, text = rendered("kimi-k2.5", assistant(CALLS["two"]))
    whole, _ = read("kimi-k2.5", prompt, text, 3)
    assert [call["id"] for call in whole["tool_calls"]] == ["functions.add:0", "functions.say:1"]


ADD = [("add", {"a": 1})]
MORE: list[tuple[str, str, object]] = [
    ("qwen3.5", "<tool_call>\n<function=add>\n<parameter=a>1</parameter></function></tool_call>", ADD),
    ("qwen3.5", "<tool_call><function=odd><parameter=a>\n5\n</parameter></function></tool_call>", [("odd", {"a": 5})]),
    (
        "qwen3.5",
        "<tool_call>\n<function=say>\n<parameter=loud>\nTrue\n</parameter>\n</function></tool_call>",
        [("say", {"loud": True})],
    ),
    ("qwen3.5", "<tool_call>{}</tool_call>", None),
    ("glm-5", "<tool_call></tool_call>", None),
    ("glm-4", "<tool_call>now\n</tool_call>", [("now", {})]),
    ("gpt-oss", "<|channel|>commentary to=functions.add <|constrain|>json<|message|>{}", [("add", {})]),
    ("gpt-oss", " to=functions.add<|channel|>commentary json<|message|>{oops", None),
    ("gpt-oss", "<|channel|>final<|message|>to=functions.add", "to=functions.add"),
    ("llama3", '{"name": "add", "parameters": {"a": 1}}', ADD),
    ("llama3", '<|python_tag|>{"name": "add", "parameters": {}}', [("add", {})]),
    ("llama3", '{"name": "unknown", "parameters": {}}', None),
    ("llama3", '{"name": "Ann", "age": 3}', None),
    ("llama3", '{"name": oops', None),
    ("mistral", '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}, {"name": "now"}]', [*ADD, ("now", {})]),
    ("mistral", "[TOOL_CALLS]add[ARGS]oops", None),
    ("mistral", "[TOOL_CALLS]nothing", None),
    ("kimi-k2", "<|tool_calls_section_begin|><|tool_calls_section_end|>", None),
    ("gemma4", "<|tool_call>add{}<tool_call|>", None),
    (
        "deepseek-v3",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n"
        '```json\n{"a": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        ADD,
    ),
]
"""A text, and its calls or its content; None is the text itself."""


@pytest.mark.parametrize(("name", "text", "says"), MORE)
def test_what_models_write_besides(name: str, text: str, says: object) -> None:
    for step in (len(text), 1, 4):
        whole, _ = read(name, "", text, step)
        assert (called(whole) or whole["content"]) == (says or text)


def test_without_tools_plain_json_is_content() -> None:
    template = chat_template("llama3")
    message = Message("x", marks_of(template).calling(template, ()))
    message.add('{"name": "add", "parameters": {}}')
    message.end()
    assert message.whole()["content"] == '{"name": "add", "parameters": {}}'


def test_a_template_that_says_nothing_of_calls_has_the_usual_form() -> None:
    assert form_of("").begins == ("<tool_call>",)
