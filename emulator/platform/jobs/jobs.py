"""Trainer jobs and their states (WIRE 1.7, 1.8, 4.1; FAILURES F).

Nothing runs in the background: a job moves on when somebody looks. `read` is a look of a client, which quirks may
count and deceive; `get` is the truth, for the emulator's own use.
"""

import dataclasses
from operator import attrgetter

from emulator.core.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    error_info,
)
from emulator.core.lifecycle import Life, Pending, Progression
from emulator.core.names import CheckpointScope, Reference, Subject, check_dns_label
from emulator.core.settings import values
from emulator.platform.deployments.buckets import check_trainer
from emulator.platform.jobs.spec import JobSpec, resolve
from emulator.platform.models.catalogue import Catalogue
from emulator.platform.models.models import Models
from emulator.platform.queries.paging import Page, Query
from emulator.quirks import jobs
from emulator.state.entities import Job
from emulator.state.settings import JobSettings
from emulator.state.world import World

CREATING = "JOB_STATE_CREATING"
PENDING = "JOB_STATE_PENDING"
RUNNING = "JOB_STATE_RUNNING"
CANCELLING = "JOB_STATE_CANCELLING"
CANCELLED = "JOB_STATE_CANCELLED"
DELETING = "JOB_STATE_DELETING"
DELETED = "JOB_STATE_DELETED"
COMPLETED = "JOB_STATE_COMPLETED"
FAILED = "JOB_STATE_FAILED"
PAUSED = "JOB_STATE_PAUSED"

_BUSY = frozenset({CREATING, PENDING, RUNNING})
RESUMABLE = frozenset({FAILED, CANCELLED, PAUSED, COMPLETED})
CANCELLABLE = frozenset({CREATING, PENDING, RUNNING, PAUSED})
_STATUS = {FAILED: "UNAVAILABLE", CANCELLED: "CANCELLED"}


class Jobs:
    """The jobs of all accounts."""

    def __init__(self, world: World, catalogue: Catalogue, models: Models) -> None:
        self._world = world
        self._catalogue = catalogue
        self._models = models
        self._scripts: dict[str, tuple[list[str], int]] = {}
        self.life: Life[Job] = Life(
            world,
            enter=self._enter,
            remove=lambda job: world.jobs.remove(job.name),
            idle_s=attrgetter("inactivity_s"),
            stop_idle=self._stop_idle,
        )

    def create(self, account: str, spec: JobSpec, job_id: str = "") -> Job:
        """Check the request and start the job; raises InvalidArgument, FailedPrecondition, NotFound, AlreadyExists."""
        job_id = check_dns_label(job_id, "rlorTrainerJobId") if job_id else self._world.ids.base36(16)
        self._refuse_taken(account, job_id)
        quirks = self._world.quirks
        if spec.hot_load_deployment:
            check_trainer(self._world, account, spec.hot_load_deployment)
        spec = resolve(spec, self._models, self._catalogue, quirks, account)
        subject = Subject(account=account, job=job_id)
        idle = quirks.value(jobs.INACTIVITY_S, subject) if spec.inactivity_s is None else spec.inactivity_s
        with self._world.change():
            self._refuse_taken(account, job_id)
            self._check_quota(account)
            now = self._world.clock.now()
            job = Job(
                account=account,
                id=job_id,
                created=now,
                updated=now,
                last_activity=now,
                inactivity_s=idle,
                bucket_url=bucket_url(account, job_id),
                config=dict(spec.config),
                request=dict(spec.request),
                **values(JobSettings, spec),
            )
            self._enter(job, PENDING if quirks.value(jobs.PENDING_S, subject) > 0 else CREATING)
            return self._world.jobs.put(job)

    def get(self, account: str, job_id: str) -> Job:
        """The job as it is, a deleted one for 30 days too (FAILURES D17); raises NotFound."""
        job = self._world.jobs.find(account, job_id)
        if job is None or not self.life.settle(job):
            raise _not_found(account, job_id)
        return job

    def lister(self, account: str, job_id: str) -> Job:
        """The job of a list of checkpoints, a deleted one too; raises NotFound."""
        return self.get(account, job_id)

    def read(self, account: str, job_id: str) -> Job:
        """The job as a client is shown it: counts one look, and tells what the quirks say; raises NotFound."""
        job = self.get(account, job_id)
        if job.pending is None and not job.stale_reads and not self._world.quirks.active():
            return job
        if self._hidden(job):
            raise _not_found(account, job_id)
        self.life.settle(job, look=True)
        return self._shown(job)

    def running(self, account: str, job_id: str) -> Job:
        """The job if its trainer runs, noting that it is in use; raises NotFound (FAILURES C4)."""
        job = self.get(account, job_id)
        if job.state != RUNNING:
            raise NotFound(f"Trainer job not found or not running: {job.name} is {job.state}")
        job.last_activity = self._world.clock.now()
        return job

    def in_use(self, job: Job) -> None:
        """Note a sign of life of a client, which keeps a job that runs from being stopped as idle."""
        if job.state == RUNNING:
            job.last_activity = self._world.clock.now()

    def health(self, account: str, job_id: str) -> int:
        """The HTTP status of the trainer's healthz: 503 while the job does not run (FAILURES F2, F8)."""
        job = self.get(account, job_id)
        return self._world.quirks.spend(jobs.HEALTHZ, job.subject) if job.state == RUNNING else 503

    def list(self, account: str, query: Query[Job] = Query()) -> Page[Job]:
        """Jobs that are not deleted (FAILURES D17); raises InvalidArgument for a foreign page token."""
        alive = [job for job in self._world.jobs.of(account) if self.life.settle(job) and job.state != DELETED]
        return query.page([job for job in alive if not self._hidden(job)], lambda job: job.created)

    def delete(self, account: str, job_id: str) -> Job:
        """Leave a tombstone; deleting it again changes nothing and does not prolong its 30 days (FAILURES D17)."""
        job = self.get(account, job_id)
        if job.deleted is not None:
            return job
        wait = Progression(after_s=self._world.quirks.value(jobs.DELETE_S, job.subject))
        with self._world.change():
            job.deleted = self._world.clock.now()
            job.stale_reads = 0
            self._enter(job, DELETED if wait.immediate else DELETING)
            if not wait.immediate:  # what is deleted runs on for a while (FAILURES F24)
                job.pending = Pending.start(DELETED, wait, self._world.clock)
        self.life.stopped(job)
        return job

    def cancel(self, account: str, job_id: str) -> Job:
        """Stop the trainer, keep its checkpoints; raises FailedPrecondition for a tombstone."""
        job = self.get(account, job_id)
        if job.state == DELETED:
            raise FailedPrecondition(f"cannot cancel job in state: {DELETED}")
        if job.state not in CANCELLABLE:
            return job
        settles_in = "JOB_STATE_" + self._world.quirks.value(jobs.CANCEL_SETTLES_IN, job.subject)
        wait = Progression(after_s=self._world.quirks.value(jobs.CANCEL_S, job.subject))
        self._stop(job, settles_in, "cancelled", wait)
        return job

    def resume(self, account: str, job_id: str) -> Job:
        """Start a stopped job again, without its live models (WIRE 4.1); raises FailedPrecondition."""
        job = self.get(account, job_id)
        if job.state in (RUNNING, PENDING, CREATING):
            return self._shown(job)
        if job.state not in RESUMABLE:
            hint = ": create a job under a new id" if job.state == DELETED else ""
            raise FailedPrecondition(f"cannot resume job in state: {job.state}{hint}")
        reads = self._world.quirks.spend(jobs.RESUME_FLIP_AFTER_READS, job.subject)
        with self._world.change():
            job.last_activity = self._world.clock.now()
            if reads > 0:
                job.pending = Pending.start(CREATING, Progression(after_reads=reads), self._world.clock)
                self._world.jobs.put(job)
            else:
                self._enter(job, CREATING)
        return self._shown(job)

    def check_rank(self, job: Job, rank: int) -> None:
        """A trainer has one rank for all of its models (FAILURES C10); raises InvalidArgument."""
        if rank and not job.lora_rank:
            raise InvalidArgument(
                "create_model requested LoRA mode, but trainer was initialized without LoRA config: create the job "
                f"with loraRank {rank}, or the client with lora_rank 0"
            )
        if rank != job.lora_rank:
            asked = f"LoRA rank {rank}" if rank else "full-parameter mode"
            trained = f"{job.lora_rank}" if rank else f"LoRA rank {job.lora_rank}"
            other = "" if rank else ", or the job with loraRank 0"
            raise InvalidArgument(
                f"create_model requested {asked}, but trainer was initialized with {trained}: "
                f"create the client with lora_rank {job.lora_rank}{other}"
            )

    def source(self, asking: CheckpointScope, reference: Reference) -> CheckpointScope:
        """The asking job's own rows or another job's, never a run's; raises InvalidArgument, NotFound."""
        account, job_id = asking.account, asking.owner_id
        if reference.run is not None:
            raise InvalidArgument(
                f"cannot load {'/'.join(reference.run)}/{reference.checkpoint}: a serverless run's checkpoint on a "
                "dedicated trainer"
            )
        return CheckpointScope(self.get(account, reference.job or job_id).name)

    def preempt(self, account: str, job_id: str) -> Job:
        """Take the machine away: FAILED and resumable, live models lost (FAILURES F1); raises FailedPrecondition."""
        job = self.get(account, job_id)
        if job.state != RUNNING:
            raise FailedPrecondition(f"only a running job can be preempted, {job.name} is {job.state}")
        job.stale_reads = self._world.quirks.spend(jobs.STALE_RUNNING_READS, job.subject)
        self._stop(job, FAILED, "trainer was preempted: resume the job and load its last resumable checkpoint")
        return job

    def _hidden(self, job: Job) -> bool:
        """Say whether a new job does not show yet (FAILURES F24)."""
        lag = self._world.quirks.value(jobs.CREATE_VISIBLE_AFTER_S, job.subject)
        return lag > 0 and not self._world.clock.has_lasted(job.created, lag)

    def _refuse_taken(self, account: str, job_id: str) -> None:
        known = self._world.jobs.find(account, job_id)
        if known is not None and self.life.settle(known):
            raise AlreadyExists(f"{known.name} already exists ({known.state}): get it, or choose another id")

    def taken(self, account: str) -> int:
        """Count the jobs that count against the account's quota."""
        return sum(self.life.settle(job) and job.state in _BUSY for job in self._world.jobs.of(account))

    def _check_quota(self, account: str) -> None:
        """Refuse one job too many, with the reason in the details, or bare as a rate limit (FAILURES F17, F18)."""
        most = self._world.quirks.value(jobs.QUOTA, Subject(account=account))
        if not most:
            return
        busy = self.taken(account)
        if busy < most:
            return
        text = f"account {account} has {busy} trainer jobs and may have {most}: cancel or delete one"
        if self._world.quirks.value(jobs.QUOTA_ANSWER, Subject(account=account)) == "429":
            raise ResourceExhausted(text)
        raise PermissionDenied(text, details=[error_info("QUOTA_EXCEEDED", quota_required="1", quota_available="0")])

    def _stop_idle(self, job: Job) -> None:
        into = "JOB_STATE_" + self._world.quirks.value(jobs.INACTIVITY_SETTLES_IN, job.subject)
        self._stop(job, into, f"stopped after {job.inactivity_s:g} s without a request: resume it")

    def _enter(self, job: Job, state: str) -> None:
        """Put a job into a state, and on the way to the next one; PENDING and CREATING pass at once by default."""
        quirks, clock = self._world.quirks, self._world.clock
        now = clock.now()
        job.pending = None
        if state == PENDING:
            job.pending = Pending.start(CREATING, Progression(after_s=quirks.value(jobs.PENDING_S, job.subject)), clock)
        if state == CREATING:
            job.pending = Progression(after_s=quirks.value(jobs.CREATE_S, job.subject)).to(RUNNING, clock)
            state = CREATING if job.pending else RUNNING
        if state in (RUNNING, CREATING, PENDING):
            job.message, job.last_activity = "", now
        job.state, job.updated = state, now
        job.status_code = _STATUS.get(state, "OK")
        self._world.jobs.put(job)

    def _stop(self, job: Job, state: str, message: str, wait: Progression = Progression()) -> None:
        with self._world.change():
            self._enter(job, state if wait.immediate else CANCELLING)
            job.message = message
            if not wait.immediate:
                job.pending = Pending.start(state, wait, self._world.clock)
        self.life.stopped(job)

    def _shown(self, job: Job) -> Job:
        """Return what one look of a client sees: an older state, or a scripted one (FAILURES F2, F7)."""
        script = self._world.quirks.value(jobs.STATE_SCRIPT, job.subject)
        if job.stale_reads > 0:
            job.stale_reads -= 1
            return dataclasses.replace(job, state=RUNNING, message="", status_code="OK")
        known, at = self._scripts.get(job.name, ([], 0))
        at = at if known is script else 0
        if at >= len(script):
            return job
        self._scripts[job.name] = (script, at + 1)
        return dataclasses.replace(job, state=script[at])


def _not_found(account: str, job_id: str) -> NotFound:
    return NotFound(
        f"rlor trainer job {job_id[:128]!r} not found in account {account}: give the short id of a job that "
        "was created there and not deleted more than 30 days ago"
    )


def bucket_url(account: str, job_id: str) -> str:
    """Say where a trainer's blobs seem to be (WIRE 1.12)."""
    return f"gs://emu/rl-checkpoints/{account}/trainer-{job_id}/"
