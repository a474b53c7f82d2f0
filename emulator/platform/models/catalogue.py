"""Models, training shapes and deployment shapes that exist from the start (WIRE 1.5, 1.6, 10).

Declared data, plus what a configuration file or `--model NAME=FOLDER` adds.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from emulator.backend import BaseModel
from emulator.core.errors import InvalidArgument, NotFound
from emulator.core.kinds import weight_shards, why_no_model
from emulator.core.names import check_catalogue_id, is_account, split_resource

SHARED_ACCOUNT = "fireworks"
BIRTH = 1_775_001_600_000_000  # 2026-04-01T00:00:00Z, what the catalogue's resources give as createTime
MODES = ("POLICY_TRAINER", "FORWARD_ONLY", "LORA_TRAINER")
_DEFAULT_SHAPES = {"policy": MODES[0], "forward-only": MODES[1], "lora": MODES[2]}
_BUILT_IN = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True)
class CatalogueModel:
    """A model that nobody had to promote. `context_length` in tokens; `folder` holds real weights when given."""

    name: str
    model_type: str
    parameter_count: int
    context_length: int
    tokenizer: str = ""
    kind: str = "HF_BASE_MODEL"
    moe: bool = False
    supports_lora: bool = True
    folder: Path | None = None


@dataclass(frozen=True)
class TrainingShape:
    """Hardware and limits of a trainer. `versions` are oldest first, the last one is the latest validated."""

    name: str
    base_model: str
    max_context_length: int
    trainer_mode: str = "POLICY_TRAINER"
    accelerator_type: str = "NVIDIA_H200_141GB"
    accelerator_count: int = 8
    node_count: int = 1
    weight_precision: str = "BF16"
    pipeline_parallelism: int = 1
    deployment_shape: str = ""
    versions: tuple[str, ...] = ("v1",)


@dataclass(frozen=True)
class DeploymentShape:
    """Hardware of a deployment."""

    name: str
    base_model: str
    accelerator_type: str = "NVIDIA_H200_141GB"
    accelerator_count: int = 1
    precision: str = "BF16"
    versions: tuple[str, ...] = ("v1",)


Shape = TrainingShape | DeploymentShape
S = TypeVar("S", TrainingShape, DeploymentShape)
T = TypeVar("T", CatalogueModel, TrainingShape, DeploymentShape)


@dataclass
class Catalogue:
    """Everything that exists before the first request. Names are full resource names."""

    models: dict[str, CatalogueModel] = field(default_factory=dict)
    training_shapes: dict[str, TrainingShape] = field(default_factory=dict)
    deployment_shapes: dict[str, DeploymentShape] = field(default_factory=dict)

    @classmethod
    def load(cls, *extra: Path) -> "Catalogue":
        """The built-in catalogue, and TOML or YAML files on top; raises InvalidArgument naming file and entry."""
        catalogue = cls()
        for path in (_BUILT_IN, *extra):
            catalogue.add_file(path)
        return catalogue

    def add_file(self, path: Path) -> None:
        """Add the models and shapes that a TOML or YAML file declares; raises InvalidArgument."""
        sections = _read(path)
        if unknown := set(sections) - {"models", "training_shapes", "deployment_shapes"}:
            raise InvalidArgument(f"{path}: unknown section {sorted(unknown)[0]!r}")
        for name, facts in _entries(path, sections, "models"):
            model = _build(CatalogueModel, path, name, _rooted(facts, path.parent))
            if model.folder is not None and (model.folder / "adapter_config.json").exists():
                raise InvalidArgument(
                    f"{path}: {name}: {model.folder} is an adapter, and the catalogue holds base models: "
                    "promote it, or hot-load it onto a deployment of its base"
                )
            self._declare(model)
        for name, facts in _entries(path, sections, "deployment_shapes"):
            deployment = _build(DeploymentShape, path, name, _qualified(facts))
            self._check(path, deployment)
            self.deployment_shapes[deployment.name] = deployment
        for name, facts in _entries(path, sections, "training_shapes"):
            training = _build(TrainingShape, path, name, _with_deployment(_qualified(facts)))
            self._check(path, training)
            if training.trainer_mode not in MODES:
                raise InvalidArgument(f"{path}: {name}: trainer_mode is one of {', '.join(MODES)}")
            if training.deployment_shape not in self.deployment_shapes:
                raise InvalidArgument(f"{path}: {name}: unknown deployment shape {training.deployment_shape}")
            self.training_shapes[training.name] = training

    def add_model(self, name: str, folder: Path) -> CatalogueModel:
        """Put real weights (a Hugging Face folder) behind a name, old or new; raises InvalidArgument."""
        full = qualify(name, "models")
        if why := why_no_model(folder):
            raise InvalidArgument(f"--model {name}: {folder} is no Hugging Face model folder: {why}")
        config = json.loads((folder / "config.json").read_bytes())
        if method := _unreadable_quantisation(config):
            raise InvalidArgument(
                f"--model {name}: {folder} is quantised with {method}, which needs kernels that are not here: "
                "use a folder with plain weights"
            )
        text = config.get("text_config") or config  # of a model that also sees or hears
        known = self.models.get(full)
        model = CatalogueModel(
            name=full,
            model_type=config["model_type"],
            parameter_count=_parameters(folder),
            context_length=int(text.get("max_position_embeddings") or (known.context_length if known else 0)),
            tokenizer=known.tokenizer if known else "",
            moe=any(text.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts")),
            folder=folder.resolve(),
        )
        self._declare(model)
        return model

    def model(self, name: str) -> CatalogueModel | None:
        return self.models.get(name)

    def base_model(self, name: str) -> BaseModel:
        """Return what the backend is asked for; raises NotFound."""
        if (model := self.models.get(name)) is None:
            raise NotFound(f"model {name[:200]!r} not found")
        return BaseModel(name, model.folder, model.model_type, model.moe, model.tokenizer)

    def training_shape(self, reference: str) -> tuple[TrainingShape, str]:
        """Shape and version (the latest if none is named) of a shape or version name; raises NotFound."""
        return _find(self.training_shapes, reference, "training shape")

    def deployment_shape(self, reference: str) -> tuple[DeploymentShape, str]:
        """Find a deployment shape as `training_shape` does a training shape."""
        return _find(self.deployment_shapes, reference, "deployment shape")

    def _declare(self, model: CatalogueModel) -> None:
        """Add a model, and the shapes that every model has."""
        self.models[model.name] = model
        account, short = split_resource(model.name, "models")
        deployment = f"accounts/{account}/deploymentShapes/ds-{short}"
        self.deployment_shapes.setdefault(deployment, DeploymentShape(deployment, model.name))
        for suffix, mode in _DEFAULT_SHAPES.items():
            if mode == "LORA_TRAINER" and not model.supports_lora:
                continue
            name = f"accounts/{account}/trainingShapes/ts-{short}-{suffix}"
            shape = TrainingShape(name, model.name, model.context_length, mode, deployment_shape=deployment)
            self.training_shapes.setdefault(name, shape)

    def _check(self, path: Path, shape: Shape) -> None:
        if shape.base_model not in self.models:
            raise InvalidArgument(f"{path}: {shape.name}: unknown base model {shape.base_model}")


def qualify(name: str, collection: str) -> str:
    """Full resource name of a catalogue id; raises InvalidArgument."""
    if "/" not in name:
        return f"accounts/{SHARED_ACCOUNT}/{collection}/{check_catalogue_id(name, collection)}"
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "accounts" or not is_account(parts[1]) or parts[2] != collection:
        raise InvalidArgument(f"{name[:200]!r} is neither an id nor accounts/<account>/{collection}/<id>")
    check_catalogue_id(parts[3], collection)
    return name


def versioned(shape: Shape, version: str = "") -> str:
    """Full name of a shape's version, the latest if none is given."""
    return f"{shape.name}/versions/{version or shape.versions[-1]}"


def _find(shapes: Mapping[str, S], reference: str, what: str) -> tuple[S, str]:
    name, slash, version = reference.partition("/versions/")
    shape = shapes.get(name)
    if shape is None or (slash and version not in shape.versions):
        raise _not_found(what, reference)
    return shape, version or shape.versions[-1]


def _not_found(what: str, reference: str) -> NotFound:
    return NotFound(f"{what} {reference[:200]!r} not found: check the name, and the version, in the list of {what}s")


def _read(path: Path) -> dict[str, Any]:
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


def _entries(path: Path, sections: Mapping[str, Any], section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    collection = {"models": "models", "training_shapes": "trainingShapes"}.get(section, "deploymentShapes")
    entries = sections.get(section) or {}
    if not isinstance(entries, dict) or not all(isinstance(facts, dict) for facts in entries.values()):
        raise InvalidArgument(f"{path}: {section} maps names to facts")
    for name, facts in entries.items():
        yield qualify(str(name), collection), facts


def _build(cls: type[T], path: Path, name: str, facts: Mapping[str, Any]) -> T:
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


def _rooted(facts: Mapping[str, Any], root: Path) -> dict[str, Any]:
    return {key: root / str(value) if key == "folder" else value for key, value in facts.items()}


def _qualified(facts: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    if "base_model" in known:
        known["base_model"] = qualify(str(known["base_model"]), "models")
    return known


def _with_deployment(facts: dict[str, Any]) -> dict[str, Any]:
    account, _, short = str(facts.get("base_model", "")).removeprefix("accounts/").partition("/models/")
    named = facts.get("deployment_shape")
    default = f"accounts/{account}/deploymentShapes/ds-{short}"
    return {**facts, "deployment_shape": qualify(str(named), "deploymentShapes") if named else default}


def _parameters(folder: Path) -> int:
    shards = weight_shards(folder)
    return sum(prod(tensor.shape) for shard in shards for tensor in shard.tensors.values())


def _unreadable_quantisation(config: Mapping[str, Any]) -> str:
    """How the weights are quantised, where they cannot be opened as plain ones; "" for the others."""
    settings = config.get("quantization_config")
    method = str(settings.get("quant_method") or "an unnamed method") if isinstance(settings, dict) else ""
    return "" if method in ("fp8", "mxfp4") else method


def versions(shapes: Mapping[str, S], account: str = "-", shape: str = "-") -> list[tuple[S, str]]:
    """Every (shape, version) below a parent in which `-` stands for any, in declared order (WIRE 1.3).

    Raises NotFound for a shape that is named and not there (WIRE 1.6).
    """
    found = []
    for known in shapes.values():
        _, owner, _, short = known.name.split("/")
        if account in ("-", owner) and shape in ("-", short):
            found += [(known, version) for version in known.versions]
    if not found and "-" not in (account, shape):
        raise _not_found("shape", f"{account}/{shape}")
    return found
