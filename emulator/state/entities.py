"""The nouns of the platform as plain dataclasses; times are microseconds since the epoch, values are JSON-able.

What makes up an entity's name never changes, so the name is put together once; another name is another entity.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from emulator.core.kinds import CheckpointKind
from emulator.core.lifecycle import Pending
from emulator.core.names import OwnerName, Subject
from emulator.state.settings import DeploymentSettings, JobSettings


@dataclass(kw_only=True)
class Job(JobSettings):
    """A trainer job (WIRE 1.7, 4.1). `config` is `trainingConfig` as it was sent."""

    account: str
    id: str
    created: int
    updated: int
    state: str = "JOB_STATE_RUNNING"
    message: str = ""
    status_code: int | str = "OK"
    pending: Pending | None = None
    bucket_url: str = ""
    inactivity_s: float = 0.0
    last_activity: int = 0
    deleted: int | None = None
    stale_reads: int = 0
    request_state_cleared: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        return f"accounts/{self.account}/rlorTrainerJobs/{self.id}"

    @cached_property
    def subject(self) -> Subject:
        """The names that its quirks are selected by."""
        return Subject(account=self.account, job=self.id)

    @property
    def running(self) -> bool:
        return self.state == "JOB_STATE_RUNNING"

    @property
    def machine(self) -> str:
        """The place that its models share with no other job's."""
        return self.name


@dataclass
class Checkpoint:
    """A row and the blob behind it. `owner` is the full name of the job or session that lists it.

    `trained` says which parts of the model an adapter is on, under the names of create_model's settings; `digests` what
    each file of the blob is, by its name.
    """

    owner: str
    id: str
    created: int
    updated: int
    kind: CheckpointKind
    blob: str
    base_model: str
    lora_rank: int = 0
    trained: dict[str, bool] = field(default_factory=dict)
    step: int = 0
    saved_as: str = ""
    bucket: str = ""
    previous_snapshot: str | None = None
    model_id: str = ""
    pending: Pending | None = None
    size: int = 0
    renames_to: str = ""
    renames_at: int = 0
    expires: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    copies: list[tuple[str, str, int]] = field(default_factory=list)
    """Where else it is said to be kept: class, region and when that was asked for."""

    @cached_property
    def name(self) -> str:
        return f"{self.owner}/checkpoints/{self.id}"

    @property
    def owner_id(self) -> str:
        """The short id of the job or session that lists it."""
        return OwnerName.parse(self.owner).id

    @cached_property
    def subject(self) -> Subject:
        """The names that its quirks are selected by."""
        owner = OwnerName.parse(self.owner)
        return Subject(account=owner.account, job=owner.id, checkpoint=self.id)

    def renamed(self) -> "Checkpoint":
        """The same row under the name that it was to get."""
        return replace(self, id=self.renames_to, renames_to="")


@dataclass
class Model:
    """A model resource that came from a promotion or an upload (WIRE 1.5, 5.7); catalogue models are not stored.

    `root` is the catalogue model that it descends from, through models some of which may be deleted by now.
    """

    account: str
    id: str
    kind: str
    created: int
    updated: int
    blob: str
    state: str = "READY"
    base_model: str = ""
    root: str = ""
    lora_rank: int = 0
    target_modules: list[str] = field(default_factory=list)
    model_type: str = ""
    parameter_count: int = 0
    context_length: int = 0
    moe: bool = False
    source_checkpoint: str = ""
    source_step: int = 0
    display_name: str = ""
    description: str = ""
    pending: Pending | None = None
    digests: dict[str, str] = field(default_factory=dict)
    announced: dict[str, int] = field(default_factory=dict)
    """Files that are being uploaded, and their sizes in bytes."""

    @cached_property
    def name(self) -> str:
        return f"accounts/{self.account}/models/{self.id}"


@dataclass
class Operation:
    """A long-running operation (WIRE 4.3); done once `pending` has passed."""

    account: str
    id: str
    created: int
    pending: Pending | None = None
    response: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        return f"accounts/{self.account}/operations/{self.id}"

    @cached_property
    def subject(self) -> Subject:
        """The names that its quirks are selected by."""
        return Subject(account=self.account)


@dataclass
class Pod:
    """One replica as the hot-load status shows it (WIRE 3.3).

    `coming` is a load that is not done yet; those that are stand in the deployment's ledger (SnapshotLoad).
    """

    identity: str
    started: int  # on the timer of durations (`Clock.ticks`)
    current: str | None = None
    adapter: bool = False
    stage: str = "done"
    target: str | None = None
    message: str = ""
    healthy: bool = True
    coming: dict[str, Any] | None = None
    stale_target: str | None = None
    stale_reads: int = 0


@dataclass(kw_only=True)
class Deployment(DeploymentSettings):
    """A deployment (WIRE 1.12, 4.2). `request` keeps what is only echoed; `replicas` is how many are to run now."""

    account: str
    id: str
    created: int
    updated: int
    state: str = "READY"
    pending: Pending | None = None
    replicas: int = 1
    generation: int = 0
    deleted: int | None = None
    request: dict[str, Any] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)

    @cached_property
    def name(self) -> str:
        return f"accounts/{self.account}/deployments/{self.id}"

    @cached_property
    def subject(self) -> Subject:
        """The names that its quirks are selected by."""
        return Subject(account=self.account, deployment=self.id)


@dataclass
class SnapshotLoad:
    """A snapshot that a replica loaded, or refused with `error` (WIRE 3.3); together a deployment's ledger.

    `checkpoint` is the row's full name, empty when nobody knew the identity; `how` is base, delta or adapter. `blob` is
    there as long as the replica's weights are made of it: its base, all deltas since, its adapter.
    """

    account: str
    deployment: str
    number: int
    created: int
    replica: str
    identity: str
    checkpoint: str = ""
    kind: str = ""
    previous: str | None = None
    error: str = ""
    how: str = ""
    blob: str = ""
    form: str = ""

    @property
    def owner(self) -> str:
        return f"accounts/{self.account}/deployments/{self.deployment}"

    @cached_property
    def name(self) -> str:
        return f"{self.owner}/snapshots/{self.number}"


@dataclass
class Session:
    """A training session of the serverless pool (WIRE 2.12). Its first model binds it to a base model.

    `message` says why it ended. Nobody is told a state but those of the public schema.
    """

    pending: ClassVar[None] = None
    """A session changes at once, or when it has idled out."""

    account: str
    id: str
    created: int
    updated: int
    state: str = "TRAINING_SESSION_STATE_READY"
    message: str = ""
    base_model: str = ""
    lora_rank: int = 0
    max_context_length: int = 0
    last_activity: int = 0
    deleted: int | None = None
    forward_only: bool = False
    request_state_cleared: bool = False

    @cached_property
    def name(self) -> str:
        return f"accounts/{self.account}/trainingSessions/{self.id}"

    @cached_property
    def subject(self) -> Subject:
        """The names that its quirks are selected by."""
        return Subject(account=self.account, job=self.id)

    @property
    def running(self) -> bool:
        return self.state == "TRAINING_SESSION_STATE_READY"

    @property
    def machine(self) -> str:
        """The pooled trainer, which holds the models of all sessions with this base model."""
        return f"pool/{self.base_model}"


@dataclass
class Run:
    """One model trained in a session, by which its checkpoints are named (WIRE 5.1); it outlives the live model."""

    account: str
    id: str
    session: str
    created: int
    base_model: str
    number: int = 0
    """The number that its client gave to its model."""

    @cached_property
    def name(self) -> str:
        return f"accounts/{self.account}/trainingRuns/{self.id}"

    @property
    def model_id(self) -> str:
        """The id of its model for those who name a model after its session, as tinker does."""
        return f"{self.session_id}:train:{self.number}"

    @property
    def session_id(self) -> str:
        """The short id of its session."""
        return OwnerName.parse(self.session).id


@dataclass
class SamplingRoute:
    """A base model or run that may be sampled without a session (WIRE 2.12); `target` is its full name."""

    account: str
    target: str
    created: int

    @cached_property
    def name(self) -> str:
        return f"accounts/{self.account}/trainingSamplers/{self.target}"
