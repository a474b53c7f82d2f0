"""Calls as formats: what a model must write, in the form of its family, when a request forces it to call a tool."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from emulator.core.answer_format import Json, OneOf, Part, Words
from emulator.core.errors import InvalidArgument

_HARMLESS = {"type", "title", "description", "default", "examples", "$schema", "$defs", "definitions"}
_OF_OBJECTS = _HARMLESS | {"properties", "required", "additionalProperties", "strict"}
_OF_TEXTS = _HARMLESS | {"minLength", "maxLength", "enum", "const"}
_REFERENCES = ("$defs", "definitions")


@dataclass(frozen=True)
class Wanted:
    """The call that is to be written."""

    name: str
    parameters: Mapping[str, Any]
    """The schema of the arguments."""
    number: int
    """How many calls stand before it in the conversation."""


Write = Callable[[Wanted], list[Part]]
"""The parts of one call; raises InvalidArgument where the family cannot write what the schema asks for."""


def as_json(before: str, after: str) -> Write:
    """Arguments as one JSON object; `{name}` and `{number}` in the text before it are the call's."""

    def write(wanted: Wanted) -> list[Part]:
        told = before.replace("{name}", wanted.name).replace("{number}", str(wanted.number))
        return [told, Json(wanted.parameters), after]

    return write


@dataclass(frozen=True)
class OneByOne:
    """Arguments one after another: those that are text as bare text, all others as JSON.

    `{name}` is the function's, `{key}` that of the argument, `{is_text}` true or false.
    """

    before: str
    after: str
    key: str
    end: str
    without: tuple[str, ...] = ()
    """What bare text may not hold, for it would end the call."""

    def __call__(self, wanted: Wanted) -> list[Part]:
        """The parts of one call; raises InvalidArgument."""
        return [self.before.replace("{name}", wanted.name), *self._arguments(wanted), self.after]

    def _arguments(self, wanted: Wanted) -> Iterator[Part]:
        schema = wanted.parameters
        properties, required = schema.get("properties", {}), schema.get("required", ())
        if unknown := sorted(set(schema) - _OF_OBJECTS | set(required) - set(properties)):
            raise _refusal(wanted.name, unknown[0])
        shared = {group: schema[group] for group in _REFERENCES if group in schema}
        for key, given in properties.items():
            argument = self._argument(wanted.name, key, given, shared)
            yield from argument if key in required else [OneOf([argument, []])]

    def _argument(self, name: str, key: str, given: Any, shared: Mapping[str, Any]) -> list[Part]:
        is_text = isinstance(given, Mapping) and given.get("type") == "string"
        begun = self.key.replace("{key}", key).replace("{is_text}", str(is_text).lower())
        if not is_text:
            return [begun, Json({**given, **shared} if isinstance(given, Mapping) else {}), self.end]
        if unknown := sorted(set(given) - _OF_TEXTS):
            raise _refusal(name, f"{unknown[0]} of {key}")
        if "enum" in given or "const" in given:
            values = given.get("enum", [given.get("const")])
            return [begun, OneOf([[str(value) + self.end] for value in values])]
        return [begun, Words(self.end, self.without, given.get("minLength", 0), given.get("maxLength"))]


def _refusal(name: str, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"a call of {name!r} cannot be forced exactly: this model writes arguments one by one as text, and {what!r} in "
        'the parameters says something that such text cannot be held to; send tool_choice "auto", or leave it out'
    )
