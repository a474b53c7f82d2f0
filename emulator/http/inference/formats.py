"""Forms that an answer must have: JSON (`response_format`), or a call of a tool (`tool_choice`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from emulator.core.answer_format import Format, Json, OneOf
from emulator.core.errors import InvalidArgument
from emulator.http.inference.call_forms import CallForm
from emulator.http.inference.call_text import Wanted


def response_format(given: object) -> Format | None:
    """The format that `response_format` asks for, None for plain text; raises InvalidArgument."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise InvalidArgument('response_format must be an object such as {"type": "json_object"}')
    match given.get("type"):
        case "text":
            return None
        case "json_object":
            return [Json(_schema(given.get("schema", {"type": "object"}), "response_format.schema"))]
        case "json_schema":
            wrapped = given.get("json_schema")
            inside = wrapped.get("schema") if isinstance(wrapped, Mapping) else None
            return [Json(_schema(inside, "response_format.json_schema.schema"))]
        case other:
            raise InvalidArgument(
                f"response_format of type {str(other)[:60]!r} is not supported: use json_schema, json_object or text"
            )


def tool_call(
    choice: object, tools: Sequence[Mapping[str, Any]], form: CallForm, number: int, before: str
) -> Format | None:
    """The format of a call that `tool_choice` forces, None where the model decides; raises InvalidArgument.

    `form` is how the model's family writes calls, `number` how many stand before it in the conversation, and `before`
    the text that must come first.
    """
    if choice in ("auto", "none"):
        return None
    functions = {tool["function"]["name"]: tool["function"] for tool in tools}
    if choice in ("required", "any"):
        chosen = list(functions)
    elif isinstance(choice, Mapping) and choice.get("type", "function") != "function":
        raise InvalidArgument(
            f"tool_choice of type {str(choice['type'])[:40]!r} is not supported: send the tools that may be called, "
            'and "auto", "required", or the name of a function'
        )
    elif isinstance(choice, Mapping):
        function = choice.get("function", choice)
        chosen = [str(function.get("name"))] if isinstance(function, Mapping) else []
    else:
        raise InvalidArgument(
            f'tool_choice is {str(choice)[:60]!r}: use "auto", "none", "required" or '
            '{"type": "function", "function": {"name": ...}}'
        )
    if not chosen:
        raise InvalidArgument("tool_choice asks for a call, and there are no tools: send tools, or leave it out")
    if unknown := [name for name in chosen if name not in functions]:
        raise InvalidArgument(f"tool_choice names {unknown[0][:60]!r}; the tools are {', '.join(functions) or 'none'}")
    write = form.write
    ways = [write(Wanted(name, _parameters(functions[name]), number)) for name in chosen]
    return [before, *ways[0]] if len(ways) == 1 else [before, OneOf(ways)]


def _parameters(function: Mapping[str, Any]) -> dict[str, Any]:
    return _schema(function.get("parameters") or {"type": "object"}, f"parameters of the tool {function['name']!r}")


def _schema(given: object, where: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{where} must be a JSON schema, an object")
    return dict(given)
