"""Fields of a resource that a client sets: declared once, on a dataclass, with what the platform does with them.

The request body, the stored resource, the mask of a PATCH and the answer are all made from such a class, so that a
field has one home: `limit: int = setting(8, changeable=True)`. On the wire its name is written in camelCase.
"""

import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar, get_type_hints

T = TypeVar("T")


class Setting(NamedTuple):
    """One declared field. `key` is its name on the wire, in snake_case, `within` the object that it stands in.

    `shown` is `always`, or `set`: left out of answers while it has its default. One that is not `sent` is shown, and
    said elsewhere than in the body.
    """

    name: str
    type: Any
    make: Callable[[], Any]
    changeable: bool
    shown: str
    key: str
    within: str
    sent: bool

    @property
    def default(self) -> Any:
        """A fresh default value."""
        return self.make()


def setting(
    default: T, *, changeable: bool = False, shown: str = "set", key: str = "", within: str = "", sent: bool = True
) -> T:
    """Declare a field; `changeable` ones a PATCH may change, `key` is for one that is called otherwise on the wire.

    A mutable default is copied for each resource.
    """
    facts = {"changeable": changeable, "shown": shown, "key": key, "within": within, "sent": sent}
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=partial(copy, default), metadata=facts)
    return dataclasses.field(default=default, metadata=facts)


@cache
def settings(cls: type) -> Mapping[str, Setting]:
    """The declared fields of a class, those of its bases too, by name."""
    return types.MappingProxyType({one.name: one for one in _read(cls)})


def values(cls: type, source: object) -> dict[str, Any]:
    """The values of an object in the fields that `cls` declares."""
    return {name: getattr(source, name) for name in settings(cls)}


def _read(cls: type) -> Iterator[Setting]:
    hints = get_type_hints(cls)
    for one in dataclasses.fields(cls):
        if "shown" in one.metadata:
            make = one.default_factory
            if make is dataclasses.MISSING:
                make = _constant(one.default)
            facts: dict[str, Any] = {**one.metadata, "key": one.metadata["key"] or one.name}
            yield Setting(one.name, hints[one.name], make, **facts)


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value
