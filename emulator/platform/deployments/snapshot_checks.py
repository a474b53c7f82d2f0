"""Compares a snapshot's files with the base model's, or with those of the snapshot before, before it is served.

The beginnings of the messages about configurations are the service's own; those about weights are not known (resources
10.3; FAILURES E29). Only headers are read.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from emulator.core.errors import InvalidArgument
from emulator.core.kinds import WEIGHT_SPEC as SPEC, CheckpointKind, Shard, weight_shards
from emulator.platform.deployments import buckets
from emulator.platform.deployments.replicas import Replicas
from emulator.quirks import deployments
from emulator.state.entities import Checkpoint, Deployment
from emulator.state.world import World

CONFIG = "config.json"
SET_ASIDE = frozenset(
    {
        "_name_or_path",
        "architectures",
        "dtype",
        "torch_dtype",
        "tie_word_embeddings",
        "transformers_version",
        "use_cache",
    }
)
"""Fields that say how a model was written, or that a trainer changes when it saves: untied, in its own precision."""
_QUANTIZED = "quantization_config"


class SnapshotChecks:
    """The checks of all deployments, and where a snapshot that fails one is refused."""

    def __init__(self, world: World, replicas: Replicas) -> None:
        self._world = world
        self._replicas = replicas

    def fault(
        self, deployment: Deployment, row: Checkpoint, previous: str | None, ignore: Collection[str]
    ) -> str | None:
        """Say why a snapshot is not served, None when it may be; `previous` is what a delta builds on.

        Raises Damaged where its files are not what was saved.
        """
        if row.kind is CheckpointKind.INFERENCE_LORA or not self._replicas.there(row.blob):
            return None
        folder = self._replicas.checked(row.blob, row.id)
        before = None if previous is None else buckets.find(self._world, deployment, previous)
        parent = self._replicas.folder(before.blob) if before and self._replicas.there(before.blob) else None
        base = self._replicas.base_folder(deployment.base_model)
        return config_fault(base, folder, ignore) or weight_fault(folder, parent)

    def at_the_signal(
        self, deployment: Deployment, identity: str, previous: str | None, ignore: Collection[str]
    ) -> None:
        """Raises InvalidArgument on planes that check before they accept the signal."""
        if self._world.quirks.value(deployments.HOTLOAD_CHECKED_IN, deployment.subject) != "answer":
            return
        row = buckets.find(self._world, deployment, identity)
        if row is not None and (fault := self.fault(deployment, row, previous, ignore)):
            raise InvalidArgument(fault)


def config_fault(base: Path, snapshot: Path, ignore: Collection[str] = ()) -> str | None:
    """Say why a snapshot's config.json is not the base model's, in the service's words; None when nothing is wrong.

    Fields of `ignore` may be on one side alone. Both are folders; one without a readable config.json has no fault.
    """
    ours, theirs = _read(base / CONFIG), _read(snapshot / CONFIG)
    if not ours or not theirs:
        return None
    kinds = (ours.get("model_type"), theirs.get("model_type"))
    if kinds[0] != kinds[1]:
        return f"Types mismatch: the base model is a {kinds[0]}, the snapshot a {kinds[1]}"
    aside = SET_ASIDE | {_QUANTIZED}
    for one, other, whose in ((ours, theirs, "base model"), (theirs, ours, "snapshot model")):
        if extra := sorted(one.keys() - other.keys() - aside - set(ignore)):
            return (
                f"Extra {whose} config options: {', '.join(extra)}; if they are harmless, name them in "
                "validation.extra_fields_ignore"
            )
    for name in sorted((ours.keys() & theirs.keys()) - aside):
        if _plain(ours[name]) != _plain(theirs[name]):
            values = f"{json.dumps(ours[name])[:80]} in the base model, {json.dumps(theirs[name])[:80]} in the snapshot"
            return f"Config value mismatch for {name}: {values}"
    return None


def weight_fault(snapshot: Path, previous: Path | None = None) -> str | None:
    """Say what is wrong with the weight map of a snapshot, None when nothing is.

    Its `model.weight.spec.json`, where there is one, must name every weight; a quantised one needs it. A delta has the
    files of the snapshot before, with the same weights in each.
    """
    try:
        shards = weight_shards(snapshot)
        parents = weight_shards(previous) if previous is not None else []
    except (OSError, ValueError) as error:
        return f"the weights are not whole: {error}"
    spec = _read(snapshot / SPEC).get("tensor_map") if (snapshot / SPEC).exists() else None
    if _QUANTIZED in _read(snapshot / CONFIG) and not isinstance(spec, Mapping):
        return f"quantization_config without a tensor_map in {SPEC}: nothing says how to dequantize"
    if isinstance(spec, Mapping) and (bare := sorted({key for one in shards for key in one.tensors} - spec.keys())):
        return f"{SPEC} does not cover the weight map: {', '.join(bare[:5])}"
    return _other_map(shards, parents) if previous is not None else None


def _other_map(shards: list[Shard], parents: list[Shard]) -> str | None:
    ours, theirs = ({one.path.name: one.tensors.keys() for one in found} for found in (shards, parents))
    if ours.keys() != theirs.keys():
        return f"file count mismatch: the snapshot before has {sorted(theirs)}, this one {sorted(ours)}"
    for file, weights in ours.items():
        if odd := sorted(weights ^ theirs[file]):
            return f"weight map mismatch in {file}: {', '.join(odd[:5])}"
    return None


def _plain(value: Any) -> Any:
    """A nested configuration without the fields that are set aside."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if name not in SET_ASIDE}
    return value


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
