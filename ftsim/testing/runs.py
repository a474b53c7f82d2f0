"""One run under a checkpoint manager, event by event, on a real emulator; after each, what is left of it is checked."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.core.clock import SECOND
from ftsim.testing.clients import BATCHES, take_step
from ftsim.testing.stage import KeptStage, stage
from ftsim.testing.strategies import Crash, Event, Promote, Save, ServiceSwitch, Train
from ftsim.testing.tiny import NAME
from ftsim.testing.trainer_state import TrainerState

JOB = "run"
Factory = Callable[..., Any]


class ManagerFault(AssertionError):
    """A checkpoint manager lost or harmed a run; `history` tells how it came to it, one line for each event."""

    def __init__(self, fault: str, history: Sequence[str], events: Sequence[Event] = ()) -> None:
        self.fault = fault
        self.history = tuple(history)
        self.events = tuple(events)
        told = "\n".join(f"  {number}. {event}" for number, event in enumerate(self.history, 1))
        super().__init__(f"{fault}\n\nThe history of the run:\n{told}")

    @property
    def kind(self) -> str:
        """`loses the run`, `resumes wrong`, `promotes wrong`, ...: what comes before the details."""
        return self.fault.partition(":")[0]


@dataclass(frozen=True)
class Saved:
    """An acknowledged save: name, step, rows consumed, what the trainer held, whether it is promotable too."""

    name: str
    step: int
    consumed: int
    trainer: TrainerState
    promotable: bool


class Run:
    """A run from its beginning. `play` an event, and `ManagerFault` is raised if something is lost or wrong."""

    def __init__(self, factory: Factory, rank: int, on: KeptStage | None = None) -> None:
        self.factory = factory
        self.rank = rank
        self.stage = on or stage()
        self.stage.reset()
        self._standing = contextlib.ExitStack()
        """While open, the platform's time does not pass by itself: a history is the same on a machine that is busy."""
        self._standing.enter_context(self.stage.emulator.clock.standing())
        self.log_path = Path(tempfile.mkdtemp(prefix="ftsim-run-"))
        self.history = [f"a {f'LoRA run of rank {rank}' if rank else 'full-parameter run'} begins"]
        self.events: list[Event] = []
        self.step = self.consumed = self.crashes = self.promotions = 0
        self.resumable: Saved | None = None
        self.promotable: Saved | None = None
        self.line: list[Saved] = []
        """The acknowledged saves that led to what the trainer holds; those of a branch that a crash cut off are not."""
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self.stage.manager.create(self.stage.job_config(JOB, self.rank))
        self._connect()
        if (found := self._resume()) is not None:
            raise self._fault(f"resumes wrong: resume() returned {found!r} before anything was saved")

    def close(self) -> None:
        self._standing.close()
        shutil.rmtree(self.log_path, ignore_errors=True)

    def play(self, event: Event) -> None:
        """Let an event happen; one that makes no sense now is skipped."""
        if (isinstance(event, Save) and self.step == 0) or (isinstance(event, Promote) and not self.can_promote):
            return
        self.events.append(event)
        match event:
            case Train(batches):
                self._train(batches)
            case Save():
                self._save(event)
            case Crash():
                self._crash()
            case Promote():
                self._promote()
            case ServiceSwitch(quirk, value, where):
                self.history.append(f"from here the service has the quirk {quirk} = {value!r}")
                self.stage.emulator.quirks.set(quirk, value, **dict[str, Any](where))
                if quirk.endswith("_s") and quirk != "clock.skew_s":  # somebody may now wait for seconds to pass
                    self._standing.close()

    @property
    def can_promote(self) -> bool:
        """True when a promotion can be judged: something is promotable, or the run goes on from a save that is not."""
        return self.promotable is not None or self.resumable is not None

    # -- what happens to a run

    def _train(self, batches: int) -> None:
        """Data differ after a crash, so that weights tell one life of the run from another."""
        self.history.append(f"{batches} batch{'es are' if batches > 1 else ' is'} trained")
        for _ in range(batches):
            take_step(self.client, (self.consumed + self.crashes) % BATCHES, rate=0.05 * (1 + self.crashes))
            self.step, self.consumed = self.step + 1, self.consumed + 1

    def _save(self, event: Save) -> None:
        name = f"step-{self.step}"
        self._let_time_pass(name, coarse=event.coarse)
        axes = f"resumable={event.resumable}, promotable={event.promotable}"
        call = f"save({name!r}, {axes}, data_consumed={self.consumed})"
        self.history.append(call + (", listed with its time in whole seconds" if event.coarse else ""))
        try:
            self.manager.save(name, resumable=event.resumable, promotable=event.promotable, data_consumed=self.consumed)
        except Exception as error:
            raise self._fault(f"does not save: {call} failed: {error!r}") from error
        saved = Saved(name, self.step, self.consumed, self.stage.trainer_state(self.client), event.promotable)
        self.line.append(saved)
        if event.resumable:
            self.resumable = saved
        if event.promotable:
            self.promotable = saved

    def _crash(self) -> None:
        """The trainer is preempted and the process killed; the next process goes on with the same log_path."""
        self.history.append("the process is killed and the trainer preempted; a new process calls resume()")
        self.stage.emulator.platform.jobs.preempt(self.stage.account, JOB)
        self.stage.manager.resume_and_wait(JOB)
        self.stage.drop_clients()
        self.crashes += 1
        self._connect()
        self._check_resumed(self._resume())
        kept = self.resumable
        self.step, self.consumed = (kept.step, kept.consumed) if kept else (0, 0)
        self.promotable = kept if kept and kept.promotable else None
        while self.line and self.line[-1] is not kept:
            self.line.pop()

    def _promote(self) -> None:
        self.promotions += 1
        output = f"model-{self.promotions}"
        self.history.append(f"promote_latest({output!r}, base_model)")
        try:
            self.manager.promote_latest(output, NAME)
        except Exception as error:
            if self.promotable is None:
                return
            raise self._fault(
                f"does not promote: {self.promotable.name} is promotable, but promote_latest failed: {error!r}"
            ) from error
        self._check_promoted(output)

    # -- what must hold

    def _check_resumed(self, info: Any) -> None:
        wanted = self.resumable
        if wanted is None:
            if info is not None:
                raise self._fault(f"resumes wrong: resume() returned {info!r}, though nothing resumable was saved")
            return
        if info is None:
            raise self._fault(f"loses the run: resume() returned None, though {wanted.name} had been saved")
        if info.step != wanted.step:
            raise self._fault(f"resumes wrong: at step {info.step}, though {wanted.name} is the newest resumable save")
        consumed = getattr(info, "data_consumed", wanted.consumed)
        if consumed != wanted.consumed:
            raise self._fault(
                f"resumes wrong: with data_consumed={consumed}, though {wanted.name} had seen {wanted.consumed} rows: "
                f"data would be {'skipped' if consumed > wanted.consumed else 'trained twice'}"
            )
        found = self.stage.trainer_state(self.client)
        if found.exported != wanted.trainer.exported:
            raise self._fault(f"resumes wrong: the trainer does not hold the weights of {wanted.name}")
        if found.state != wanted.trainer.state:
            raise self._fault(f"resumes wrong: the weights are those of {wanted.name}, the optimizer's state is not")

    def _check_promoted(self, output: str) -> None:
        """The newest promotable save; with none since the run came back, weights that its line had, or a refusal.

        By weights, since a row that was saved after the one that was resumed from may hold the very same.
        """
        from ftsim.compute.sampler.weights import fingerprint

        made = self.stage.emulator.world.models.get(f"accounts/{self.stage.account}/models/{output}")
        if made is None:
            raise self._fault(f"promotes nothing: promote_latest returned, but there is no model {output}")
        weights = fingerprint(self.stage.emulator.platform.blobs.path(made.blob))
        source = f"{output} was made from a checkpoint of step {made.source_step} that"
        if (wanted := self.promotable) is not None:
            if weights != wanted.trainer.exported:
                raise self._fault(
                    f"promotes wrong: {source} does not hold the weights of {wanted.name}, the newest promotable save "
                    "of this run"
                )
        elif weights not in {saved.trainer.exported for saved in self.line}:
            raise self._fault(f"promotes wrong: {source} belongs to a branch of the run that a crash had cut off")

    # -- helpers

    def _connect(self) -> None:
        """A new process: new clients, a new manager, the same log_path."""
        self.client = self.stage.training_client(JOB, self.rank)
        self.manager = self.factory(
            self.client, self.stage.manager, trainer_id=JOB, log_path=str(self.log_path), lora_rank=self.rank
        )

    def _resume(self) -> Any:
        try:
            return self.manager.resume()
        except Exception as error:
            raise self._fault(f"loses the run: resume() failed: {error!r}") from error

    def _let_time_pass(self, name: str, *, coarse: bool) -> None:
        """A time in whole seconds is still true: the row is made at the very beginning of one."""
        clock, quirks = self.stage.emulator.clock, self.stage.emulator.quirks
        clock.advance((SECOND - clock.now() % SECOND + 2) / SECOND if coarse else 0.2)
        if coarse:
            for row in (name, f"{name}-{self.client.session_id}"):
                quirks.set("rows.time_precision", "seconds", checkpoint=row)

    def _fault(self, what: str) -> ManagerFault:
        return ManagerFault(what, self.history, self.events)


def play(factory: Factory, rank: int, events: Iterable[Event]) -> ManagerFault | None:
    """The fault that a history brings to light, None when the manager comes through."""
    run: Run | None = None
    try:
        run = Run(factory, rank)
        for event in events:
            run.play(event)
    except ManagerFault as fault:
        return fault
    finally:
        if run is not None:
            run.close()
    return None


def shorten(factory: Factory, rank: int, fault: ManagerFault) -> ManagerFault:
    """The same kind of fault with every event left out that it does not need."""
    at = len(fault.events) - 1
    while at >= 0:
        events = fault.events[:at] + fault.events[at + 1 :]
        found = play(factory, rank, events)
        if found is not None and found.kind == fault.kind:
            fault = found
        at = min(at, len(fault.events)) - 1
    return _simplify(factory, rank, fault)


def _simplify(factory: Factory, rank: int, fault: ManagerFault) -> ManagerFault:
    """One batch where several were trained, one axis or a precise time where it makes no difference."""
    for at, event in enumerate(fault.events):
        for simpler in _simpler(event):
            found = play(factory, rank, (*fault.events[:at], simpler, *fault.events[at + 1 :]))
            if found is not None and found.kind == fault.kind and len(found.events) == len(fault.events):
                fault = found
                break
    return fault


def _simpler(event: Event) -> list[Event]:
    if isinstance(event, Train) and event.batches > 1:
        return [Train(1)]
    if isinstance(event, Save) and event.coarse:
        return [Save(event.resumable, event.promotable)]
    return []
