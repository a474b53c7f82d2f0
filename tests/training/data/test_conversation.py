"""Recipes and chat endpoint read messages with one module, which lies in both packages."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emulator.http.inference import conversation as served
from ftsim.training.data import conversation as trained

USER = {"role": "user", "content": "hi"}


@pytest.fixture(params=[served, trained], ids=["served", "trained"])
def reader(request: pytest.FixtureRequest) -> ModuleType:
    return request.param  # type: ignore[no-any-return]


def test_both_packages_have_the_same_rules() -> None:
    assert Path(str(served.__file__)).read_bytes() == Path(str(trained.__file__)).read_bytes()


def said(content: Any = "ho", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content} | more


def calling(arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}


CALLED = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]


@pytest.mark.parametrize(
    ("message", "read"),
    [
        (USER, USER),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "ab"},
        ),
        ({"role": "developer", "content": "x"}, {"role": "system", "content": "x"}),
        (USER | {"name": "ann", "tool_calls": None}, USER | {"name": "ann"}),
        (said(None, **calling({"a": 1})), said("", tool_calls=CALLED)),
        (said("", **calling('{"a": 1}')), said("", tool_calls=CALLED)),
        (said(None, tool_calls=[{"id": "c", "name": "f", "arguments": '{"a": 1}'}]), said("", tool_calls=CALLED)),
        (
            said(None, function_call={"name": "f", "arguments": ""}),
            said("", tool_calls=[{"type": "function", "function": {"name": "f", "arguments": {}}}]),
        ),
        ({"role": "function", "name": "f", "content": "3"}, {"role": "tool", "name": "f", "content": "3"}),
        ({"role": "tool", "tool_call_id": "c", "content": None}, {"role": "tool", "tool_call_id": "c", "content": ""}),
        (said(reasoning_content="hm"), said(reasoning_content="hm")),
        (said(reasoning="hm", thinking=None), said(reasoning_content="hm")),
        (said(thinking="hm", reasoning="hm"), said(reasoning_content="hm")),
        (said([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "ho"}]), said(reasoning_content="hm")),
        (said("<think>\nhm\n</think>\n\nho"), said(reasoning_content="hm")),
        (said("hm</think>ho"), said(reasoning_content="hm")),
        (said("say <think>hm</think>"), said("say <think>hm</think>", reasoning_content="")),
        (said("a </think> b", reasoning="c"), said("a </think> b", reasoning_content="c")),
        (said(weight=1, trainable=True, refusal=None), said()),
    ],
)
def test_every_form_of_a_message_is_read_into_one(reader: ModuleType, message: Any, read: Any) -> None:
    (found,) = reader.read_messages([message])
    assert found.for_template("{{ message.reasoning_content }}") == read


def test_a_template_that_knows_more_or_less_is_given_what_it_knows(reader: ModuleType) -> None:
    developer, thought = reader.read_messages([{"role": "developer", "content": "x"}, said("<think>a</think>b")])
    assert developer.for_template("{% if role == 'developer' %}")["role"] == "developer"
    assert thought.for_template("no thoughts") == said("<think>a</think>b")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "messages must be a list with at least one message"),
        ("hi", "messages must be a list with at least one message"),
        (["hi"], "messages.0 is text, not an object"),
        ([USER, {"content": "x"}], "messages.1.role is 'None': use one of system, developer, user, assistant, tool"),
        ([{"role": "user", "content": None}], "messages.0.content is null, not text (user)"),
        ([said(None)], "messages.0.content is null, not text (assistant)"),
        ([said(7)], "messages.0.content is a number, not text (assistant)"),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            "messages.0.content has a part of type 'image_url': only text is read",
        ),
        (
            [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}],
            "messages.0.content has a part of type 'thinking': only the assistant thinks, not user",
        ),
        ([said(None, **calling("{"))], "messages.0.tool_calls.0 arguments are text that is not JSON"),
        ([said(None, **calling([1]))], "messages.0.tool_calls.0 arguments are a list, not an object"),
        ([said(None, tool_calls=[{"id": "c"}])], "messages.0.tool_calls.0 has no function with a name"),
        ([said(None, tool_calls=["f"])], "messages.0.tool_calls.0 is text, not an object"),
        ([USER | calling({})], "messages.0.tool_calls: user calls no tools, the assistant does"),
        ([said(reasoning="a", thinking="b")], "messages.0.reasoning_content: reasoning_content, reasoning, thinking"),
        ([said(reasoning={"a": 1})], "messages.0.reasoning_content is an object, not text"),
        ([said(weight="0")], "messages.0.weight is '0': write a finite number"),
        ([said(weight=True)], "messages.0.weight is True: write a finite number"),
        ([said(weight=float("nan"))], "messages.0.weight is nan: write a finite number"),
        ([said(trainable="no")], "messages.0.trainable is text: write true or false"),
        ([USER | {"name": 3}], "messages.0.name: Input should be a valid string"),
    ],
)
def test_a_message_that_cannot_be_read_is_named_by_its_place(reader: ModuleType, messages: Any, reason: str) -> None:
    with pytest.raises(reader.ConversationError) as caught:
        reader.read_messages(messages)
    assert str(caught.value).startswith(reason)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def nested(depth: int) -> dict[str, Any]:
    """Objects within objects."""
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"items": found}
    return found


@pytest.mark.parametrize(
    ("tools", "read"),
    [
        (None, []),
        ("", []),
        ([], []),
        ([TOOL], [TOOL]),
        ([TOOL["function"]], [TOOL]),
        ('[{"name": "f", "parameters": {}}]', [TOOL]),
        (
            [{"name": "f", "description": None, "parameters": {"properties": {"a": {"default": None}, "b": None}}}],
            [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"default": None}}}}}],
        ),
        (
            [{"name": "f", "parameters": {"enum": ["a", None], "required": None}}],
            [{"type": "function", "function": {"name": "f", "parameters": {"enum": ["a", None]}}}],
        ),
    ],
)
def test_tools_are_read_as_a_list_or_its_text(reader: ModuleType, tools: Any, read: Any) -> None:
    assert reader.read_tools(tools) == read


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ("[", "tools is text that is not JSON"),
        ({"a": 1}, "tools is an object, not a list of tools"),
        ([{"name": "f", "parameters": nested(2000)}], "tools.0 is nested too deeply to be read"),
        ([{"type": "function"}], "tools.0 has no function with a name"),
        (["f"], "tools.0 has no function with a name"),
    ],
)
def test_a_tool_that_cannot_be_read_is_named(reader: ModuleType, tools: Any, reason: str) -> None:
    with pytest.raises(reader.ConversationError, match=reason):
        reader.read_tools(tools)


def test_what_rendering_itself_is_told_is_no_variable_of_a_template(reader: ModuleType) -> None:
    assert reader.read_settings({"enable_thinking": False, "x": None}) == {"enable_thinking": False}
    with pytest.raises(reader.ConversationError, match=r"chat_template_kwargs\.chat_template is not a variable"):
        reader.read_settings({"chat_template": "{{ 1 }}"})
    with pytest.raises(reader.ConversationError, match="is a list, not an object"):
        reader.read_settings([])


def test_fields_that_nothing_reads_are_counted(reader: ModuleType) -> None:
    messages = reader.read_messages([USER | {"wieght": 0, "id": "m"}, said(wieght=0, refusal=None)])
    assert reader.unread(messages) == {"wieght": 2}
