"""Reads files that declare more models and shapes, in TOML or YAML; what is wrong is named with file and entry."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from emulator.core.errors import InvalidArgument
from emulator.platform.models.facts import CatalogueModel, DeploymentShape, TrainingShape, qualify

T = TypeVar("T", CatalogueModel, TrainingShape, DeploymentShape)


def read(path: Path) -> dict[str, Any]:
    try:
        value = tomllib.loads(path.read_text("utf-8")) if path.suffix == ".toml" else _yaml(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{path}: cannot read the catalogue: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArgument(f"{path}: a catalogue has the sections models, training_shapes, deployment_shapes")
    return value


def _yaml(text: str) -> Any:
    import yaml  # the built-in catalogue is TOML: no start needs this

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def entries(path: Path, sections: Mapping[str, Any], section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    collection = {"models": "models", "training_shapes": "trainingShapes"}.get(section, "deploymentShapes")
    entries = sections.get(section) or {}
    if not isinstance(entries, dict) or not all(isinstance(facts, dict) for facts in entries.values()):
        raise InvalidArgument(f"{path}: {section} maps names to facts")
    for name, facts in entries.items():
        yield qualify(str(name), collection), facts


def build(cls: type[T], path: Path, name: str, facts: Mapping[str, Any]) -> T:
    allowed = {item.name: item.type for item in fields(cls)}
    if unknown := set(facts) - set(allowed):
        raise InvalidArgument(f"{path}: {name}: unknown fact {sorted(unknown)[0]!r}")
    for key, value in facts.items():
        if isinstance(allowed[key], type) and type(value) is not allowed[key]:
            raise InvalidArgument(f"{path}: {name}: {key} is of the wrong type")
    try:
        return cls(name=name, **facts)
    except TypeError as error:
        raise InvalidArgument(f"{path}: {name}: {error}") from error


def rooted(facts: Mapping[str, Any], root: Path) -> dict[str, Any]:
    lists = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    return {key: root / str(value) if key == "folder" else value for key, value in lists.items()}


def qualified(facts: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    if "base_model" in known:
        known["base_model"] = qualify(str(known["base_model"]), "models")
    return known


def with_deployment(facts: dict[str, Any]) -> dict[str, Any]:
    account, _, short = str(facts.get("base_model", "")).removeprefix("accounts/").partition("/models/")
    named = facts.get("deployment_shape")
    default = f"accounts/{account}/deploymentShapes/ds-{short}"
    return {**facts, "deployment_shape": qualify(str(named), "deploymentShapes") if named else default}
