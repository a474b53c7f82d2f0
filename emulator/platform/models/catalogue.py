"""Models, training shapes and deployment shapes that exist from the start (WIRE 1.5, 1.6, 10).

The table of `emulator.core.catalogue` as it was on the platform's date, names of its families, and what a configuration
file or `--model NAME=FOLDER` adds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from emulator.backend import BaseModel
from emulator.core import catalogue as table
from emulator.core.errors import InvalidArgument, NotFound
from emulator.core.names import resource, split_resource
from emulator.platform.models import files as reading, folders
from emulator.platform.models.facts import (
    MODES,
    CatalogueModel,
    DeploymentShape,
    Shape,
    TrainingShape,
    qualify,
)

LATEST = "latest"
_DEFAULT_SHAPES = {"policy": MODES[0], "forward-only": MODES[1], "lora": MODES[2]}
_DEFAULT_NAME = re.compile(r"accounts/([^/]+)/trainingShapes/ts-([^/]+)-(policy|forward-only|lora)")
_MODEL_NAME = re.compile(r"accounts/[a-z0-9-]+/models/[A-Za-z0-9._-]+")
S = TypeVar("S", bound=Shape)


@dataclass
class Catalogue:
    """Everything that exists before the first request, on the platform of a date. Names are full resource names."""

    platform: str = table.NEWEST
    files: tuple[Path, ...] = ()
    folders: dict[str, Path] = field(default_factory=dict)
    """Additions to the table: files that declare more, and folders by name."""
    models: dict[str, CatalogueModel] = field(default_factory=dict)
    training_shapes: dict[str, TrainingShape] = field(default_factory=dict)
    deployment_shapes: dict[str, DeploymentShape] = field(default_factory=dict)

    @classmethod
    def load(cls, *extra: Path, platform: str = table.NEWEST) -> "Catalogue":
        """The table as it was then, and TOML or YAML files on top; raises InvalidArgument naming file and entry."""
        catalogue = cls(files=extra)
        catalogue.move_to(platform)
        return catalogue

    def move_to(self, platform: str) -> None:
        """Hold what the platform of this date has, and what was added; raises InvalidArgument for a bad file."""
        self.platform = platform
        for kept in (self.models, self.training_shapes, self.deployment_shapes):
            kept.clear()
        self._add_table()
        for path in self.files:
            self.add_file(path)
        for name, folder in list(self.folders.items()):
            self.add_model(name, folder)

    def add_file(self, path: Path) -> None:
        """Add the models and shapes that a TOML or YAML file declares; raises InvalidArgument."""
        sections = reading.read(path)
        if unknown := set(sections) - {"models", "training_shapes", "deployment_shapes"}:
            raise InvalidArgument(f"{path}: unknown section {sorted(unknown)[0]!r}")
        for name, facts in reading.entries(path, sections, "models"):
            model = reading.build(CatalogueModel, path, name, reading.rooted(facts, path.parent))
            if model.folder is not None and (model.folder / "adapter_config.json").exists():
                raise InvalidArgument(
                    f"{path}: {name}: {model.folder} is an adapter, and the catalogue holds base models: "
                    "promote it, or hot-load it onto a deployment of its base"
                )
            self._declare(model)
        for name, facts in reading.entries(path, sections, "deployment_shapes"):
            deployment = reading.build(DeploymentShape, path, name, reading.qualified(facts))
            self._check(path, deployment)
            self.deployment_shapes[deployment.name] = deployment
        for name, facts in reading.entries(path, sections, "training_shapes"):
            training = reading.build(TrainingShape, path, name, reading.with_deployment(reading.qualified(facts)))
            self._check(path, training)
            if training.trainer_mode not in MODES:
                raise InvalidArgument(f"{path}: {name}: trainer_mode is one of {', '.join(MODES)}")
            if training.deployment_shape not in self.deployment_shapes:
                raise InvalidArgument(f"{path}: {name}: unknown deployment shape {training.deployment_shape}")
            self.training_shapes[training.name] = training

    def add_model(self, name: str, folder: Path) -> CatalogueModel:
        """Put real weights (a Hugging Face folder) behind a name, old or new; raises InvalidArgument."""
        full = qualify(name, "models")
        if why := folders.why_unusable(folder):
            raise InvalidArgument(f"--model {name}: {folder} {why}")
        facts, known = folders.read(folder), self.model(full)
        model = CatalogueModel(
            name=full,
            model_type=facts.model_type,
            parameter_count=facts.parameter_count,
            context_length=facts.context_length or (known.context_length if known else 0),
            tokenizer=known.tokenizer if known else "",
            moe=facts.moe,
            folder=folder.resolve(),
        )
        self.folders[name] = folder
        self._declare(model)
        return model

    def model(self, name: str) -> CatalogueModel | None:
        """The model of this full name: a declared one, or one that its family stands for; None for any other."""
        if (declared := self.models.get(name)) is not None:
            return declared
        facts = table.find(name)
        return None if facts is None or facts.since > self.platform else self._as_model(facts)

    def why_unknown(self, name: str) -> str:
        """Say why `model` has nothing of this name, and what to do."""
        return table.why_unknown(name, self.platform)

    def shapes_named_in(self, text: str) -> dict[str, TrainingShape]:
        """All declared training shapes, and those of models that a request names and only their families know."""
        names = _MODEL_NAME.findall(text)
        names += [resource(account, "models", short) for account, short, _ in _DEFAULT_NAME.findall(text)]
        others: dict[str, TrainingShape] = {}
        for name in names:
            if name not in self.models and (model := self.model(name)) is not None:
                others |= {shape.name: shape for shape in _own_shapes(model)}
        return self.training_shapes | others

    def base_model(self, name: str) -> BaseModel:
        """Return what the backend is asked for; raises NotFound."""
        if (model := self.model(name)) is None:
            raise NotFound(f"model {name[:200]!r} not found: {self.why_unknown(name)}")
        return BaseModel(name, model.folder, model.model_type or "qwen3", model.moe, model.tokenizer)

    def training_shape(self, reference: str) -> tuple[TrainingShape, str]:
        """Shape and version (the latest if none is named) of a shape or version name; raises NotFound."""
        name = reference.partition("/versions/")[0]
        return _find(self.training_shapes if name in self.training_shapes else self.shapes_named_in(name), reference)

    def deployment_shape(self, reference: str) -> tuple[DeploymentShape, str]:
        """Find a deployment shape as `training_shape` does a training shape."""
        name = reference.partition("/versions/")[0]
        if name not in self.deployment_shapes and "/deploymentShapes/ds-" in name:
            model = self.model(name.replace("/deploymentShapes/ds-", "/models/", 1))
            others = {name: _own_deployment(model)} if model else {}
            return _find(others, reference)
        return _find(self.deployment_shapes, reference)

    def _add_table(self) -> None:
        """Declare what the platform of this date has."""
        for facts in table.table().models.values():
            if facts.since <= self.platform:
                self._declare(self._as_model(facts))
        for shape in table.table().shapes.values():
            if shape.since <= self.platform and shape.base_model in self.models:
                self._add_shape(shape)

    def _as_model(self, facts: table.ModelFacts) -> CatalogueModel:
        flags = tuple(flag.partition("@")[0] for flag in facts.flags if flag.partition("@")[2] <= self.platform)
        return CatalogueModel(
            facts.name,
            facts.model_type,
            facts.parameter_count,
            facts.context_length,
            facts.tokenizer,
            "EMBEDDING_MODEL" if "-embedding-" in facts.name else "HF_BASE_MODEL",
            facts.moe,
            training_context_length=facts.training_context_length,
            flags=flags,
            created=facts.created,
            serverless=facts.serverless,
            display_name=facts.display_name,
        )

    def _add_shape(self, facts: table.ShapeFacts) -> None:
        """Declare a training shape, and the deployment shape that it names."""
        deployment, _, version = facts.deployment_shape.partition("/versions/")
        if deployment:
            known = DeploymentShape(deployment, facts.base_model, versions=(version or "v1",))
            if facts.accelerator_type:
                known = replace(known, accelerator_type=facts.accelerator_type)
            self.deployment_shapes.setdefault(deployment, known)
        shape = TrainingShape(
            facts.name,
            facts.base_model,
            facts.max_context_length,
            facts.trainer_mode,
            deployment_shape=deployment or _own_deployment(self.models[facts.base_model]).name,
        )
        self.training_shapes[facts.name] = replace(
            shape,
            accelerator_type=facts.accelerator_type or shape.accelerator_type,
            accelerator_count=facts.accelerator_count or shape.accelerator_count,
            node_count=facts.node_count or shape.node_count,
            versions=(facts.version,) if facts.version else shape.versions,
        )

    def _declare(self, model: CatalogueModel) -> None:
        """Add a model, and the shapes that every model has."""
        self.models[model.name] = model
        deployment = _own_deployment(model)
        self.deployment_shapes.setdefault(deployment.name, deployment)
        for shape in _own_shapes(model):
            self.training_shapes.setdefault(shape.name, shape)

    def _check(self, path: Path, shape: Shape) -> None:
        if shape.base_model not in self.models:
            raise InvalidArgument(f"{path}: {shape.name}: unknown base model {shape.base_model}")


def _own_deployment(model: CatalogueModel) -> DeploymentShape:
    account, short = split_resource(model.name, "models")
    return DeploymentShape(resource(account, "deploymentShapes", f"ds-{short}"), model.name)


def _own_shapes(model: CatalogueModel) -> list[TrainingShape]:
    """`ts-<model>-policy`, `-forward-only` and `-lora`, which every model has here."""
    account, short = split_resource(model.name, "models")
    deployment = _own_deployment(model).name
    return [
        TrainingShape(
            resource(account, "trainingShapes", f"ts-{short}-{suffix}"),
            model.name,
            model.context_length,
            mode,
            deployment_shape=deployment,
        )
        for suffix, mode in _DEFAULT_SHAPES.items()
        if model.supports_lora or mode != "LORA_TRAINER"
    ]


def _find(shapes: Mapping[str, S], reference: str) -> tuple[S, str]:
    name, slash, version = reference.partition("/versions/")
    if name not in shapes or (slash and version not in (*shapes[name].versions, LATEST)):
        raise _not_found(reference)
    versions = shapes[name].versions
    return shapes[name], version if version in versions else versions[-1]


def _not_found(reference: str) -> NotFound:
    what = "deployment shape" if "/deploymentShapes/" in reference else "training shape"
    return NotFound(f"{what} {reference[:200]!r} not found: check the name, and the version, in the list of {what}s")


def versions(shapes: Mapping[str, S], collection: str, account: str = "-", shape: str = "-") -> list[tuple[S, str]]:
    """Every (shape, version) below a parent in which `-` stands for any, in declared order (WIRE 1.3).

    Raises NotFound for a shape that is named and not there (WIRE 1.6).
    """
    found = []
    for known in shapes.values():
        _, owner, _, short = known.name.split("/")
        if account in ("-", owner) and shape in ("-", short):
            found += [(known, version) for version in known.versions]
    if not found and "-" not in (account, shape):
        raise _not_found(resource(account, collection, shape))
    return found
