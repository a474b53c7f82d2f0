"""Decides what a replica does with a snapshot: which way it is applied, or why it is not (FAILURES E9 to E13)."""

from dataclasses import dataclass

from emulator.core.kinds import CheckpointKind, resumable
from emulator.platform.deployments.replicas import Load
from emulator.platform.models.models import Models
from emulator.quirks import deployments
from emulator.state.entities import Checkpoint, Deployment, Pod
from emulator.state.world import World

FORMATS = ("arc_v1", "arc_v2", "arc_v3")
CHECKSUM = "alder32"
_HOW = {
    CheckpointKind.INFERENCE_BASE: "base",
    CheckpointKind.INFERENCE_ARC_V2: "delta",
    CheckpointKind.INFERENCE_LORA: "adapter",
}


@dataclass(frozen=True)
class Incremental:
    """Says what a delta is to be applied to, as the client says it."""

    previous: str
    form: str = "arc_v2"
    checksum: str = CHECKSUM


class Refused(Exception):
    """A snapshot that a replica did not take; `crash` when the attempt killed it."""

    def __init__(self, message: str, *, crash: bool = False) -> None:
        super().__init__(message)
        self.crash = crash


def plan(
    world: World, models: Models, deployment: Deployment, pod: Pod, row: Checkpoint, incremental: Incremental | None
) -> Load:
    """Decide what to do with a row; raises Refused."""
    subject = deployment.subject._replace(checkpoint=row.id)
    if world.quirks.spend(deployments.HOTLOAD_FAIL_NEXT, subject):  # others may load it (FAILURES E9)
        raise Refused(f"loading {row.id} failed (quirk hotload.fail_next)")
    if resumable(row.kind):
        raise Refused(f"{row.id} is a training state ({row.kind.value}): load what save_weights_for_sampler wrote")
    if models.root(row.base_model) != models.root(deployment.base_model):
        raise Refused(f"{row.id} is of {row.base_model}, {deployment.name} serves {deployment.base_model}")
    how = _HOW[row.kind]
    if how == "adapter" and row.base_model != models.beneath(deployment.base_model):
        raise Refused(
            f"{row.id} is an adapter on {row.base_model}, {deployment.name} serves {deployment.base_model}: "
            f"on other weights it is another policy, deploy {row.base_model}"
        )
    if incremental is not None and how == "adapter":  # adapters have no deltas (FAILURES E12)
        raise Refused(f"the replica crashed: KeyError, {row.id} is an adapter without per-tensor checksums", crash=True)
    if incremental is None:
        if how == "delta":  # its client has lost the chain, or never had it (FAILURES E9, E13)
            raise Refused(
                f"{row.id} is a delta and came without incremental_snapshot_metadata: save checkpoint_type base again"
            )
        return Load(how, row.blob, row.id)
    if how != "delta":
        raise Refused(f"{row.id} is a full snapshot and came with incremental_snapshot_metadata")
    if incremental.form.lower() not in FORMATS or incremental.checksum != CHECKSUM:
        raise Refused(f"unknown compression_format {incremental.form!r} or checksum_format {incremental.checksum!r}")
    if incremental.previous != pod.current:  # the chain is broken (FAILURES E10)
        raise Refused(
            f"previous_snapshot_identity is {incremental.previous!r}, the replica holds {pod.current!r}: "
            "send a full snapshot (checkpoint_type base)"
        )
    return Load(how, row.blob, row.id, incremental.form.lower())
