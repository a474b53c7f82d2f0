"""Training sessions of the serverless pool, and the runs in them (WIRE 2.12; FAILURES F11, F19).

A session is bound to a base model by its first model. Each model that it trains is a run, which holds a place in its
account's quota until the session is deleted or has expired; a frozen reference is no run. The rows of a session are
listed and promoted while it is there; by the path of a save they are loaded for as long as those of a deleted job.

`ftsim run` and the pytest plugin tell when a program is gone. Its sessions then end at once, which frees their places
half an hour earlier than on the service; their rows are listed and promoted for as long as they would be there.
"""

from collections import defaultdict
from collections.abc import Sequence

from emulator.core.clock import SECOND
from emulator.core.errors import InvalidArgument, NotFound, ResourceExhausted, error_info
from emulator.core.lifecycle import Life
from emulator.core.names import CheckpointScope, Reference, Subject, resource
from emulator.platform.queries.paging import Page, Query
from emulator.quirks import trainers
from emulator.state.entities import Run, Session
from emulator.state.world import World

_PREFIX = "TRAINING_SESSION_STATE_"
STATES = ("UNSPECIFIED", "READY", "FAILED", "DELETING", "EXPIRED")
"""All that the public schema knows, without their prefix."""
UNSPECIFIED, READY, FAILED, DELETING, EXPIRED = (f"{_PREFIX}{state}" for state in STATES)
_LEFT = "(its program is gone)"


class TrainingSessions:
    """The training sessions of all accounts. As with jobs, they move on when somebody looks."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._of_program: defaultdict[str, set[str]] = defaultdict(set)
        """The sessions that each program has opened, by the mark that its key carries."""
        self._unloaded: set[str] = set()
        """Runs whose models were unloaded; after a restart no model is loaded anyway."""
        self.life: Life[Session] = Life(
            world,
            enter=self._enter,
            remove=self._remove,
            idle_s=lambda session: world.quirks.value(trainers.SESSIONS_INACTIVITY_S, session.subject),
            stop_idle=self._stop_idle,
        )

    def create(self, account: str, program: str = "") -> Session:
        """Open a session for a program, and let those go that nobody has talked to for too long."""
        for session in self._world.sessions.of(account):
            self.life.settle(session)
        with self._world.change():
            now = self._world.clock.now()
            session = Session(account, f"ts-{self._world.ids.hex(32)}", now, now, READY, last_activity=now)
            if program:
                self._of_program[program].add(session.name)
            return self._world.sessions.put(session)

    def end_program(self, account: str, program: str) -> list[Session]:
        """End the sessions that a program has opened, since it is gone; returns those that had not ended."""
        names = self._of_program.pop(program, set())
        return [self.leave(one) for one in self._world.sessions.of(account) if one.name in names and one.running]

    def leave(self, session: Session) -> Session:
        """End a session whose program is gone; its rows can be listed for as long as it would have been there."""
        self.expire(session, _LEFT)
        return session

    def get(self, account: str, session_id: str) -> Session:
        """The session as it is, also when it has expired; raises NotFound, for a deleted one too."""
        return self._found(account, session_id, ended=False)

    def lister(self, account: str, session_id: str) -> Session:
        """The session of this id, whose trainer is there; raises NotFound.

        Where `sessions.rows_outlive` is on, also one that has ended: lists and promotions of its rows then go on.
        """
        return self._found(account, session_id, ended=True)

    def _found(self, account: str, session_id: str, *, ended: bool) -> Session:
        session = self._world.sessions.find(account, session_id)
        if session is None or not self.life.settle(session):
            raise NotFound(
                f"training session {session_id[:80]!r} not found in account {account}: give the id (ts-...) of a "
                "session that was created there"
            )
        over = ended and session.state in (EXPIRED, FAILED) and not self._would_be_there(session)
        gone = session.deleted is not None or over
        if gone and not self._world.quirks.value(trainers.SESSIONS_ROWS_OUTLIVE, session.subject):
            why = "was deleted" if session.deleted is not None else f"is {session.state} {session.message}".rstrip()
            raise NotFound(
                f"training session {session_id[:80]!r} not found in account {account}: it {why}, and its checkpoints "
                "are listed and promoted only while its trainer is there; any session still loads them, by "
                "<account>/run-<32 hex digits>/<name>"
            )
        return session

    def _would_be_there(self, session: Session) -> bool:
        """Say whether a session that ended because its program is gone would not have expired by itself yet."""
        idle_s = self._world.quirks.value(trainers.SESSIONS_INACTIVITY_S, session.subject)
        quiet = self._world.clock.since(session.last_activity)
        return session.message == _LEFT and not (idle_s and quiet > idle_s * SECOND)

    def running(self, account: str, session_id: str) -> Session:
        """The session if it is open, noting that it is in use; raises NotFound."""
        session = self._world.sessions.find(account, session_id)
        if session is None or not self.life.settle(session):
            session = self.get(account, session_id)
        if not session.running:
            raise NotFound(
                f"training session not found or not running: {session.name} is {session.state}: open a new session "
                "(create_session, create_model) and load a checkpoint"
            )
        session.last_activity = self._world.clock.now()
        return session

    def list(self, account: str, query: Query[Session] = Query()) -> Page[Session]:
        """Sessions that are not deleted, oldest first; raises InvalidArgument for a foreign page token."""
        alive = [one for one in self._world.sessions.of(account) if self.life.settle(one) and one.deleted is None]
        return query.page(alive, lambda session: session.created)

    def delete(self, account: str, session_id: str) -> Session:
        """Close a session and free its place in the quota; raises NotFound, also when that was done before."""
        session = self.get(account, session_id)
        if session.deleted is None:
            with self._world.change():
                session.deleted = self._world.clock.now()
                self._enter(session, DELETING)
            self.life.stopped(session)
        return session

    def preempt(self, account: str, session_id: str) -> Session:
        """Lose the live models; the session stays open for new ones."""
        session = self.get(account, session_id)
        self.life.stopped(session)
        return session

    def places_taken(self, account: str) -> int:
        """Count the runs that count against the account's quota."""
        return sum(self._places(account).values())

    def check_quota(self, session: Session) -> None:
        """Refuse a run when others hold all places; raises ResourceExhausted (FAILURES F19, G4)."""
        most = self._world.quirks.value(trainers.SESSIONS_QUOTA, session.subject)
        places = self._places(session.account)
        taken = sum(places.values())
        if most and taken >= most:
            names = [name.rpartition("/")[2] for name in places]
            raise ResourceExhausted(
                f"account {session.account} has {taken} training runs on the pool and may have {most} at a time: "
                f"delete one of their sessions, for example with `ftsim end {names[0]}`; they are "
                f"{', '.join(names[:20])}",
                details=[error_info("QUOTA_EXCEEDED", quota_required="1", quota_available="0")],
            )

    def _places(self, account: str) -> dict[str, int]:
        """Count the places in the quota that each session holds, oldest session first.

        Every run of a session that is there has one, and so has what a failed create left behind (FAILURES F19).
        """
        places: dict[str, int] = {}
        for session in self._world.sessions.of(account):
            if self.life.settle(session) and session.deleted is None and session.state in (READY, UNSPECIFIED):
                places[session.name] = int(session.state == UNSPECIFIED)
        free = self._world.quirks.value(trainers.SESSIONS_UNLOAD_FREES_PLACE, Subject(account=account))
        for run in self._world.runs.of(account):
            if run.session in places and not (free and run.name in self._unloaded):
                places[run.session] += 1
        return {name: count for name, count in places.items() if count}

    def unloaded(self, account: str, model_id: str) -> None:
        """Note that the model of a run is not loaded any more; it is named after the run, or after its session."""
        run_id = model_id.partition(":")[0]
        self._unloaded |= {
            run.name for run in self._world.runs.of(account) if run.id == run_id or run.model_id == model_id
        }

    def bind(self, session: Session, bound: Session) -> None:
        """Make `bound`, a changed copy, what the session is from now on."""
        with self._world.change():
            session.base_model, session.lora_rank = bound.base_model, bound.lora_rank
            session.max_context_length = bound.max_context_length
            self._enter(session, READY)

    def failed(self, session: Session) -> None:
        """A model could not be created: on some planes the session leaks, and keeps its place (FAILURES F19)."""
        if session.base_model or not self._world.quirks.spend(trainers.SESSIONS_LEAK_ON_FAILED_CREATE, session.subject):
            return
        with self._world.change():
            self._enter(session, UNSPECIFIED)

    def start_run(self, session: Session, run_id: str, number: int) -> Run:
        with self._world.change():
            now = self._world.clock.now()
            return self._world.runs.put(Run(session.account, run_id, session.name, now, session.base_model, number))

    def withdraw(self, run: Run) -> None:
        """Forget a run whose model could not be made."""
        with self._world.change():
            self._world.runs.remove(run.name)

    def run(self, account: str, run_id: str) -> Run:
        """The run of this id; raises NotFound."""
        run = self._world.runs.get(resource(account, "trainingRuns", run_id))
        if run is None:
            raise NotFound(f"training run {run_id[:80]!r} not found in account {account}")
        return run

    def runs(self, account: str) -> Sequence[Run]:
        """The runs of an account, the newest first."""
        return sorted(self._world.runs.of(account), key=lambda run: (run.created, run.id), reverse=True)

    def run_of_model(self, account: str, model_id: str) -> Run:
        """The newest run whose model has this name after its session; raises NotFound."""
        named = (run for run in self._world.runs.of(account) if run.model_id == model_id)
        run = max(named, key=lambda run: (run.created, run.id), default=None)
        if run is None:
            raise NotFound(f"training run {model_id[:80]!r} not found in account {account}")
        return run

    def check_rank(self, session: Session, rank: int) -> None:
        """Pooled trainers hold adapters only; raises InvalidArgument."""
        if not 1 <= rank <= session.lora_rank:
            asked = f"LoRA rank {rank}" if rank else "full-parameter mode"
            raise InvalidArgument(
                f"create_model requested {asked}, but serverless trainers train LoRA of rank 1 to {session.lora_rank}: "
                "create the client with such a lora_rank, or a trainer job"
            )

    def source(self, asking: CheckpointScope, reference: Reference) -> CheckpointScope:
        """The asking run's own rows or another run's of the account, never a job's (FAILURES C5)."""
        account = asking.account
        if reference.job is not None:
            raise InvalidArgument(
                f"cannot load cross_job://{reference.job}/{reference.checkpoint}: a session is no job and reads none; "
                "give a name of this run, or <account>/run-<32 hex digits>/<name>"
            )
        if reference.run is None:
            if not asking.run:
                raise InvalidArgument(
                    f"{reference.checkpoint!r} does not say of which run: give <account>/run-<32 hex digits>/<name>"
                )
            return asking
        if reference.run[0] != account:
            raise NotFound(f"training run {reference.run[1]} not found: {reference.run[0][:64]} is another account")
        run = self.run(account, reference.run[1])
        return CheckpointScope(run.session, run.id)

    def _remove(self, session: Session) -> None:
        self._world.sessions.remove(session.name)
        for run in self._world.runs.of(session.account):
            if run.session == session.name:
                self._world.runs.remove(run.name)

    def expire(self, session: Session, why: str) -> None:
        """End a session that nobody uses any more: its place is free, its live models are lost."""
        with self._world.change():
            session.message = why
            self._enter(session, EXPIRED)
        self.life.stopped(session)

    def _stop_idle(self, session: Session) -> None:
        self.expire(session, "(no sign of life from its client)")

    def _enter(self, session: Session, state: str) -> None:
        session.state, session.updated = state, self._world.clock.now()
        self._world.sessions.put(session)
