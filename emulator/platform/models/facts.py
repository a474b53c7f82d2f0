"""The catalogue's contents: models, training shapes, deployment shapes; and their full names (WIRE 1.5, 1.6)."""

from dataclasses import dataclass
from pathlib import Path

from emulator.core.errors import InvalidArgument
from emulator.core.names import check_catalogue_id, is_account

SHARED_ACCOUNT = "fireworks"
BIRTH = 1_775_001_600_000_000  # 2026-04-01T00:00:00Z, what the catalogue's resources give as createTime
MODES = ("POLICY_TRAINER", "FORWARD_ONLY", "LORA_TRAINER")


@dataclass(frozen=True)
class CatalogueModel:
    """A model that nobody had to promote; lengths in tokens, "" and 0 where nothing is known.

    `flags` are those of the catalogue's table (sl, rl ...); `folder` holds real weights when given.
    """

    name: str
    model_type: str
    parameter_count: int
    context_length: int
    tokenizer: str = ""
    kind: str = "HF_BASE_MODEL"
    moe: bool = False
    supports_lora: bool = True
    folder: Path | None = None
    training_context_length: int = 0
    flags: tuple[str, ...] = ("sl", "sf", "rll", "rlf")
    created: str = ""
    serverless: bool = False
    display_name: str = ""


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
    weight_precision: str = "BFLOAT16"
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
