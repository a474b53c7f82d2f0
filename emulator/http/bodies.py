"""Request bodies: models that say of every field a client can send whether it acts, changes nothing, or is refused.

Fields of the model act. `ignored` names fields that are accepted and change nothing here, each with the reason.
`refused` names those that would change something which the emulator does not do. Others, which no known client sends,
are accepted, and echoed where the resource shows them.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, NamedTuple, TypeVar

import orjson
from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict, ValidationError, create_model
from pydantic.alias_generators import to_camel, to_snake
from pydantic_core import ErrorDetails
from starlette.requests import Request

from emulator.core.errors import InvalidArgument, UnknownField
from emulator.core.settings import settings

M = TypeVar("M", bound="Body")
TOO_DEEP = "the request body is nested too deeply to be read"


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

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="allow", protected_namespaces=(), defer_build=True
    )

    ignored: ClassVar[Ignored] = {}
    refused: ClassVar[Refused] = {}


def _either(name: str) -> AliasChoices:
    return AliasChoices(name, to_camel(name))


class SnakeBody(Body):
    """A request body that is documented in snake_case, as in OpenAI's API and in the trainer gateway."""

    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=_either))


def takes(cls: type, within: str = "") -> Callable[[type[M]], type[M]]:
    """Give a body the settings that `cls` declares for it, or for the object of this name in it."""
    fields: dict[str, Any] = {
        one.key: (one.type, one.default) for one in settings(cls).values() if one.sent and one.within == within
    }

    def grown(body: type[M]) -> type[M]:
        return create_model(body.__name__, __base__=body, __module__=body.__module__, __doc__=body.__doc__, **fields)

    return grown


def said(sent: Body, cls: type) -> dict[str, Any]:
    """Read the settings that `cls` declares out of a body, by their names there."""
    return {
        name: getattr(getattr(sent, one.within) if one.within else sent, one.key)
        for name, one in settings(cls).items()
        if one.sent
    }


def unsaid(raw: Mapping[str, Any], cls: type, *beside: str) -> dict[str, Any]:
    """The rest of a body: what is echoed, since neither `cls` declares it nor `beside` names it (in snake_case)."""
    known = {*beside, *(one.key for one in settings(cls).values() if one.sent and not one.within)}
    return {key: value for key, value in raw.items() if to_snake(key) not in known}


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
    try:
        raw = _without_nulls(parse(await request.body()))
    except RecursionError:
        raise InvalidArgument(TOO_DEEP) from None
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
