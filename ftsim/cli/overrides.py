"""Configurations from text: nested keys and values become a dataclass, typed by its fields."""

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

Tree = dict[str, Any]
T = TypeVar("T")


class OverrideError(ValueError):
    """A key or a value that the configuration does not take."""


def read_yaml(path: Path) -> Tree:
    """The mapping in a YAML file; keys may be nested, dotted or both."""
    try:
        loaded = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise OverrideError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OverrideError(f"{path} is not YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise OverrideError(f"{path} must hold a mapping of keys to values")
    return merged({}, {str(key): value for key, value in loaded.items()})


def read_assignments(words: list[str]) -> Tree:
    """`key=value` words, of which the last one for a key counts."""
    tree: Tree = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise OverrideError(f"{word!r} is not key=value")
        tree = merged(tree, {key.strip(): value})
    return tree


def merged(tree: Tree, more: Mapping[str, Any]) -> Tree:
    """`tree` with the values of `more` on top; a dotted key reaches into the mapping of that name."""
    result = dict(tree)
    for key, value in more.items():
        first, dot, rest = key.partition(".")
        if dot:
            value = {rest: value}
        if isinstance(value, dict):
            inner = result.get(first)
            value = merged(inner if isinstance(inner, dict) else {}, {str(name): one for name, one in value.items()})
        result[first] = value
    return result


def build(cls: type[T], tree: Mapping[str, Any], prefix: str = "") -> T:
    """An instance of the dataclass; `OverrideError` names an unknown, missing or ill-typed key.

    A setting that other recipes have, and what the dataclass itself refuses in `__post_init__`, is `ConfigError`.
    """
    from ftsim.training.config_forms import refuse_elsewhere

    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in fields:
            if not prefix:
                refuse_elsewhere(cls.__module__, [key])
            raise OverrideError(f"there is no {prefix}{key}{_meant(prefix, key, list(fields))}")
        hint = _settings(hints[key])
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, Mapping):
                raise OverrideError(f"{prefix}{key} holds settings of its own: write {prefix}{key}.NAME=VALUE")
            values[key] = build(hint, value, f"{prefix}{key}.")
        else:
            values[key] = _value(hint, value, prefix + key)
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise OverrideError(f"{prefix}{missing[0]} is required")
    return cls(**values)


def _settings(hint: Any) -> Any:
    """The dataclass in `Settings | None`, which a user of a key within it means; any other hint as it is."""
    inner = [one for one in get_args(hint) if one is not NoneType]
    return inner[0] if len(inner) == 1 and dataclasses.is_dataclass(inner[0]) else hint


def _value(hint: Any, value: Any, key: str) -> Any:
    if isinstance(value, str) and value.lower() in ("null", "none") and NoneType in get_args(hint):
        return None
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
    if isinstance(value, str):
        try:  # lists and mappings, written as YAML
            return adapter.validate_python(yaml.safe_load(value))
        except (ValidationError, yaml.YAMLError):
            pass
    raise OverrideError(f"{key}: {value!r} does not fit ({reason.lower()})")


def _meant(prefix: str, key: str, names: list[str]) -> str:
    close = difflib.get_close_matches(key, names, n=1)
    return (
        f"; did you mean {prefix}{close[0]}?" if close else f"; there are {', '.join(prefix + name for name in names)}"
    )
