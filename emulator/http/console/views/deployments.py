"""Lists deployments, and shows one: its replicas, and the chain of snapshots that each loaded or refused."""

from dataclasses import dataclass

from emulator.core.clock import rfc3339
from emulator.core.errors import NotFound
from emulator.http.console.views.lists import Slice, Tone, age, pages, short_state, tone
from emulator.http.console.views.runs import short_model
from emulator.platform.platform import Platform
from emulator.state.entities import Deployment, Pod, SnapshotLoad

LEDGER = 200
"""Loads that are shown: the newest."""


@dataclass(frozen=True)
class DeploymentLine:
    """A deployment in the list; `serves` is what its replicas hold now."""

    name: str
    id: str
    state: str
    tone: Tone
    base: str
    replicas: str
    serves: list[str]
    hot_load: bool
    trainer: str
    loads: int
    refused: int
    age: str


@dataclass(frozen=True)
class Replica:
    """A replica and what it holds; `chain` names the snapshots that its weights are made of, base first."""

    identity: str
    holds: str
    stage: str
    tone: Tone
    message: str
    chain: list[tuple[str, str]]
    age: str


@dataclass(frozen=True)
class LoadLine:
    """A snapshot that a replica loaded, or refused with `error`."""

    number: int
    time: str
    replica: str
    identity: str
    row: str
    owner: str
    kind: str
    how: str
    previous: str
    error: str


@dataclass(frozen=True)
class DeploymentPage:
    """A deployment as its page shows it."""

    line: DeploymentLine
    facts: list[tuple[str, str]]
    replicas: list[Replica]
    ledger: list[LoadLine]
    earlier: int
    can_chat: bool


def deployments(platform: Platform, asked: str = "") -> Slice[DeploymentLine]:
    """A page of the deployments of all accounts, newest first."""
    found = sorted(platform.world.deployments, key=lambda one: one.created, reverse=True)
    number, count, part = pages(len(found), asked)
    return Slice([_line(platform, _settled(platform, one)) for one in found[part]], number, count, len(found))


def deployment(platform: Platform, name: str) -> DeploymentPage:
    """Raises NotFound."""
    found = platform.world.deployments.get(name)
    if found is None:
        raise NotFound(f"there is no deployment {name[:200]!r} (any more)")
    _settled(platform, found)
    loads, now = platform.world.loads.of(found.name), platform.world.clock.now()
    facts = [
        ("base model", found.base_model),
        ("shape", found.deployment_shape or "–"),
        ("replicas", f"{found.replicas} of {found.min_replica_count} to {found.max_replica_count}"),
        ("hot-load", found.hot_load_transition_type or "ASYNC" if found.enable_hot_load else "off"),
        ("trainer", found.hot_load_trainer_job or "–"),
        ("created", f"{rfc3339(found.created, 0)}, {age(found.created, now)} ago"),
    ]
    return DeploymentPage(
        _line(platform, found),
        facts,
        [_replica(pod, loads, platform.world.clock.ticks()) for pod in found.pods],
        [_load(one) for one in reversed(loads[-LEDGER:])],
        max(0, len(loads) - LEDGER),
        any(pod.healthy for pod in found.pods) and found.state not in ("DELETED", "FAILED"),
    )


def _settled(platform: Platform, found: Deployment) -> Deployment:
    platform.deployments.get(found.account, found.id)
    platform.hotload.settle(found)
    return found


def _line(platform: Platform, one: Deployment) -> DeploymentLine:
    loads = platform.world.loads.of(one.name)
    return DeploymentLine(
        name=one.name,
        id=one.id,
        state=short_state(f"STATE_{one.state}"),
        tone=tone(one.state),
        base=short_model(one.base_model),
        replicas=f"{len(one.pods)} of {one.max_replica_count}",
        serves=sorted({pod.current or "base model" for pod in one.pods}),
        hot_load=one.enable_hot_load,
        trainer=one.hot_load_trainer_job,
        loads=sum(not load.error for load in loads),
        refused=sum(bool(load.error) for load in loads),
        age=age(one.created, platform.world.clock.now()),
    )


def _replica(pod: Pod, loads: list[SnapshotLoad], ticks: int) -> Replica:
    mine = [load for load in loads if load.replica == pod.identity and load.blob and not load.error]
    looks: Tone = "bad" if pod.stage == "error" or not pod.healthy else "busy" if pod.coming else "good"
    stage = f"loading {pod.target}" if pod.coming else pod.stage if pod.healthy else "crashed"
    return Replica(
        pod.identity,
        pod.current or "the base model",
        stage,
        looks,
        pod.message,
        [(load.how, load.identity) for load in mine],
        age(pod.started, ticks),
    )


def _load(one: SnapshotLoad) -> LoadLine:
    owner = one.checkpoint.rpartition("/checkpoints/")[0]
    return LoadLine(
        one.number + 1,
        rfc3339(one.created, 0)[11:19],
        one.replica,
        one.identity,
        one.checkpoint,
        owner,
        one.kind.removeprefix("CHECKPOINT_TYPE_"),
        one.how,
        one.previous or "",
        one.error,
    )
