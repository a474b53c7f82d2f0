"""Readers of tool calls in a chat model's text, each for the form in which families of models write them.

A reader takes what stands behind the text that begins calls, and reads it as soon as it is whole. Some families write
values as bare text: there the tool's schema says whether `5` is a number or a text, and without one it is what it is as
JSON.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Schemas = Mapping[str, Mapping[str, Any]]
"""The parameters' schemas of a request's tools by name."""
_NAMED = {"True": True, "False": False, "None": None}
"""What templates write for values that they show as the template language does."""


@dataclass(frozen=True)
class Call:
    """One call; `call_id` is "" where the family writes none."""

    name: str
    arguments: object
    call_id: str = ""


@dataclass(frozen=True)
class Found:
    """The calls in a text, none where it is nonsense, and how many characters they take."""

    calls: Sequence[Call]
    used: int


Read = Callable[[str, bool, Schemas], Found | None]
"""Reads the text behind a beginning; None while it is not whole. The flag says that no more will come."""


def schemas_of(tools: Sequence[Mapping[str, Any]]) -> Schemas:
    """The schemas of the parameters of tools, as a request has them."""
    functions = [tool.get("function", tool) for tool in tools]
    return {str(one.get("name")): one.get("parameters") or {} for one in functions if isinstance(one, Mapping)}


def until(end: str, calls: Callable[[str, Schemas], Iterator[Call]]) -> Read:
    """Read what stands before `end`; a ValueError inside says that it is nonsense."""

    def read(text: str, ended: bool, schemas: Schemas) -> Found | None:
        inside, closed, _ = text.partition(end)
        if not closed:
            return None
        used = len(inside) + len(end)
        try:
            return Found(list(calls(inside, schemas)), used)
        except ValueError:
            return Found((), used)

    return read


def _between(text: str, before: str, after: str) -> tuple[str, str]:
    """The text between two markers, and what follows them; raises ValueError where one is missing."""
    _, found, rest = text.partition(before)
    inside, closed, behind = rest.partition(after)
    if not found or not closed:
        raise ValueError(f"no {before} with its {after}")
    return inside, behind


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("arguments are an object")
    return value


def json_call(inside: str, schemas: Schemas) -> Iterator[Call]:
    call = _object(inside)
    if not isinstance(call.get("name"), str):
        raise ValueError("a call has a name")
    yield Call(call["name"], call.get("arguments", {}))


def _value(raw: str, schema: object) -> Any:
    """A value that is written as bare text."""
    kinds = _kinds(schema)
    if kinds == {"string"}:
        return raw
    try:
        value = _NAMED[raw] if raw in _NAMED else json.loads(raw)
    except ValueError:
        return raw
    return raw if "string" in kinds and _kind(value) not in kinds else value


def _kinds(schema: object) -> set[str]:
    """The JSON types that a schema allows; none where it does not say."""
    if not isinstance(schema, Mapping):
        return set()
    kinds = schema.get("type", ())
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    found |= {_kind(value) for value in schema.get("enum", ())}
    found |= {_kind(schema["const"])} if "const" in schema else set()
    for group in ("anyOf", "oneOf"):
        for one in schema.get(group, ()):
            found |= _kinds(one)
    return found | ({"integer"} if "number" in found else set())


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
    return "array" if isinstance(value, list) else "object"


def _property(schemas: Schemas, name: str, key: str) -> object:
    properties = schemas.get(name, {}).get("properties", {})
    return properties.get(key) if isinstance(properties, Mapping) else None


def functions(inside: str, schemas: Schemas) -> Iterator[Call]:
    """`<function=add>\n<parameter=a>\n1\n</parameter>\n</function>`."""
    name, body = _between(inside, "<function=", ">")
    body, closed, _ = body.rpartition("</function>")
    if not closed:
        raise ValueError("a function is closed")
    yield Call(name, {key: _value(_line(raw), _property(schemas, name, key)) for key, raw in _PARAMETER.findall(body)})


_PARAMETER = re.compile(r"<parameter=([^>\n]+)>(.*?)</parameter>\s*(?=<parameter=|$)", re.DOTALL)
_KEY = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>\s*(?=<arg_key>|$)", re.DOTALL)


def _line(text: str) -> str:
    """A text without the newline before and behind it."""
    return text.removeprefix("\n").removesuffix("\n")


def keys(inside: str, schemas: Schemas) -> Iterator[Call]:
    """`add<arg_key>a</arg_key><arg_value>1</arg_value>`, with or without newlines between."""
    name = inside.partition("<arg_key>")[0].strip()
    if not name or "\n" in name:
        raise ValueError("a call has a name")
    yield Call(name, {key: _value(raw, _property(schemas, name, key)) for key, raw in _KEY.findall(inside)})


def invokes(mark: str) -> Callable[[str, Schemas], Iterator[Call]]:
    """`<invoke name="add"><parameter name="a">1</parameter></invoke>`, each tag's name behind `mark`.

    Where a parameter says `string="false"` its value is JSON, with `string="true"` a text.
    """
    tag = re.escape(mark)
    parameter = re.compile(
        rf'<{tag}parameter name="([^"]*)"(?: string="(true|false)")?>(.*?)</{tag}parameter>\s*(?=<{tag}parameter |$)',
        re.DOTALL,
    )

    def read(inside: str, schemas: Schemas) -> Iterator[Call]:
        while f"<{mark}invoke name=" in inside:
            body, inside = _between(inside, f"<{mark}invoke name=", f"</{mark}invoke>")
            name, body = _between(body, '"', '">')
            arguments: dict[str, Any] = {}
            for key, told, raw in parameter.findall(body):
                schema = {"type": "string"} if told == "true" else _property(schemas, name, key)
                arguments[key] = json.loads(raw) if told == "false" else _value(raw, schema)
            yield Call(name, arguments)

    return read


def deepseek(inside: str, schemas: Schemas) -> Iterator[Call]:
    """`<｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜>`, one after another.

    Earlier tokenizers of the family write `function`, then the name on a line of its own, then a block of JSON.
    """
    while "<｜tool▁call▁begin｜>" in inside:
        call, inside = _between(inside, "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>")
        name, _, arguments = call.partition("<｜tool▁sep｜>")
        if name == "function" and "\n```json\n" in arguments:
            name, _, arguments = arguments.partition("\n```json\n")
            arguments = arguments.removesuffix("\n```")
        yield Call(name, _object(arguments))


def kimi(inside: str, schemas: Schemas) -> Iterator[Call]:
    """`<|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>`, one after another."""
    while "<|tool_call_begin|>" in inside:
        call, inside = _between(inside, "<|tool_call_begin|>", "<|tool_call_end|>")
        call_id, _, arguments = call.partition("<|tool_call_argument_begin|>")
        name, _, number = call_id.strip().removeprefix("functions.").rpartition(":")
        if not name or not number.isdigit():
            raise ValueError("a call's id names its function")
        yield Call(name, _object(arguments), call_id.strip())


def gemma(inside: str, schemas: Schemas) -> Iterator[Call]:
    """`call:add{"a": 1}`."""
    name, brace, rest = inside.partition("{")
    if not name.startswith("call:"):
        raise ValueError("a call begins with call:")
    yield Call(name.removeprefix("call:"), _object(brace + rest))


def _value_at(text: str, ended: bool) -> tuple[Any, int] | None:
    """The JSON value that a text begins with and where it ends; None while it may go on, ValueError for nonsense."""
    try:
        return json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError:
        if ended or (text and text[0] not in "{["):
            raise
        return None


def mistral(text: str, ended: bool, schemas: Schemas) -> Found | None:
    """`add[ARGS]{"a": 1}`, or a list of objects."""
    name, found, _ = text.partition("[ARGS]")
    listed = text.lstrip().startswith("[{")
    if not found and not listed:
        return Found((), len(text)) if ended else None
    begun = len(text) - len(text.lstrip()) if listed else len(name) + len(found)
    try:
        read = _value_at(text[begun:], ended)
        if read is None:
            return None
        calls = [one for value in read[0] for one in json_call(json.dumps(value), schemas)] if listed else []
        return Found(calls or [Call(name.strip(), read[0])], begun + read[1])
    except ValueError:
        return Found((), begun)


def harmony(text: str, ended: bool, schemas: Schemas) -> Found | None:
    """`add<|channel|>commentary <|constrain|>json<|message|>{"a": 1}<|call|>`; the last token is no text."""
    head, found, rest = text.partition("<|message|>")
    inside, called, _ = rest.partition("<|call|>")
    if not called and not ended:
        return None
    used = len(head) + len(found) + len(inside) + len(called)
    name = head.partition("<|")[0].partition(" ")[0]
    try:
        return Found([Call(name, _object(inside))] if found and name else (), used)
    except ValueError:
        return Found((), used)


def llama(text: str, ended: bool, schemas: Schemas) -> Found | None:
    """`"add", "parameters": {"a": 1}}`: the rest of an object that begins with a name."""
    whole = LLAMA + text
    try:
        read = _value_at(whole, ended)
    except ValueError:
        return Found((), len(text))
    if read is None:
        return None
    call, used = read
    arguments = call.get("parameters", call.get("arguments"))
    name = call["name"]
    known = isinstance(name, str) and name in schemas and isinstance(arguments, dict)
    return Found([Call(name, arguments)] if known else (), used - len(LLAMA))


LLAMA = '{"name": '
