"""Request bodies: models that say of every field a client can send whether it acts, changes nothing, or is refused.

Fields of the model act. `ignored` names fields that are accepted and change nothing here, each with the reason.
`refused` names those that would change something which the emulator does not do. Others, which no known client sends,
are accepted, and echoed where the resource shows them.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, NamedTuple, TypeVar

import orjson
from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.alias_generators import to_camel, to_snake
from pydantic_core import ErrorDetails
from starlette.requests import Request

from emulator.core.errors import InvalidArgument, UnknownField
from emulator.core.settings import Setting, settings

M = TypeVar("M", bound="Body")


class Refusal(NamedTuple):
    """A field that is refused: why, and the values that are accepted since they change nothing.

    Without such values every one that says something (true, not zero, not empty) is refused.
    """

    why: str
    neutral: tuple[Any, ...] = ()
    unknown: bool = False
    """True where the service says that it does not know the field, and clients go by that."""

    def check(self, name: str, value: Any) -> None:
        """Raises InvalidArgument unless the value changes nothing."""
        if value in self.neutral if self.neutral else not value:
            return
        instead = f", or send {orjson.dumps(self.neutral[0]).decode()}" if self.neutral else ""
        if self.unknown:
            raise UnknownField(name)
        raise InvalidArgument(f"{name} is not supported: leave it out{instead}; {self.why}")


Ignored = Mapping[str, str]
Refused = Mapping[str, Refusal]


class Body(BaseModel):
    """A request body: camelCase or snake_case, null means absent, unknown fields are kept."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", protected_namespaces=())

    ignored: ClassVar[Ignored] = {}
    refused: ClassVar[Refused] = {}


def _either(name: str) -> AliasChoices:
    return AliasChoices(name, to_camel(name))


class SnakeBody(Body):
    """A request body that is documented in snake_case, as in OpenAI's API and in the trainer gateway."""

    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=_either))


def settings_body(cls: type, ignored: Ignored, refused: Refused | None = None) -> type[Body]:
    """A body with the settings that `cls` declares (`emulator.core.settings`)."""
    fields: dict[str, Any] = {name: (one.type, _field(one)) for name, one in settings(cls).items()}
    made = create_model(cls.__name__, __base__=Body, __doc__=cls.__doc__, **fields)
    made.ignored, made.refused = ignored, refused or {}
    return made


def _field(one: Setting) -> Any:
    return Field(default_factory=one.make)


async def body(request: Request) -> dict[str, Any]:
    """The JSON object in the body, `{}` when there is none; raises InvalidArgument."""
    return parse(await request.body())


def parse(raw: bytes) -> dict[str, Any]:
    """A JSON object; raises InvalidArgument for anything else."""
    if not raw:
        return {}
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"the request body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgument("the request body must be a JSON object")
    return value


async def read_body(request: Request, cls: type[M]) -> tuple[M, dict[str, Any]]:
    """The body as `cls` and as it was sent.

    Raises InvalidArgument that names the first wrong field, or one that is refused.
    """
    raw = _without_nulls(parse(await request.body()))
    refuse(raw, cls)
    try:
        return cls.model_validate(raw), raw
    except ValidationError as error:
        found = [(_as_sent(raw, one), one["msg"]) for one in error.errors()]
        field = found[0][0]
        said = dict.fromkeys(message for other, message in found if other == field)  # several where it may be several
        raise InvalidArgument(f"invalid field {'.'.join(field)[:120]!r}: {'; or '.join(said)}") from None


def refuse(raw: Mapping[str, Any], cls: type[Body]) -> None:
    """Name a field that would change something which is not done here; raises InvalidArgument."""
    for name, refusal in cls.refused.items():
        for spelling in spellings(name):
            if spelling in raw:
                refusal.check(spelling, raw[spelling])


@cache
def spellings(name: str) -> frozenset[str]:
    """The spellings of a field: in snake_case and in camelCase."""
    return frozenset((name, to_snake(name), to_camel(to_snake(name))))


def _as_sent(raw: Any, error: ErrorDetails) -> list[str]:
    """The path to a field in the spelling that the request used, without what a type of several calls its members."""
    names = []
    for part in error["loc"]:
        name = to_snake(part) if isinstance(part, str) and isinstance(raw, dict) and part not in raw else part
        there = name in raw if isinstance(raw, dict) else isinstance(raw, list) and isinstance(name, int)
        if not there and error["type"] != "missing":
            break
        raw = raw[name] if there else None
        names.append(str(name))
    return names


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    pruned = {key: _without_nulls(item) if isinstance(item, dict) else item for key, item in value.items()}
    return {key: item for key, item in pruned.items() if item is not None}
