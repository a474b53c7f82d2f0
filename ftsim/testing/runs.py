"""One run under a checkpoint manager, event by event, on a real emulator; after each, what is left of it is checked."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.core.clock import SECOND
from emulator.quirks.engine import Setting
from ftsim.testing.clients import BATCHES, take_step
from ftsim.testing.faults import ManagerFault
from ftsim.testing.manager_time import Sleeper, wants_sleep
from ftsim.testing.processes import Process
from ftsim.testing.rules import LATE, chosen, named
from ftsim.testing.stage import KeptStage, stage
from ftsim.testing.strategies import Crash, Event, Promote, Save, ServiceSwitch, Train
from ftsim.testing.tiny import NAME
from ftsim.testing.trainer_state import TrainerState

JOB = "run"
Factory = Callable[..., Any]
_CUT_OFF = {
    "before": "the process is killed in it, before the service carries anything out",
    "between": "the process is killed in it, between its two halves",
    "after": "the process is killed in it, carried out but not answered",
}


@dataclass(frozen=True)
class Saved:
    """A save: name, step, rows consumed, the trainer's state, its line in the history, whether it can be promoted."""

    name: str
    step: int
    consumed: int
    trainer: TrainerState
    promotable: bool
    line: int

    def __str__(self) -> str:
        return f"{self.name}, saved in {self.line},"


class Run:
    """A run from its beginning. `play` an event, and `ManagerFault` is raised if a rule of `rules` is broken."""

    def __init__(
        self, factory: Factory, rank: int, on: KeptStage | None = None, rules: Collection[str] | None = None
    ) -> None:
        self.factory = factory
        self.rank = rank
        self.rules = chosen(None, ()) if rules is None else frozenset(rules)
        self.stage = on or stage()
        self.stage.reset()
        self._standing = contextlib.ExitStack()
        """While open, the platform's time does not pass by itself: a history is the same on a machine that is busy."""
        self._standing.enter_context(self.stage.emulator.clock.standing())
        self._sleeper = Sleeper(self.stage.emulator.clock.advance)
        self.folder = Path(tempfile.mkdtemp(prefix="ftsim-run-"))
        self.log_path = self.folder / "log"
        self.log_path.mkdir()
        self.history = [f"a {f'LoRA run of rank {rank}' if rank else 'full-parameter run'} begins"]
        self.events: list[Event] = []
        self.step = self.consumed = self.crashes = self.promotions = 0
        self.resumable: Saved | None = None
        self.promotable: Saved | None = None
        self.line: list[Saved] = []
        """The saves that led to what the trainer holds; those of a branch that a crash cut off are in `cut_off`."""
        self.cut_off: list[Saved] = []
        self._names: set[str] = set()
        self.came_back = 0
        """The line of the history that the run came back in last."""
        self._troubles: list[Setting] = []
        """Failures of the service that a manager may give up at, unless the rule `patience` is asked for."""
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self.stage.manager.create(self.stage.job_config(JOB, self.rank))
        self._connect()
        _, found = self._resume()
        if found is not None:
            raise self.broken("fresh", f"resumes wrong: resume() returned {found!r} before anything was saved")

    def close(self) -> None:
        self._standing.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def play(self, event: Event) -> None:
        """Let an event happen; one that makes no sense now is skipped."""
        __tracebackhide__ = True
        if (isinstance(event, Save) and self.step == 0) or (isinstance(event, Promote) and not self.can_promote):
            return
        self.events.append(event)
        match event:
            case Train():
                self._train(event)
            case Save():
                self._save(event)
            case Crash():
                self._crash(event)
            case Promote():
                self._promote()
            case ServiceSwitch():
                self._turn_on(event)

    @property
    def can_promote(self) -> bool:
        """True when a promotion can be judged: something is promotable, or the run goes on from a save that is not."""
        return self.promotable is not None or self.resumable is not None

    # -- what happens to a run

    def _train(self, event: Train) -> None:
        """Data differ after a crash, so that weights tell one life of the run from another."""
        before = self.consumed
        for _ in range(event.batches):
            take_step(self.client, (self.step + self.crashes) % BATCHES, rate=0.05 * (1 + self.crashes))
            self.consumed += 2 + self.step % 2
            self.step += 1
        rows = f"{self.consumed - before} rows"
        self.consumed += event.dropped
        dropped = (
            f"; {event.dropped} more row{'s are' if event.dropped > 1 else ' is'} dropped" if event.dropped else ""
        )
        self.history.append(f"{event.batches} batch{'es are' if event.batches > 1 else ' is'} trained, {rows}{dropped}")

    def _save(self, event: Save) -> None:
        __tracebackhide__ = True
        name = f"step-{self.step}"
        coarse = event.coarse and name not in self._names  # rows that are there keep their time
        self._let_time_pass(name, coarse=coarse)
        self._names.add(name)
        axes = f"resumable={event.resumable}, promotable={event.promotable}"
        call = f"save({name!r}, {axes}, data_consumed={self.consumed})"
        note = ", listed with its time in whole seconds" if coarse else ""
        self.history.append(call + note + (f": {_CUT_OFF[event.killed]}" if event.killed else ""))
        trainer = self.stage.trainer_state(self.client)
        made = Saved(name, self.step, self.consumed, trainer, event.promotable, len(self.history))

        def save() -> None:
            self.manager.save(name, resumable=event.resumable, promotable=event.promotable, data_consumed=self.consumed)

        try:
            with self._sleeper.installed():
                killed, _ = self.process.call(save, event.killed, event.resumable + event.promotable)
        except Exception as error:
            if self._forgiven():
                self._go_on(made if event.resumable else None)
                return
            raise self.broken("save", f"does not save: {call} failed", error) from error
        if not killed:
            self._acknowledge(made, event.resumable)
        if event.killed:
            self._go_on(made if killed and event.resumable else None)

    def _acknowledge(self, made: Saved, resumable: bool) -> None:
        self.line.append(made)
        if resumable:
            self.resumable = made
        if made.promotable:
            self.promotable = made

    def _crash(self, event: Crash) -> None:
        """The trainer is preempted and the process killed; the next process goes on with the same log_path."""
        __tracebackhide__ = True
        told = "the process is killed and the trainer preempted; a new process calls resume()"
        self.history.append(told + (" and is killed in it; so does another" if event.while_resuming else ""))
        self._go_on(None, interrupted=event.while_resuming)

    def _go_on(self, unacknowledged: Saved | None, *, interrupted: bool = False) -> None:
        """A new process resumes: from the newest acknowledged save, or from one that the last process died in."""
        __tracebackhide__ = True
        self._replace_process()
        if interrupted:
            killed, _ = self._resume("loading")
            if killed:
                self._replace_process()
        self.came_back = len(self.history)
        kept = self._check_resumed(self._resume()[1], unacknowledged)
        self.crashes += 1
        self.step, self.consumed = (kept.step, kept.consumed) if kept else (0, 0)
        self.promotable = kept if kept and kept.promotable and kept is not unacknowledged else None
        if kept is not None and kept is unacknowledged:
            self.line.append(kept)
            self.resumable = kept
        while self.line and self.line[-1] is not kept:
            self.cut_off.append(self.line.pop())

    def _promote(self) -> None:
        """To a model id never used before."""
        __tracebackhide__ = True
        self.promotions += 1
        output = f"out-{self.promotions}"
        self.history.append(f"promote_latest({output!r}, {NAME!r})")
        try:
            with self._sleeper.installed():
                self.manager.promote_latest(output, NAME)
        except Exception as error:
            if self.promotable is None or self._forgiven():
                return
            told = f"does not promote: {self.promotable} is promotable, but promote_latest failed"
            raise self.broken("promote", told, error) from error
        self._check_promoted(output)

    def _turn_on(self, event: ServiceSwitch) -> None:
        often = f", {event.times} times" if event.times else ""
        self.history.append(f"from here the service has the quirk {event.quirk} = {event.value!r}{often}")
        options: dict[str, Any] = {**event.where, "times": event.times}
        setting = self.stage.emulator.quirks.set(event.quirk, event.value, **options)
        if event.quirk.startswith(("http.", LATE)):
            self._troubles.append(setting)
        if event.quirk.endswith("_s") and event.quirk != "clock.skew_s":  # somebody may wait without a sleep of ours
            self._standing.close()

    # -- what must hold

    def _check_resumed(self, info: Any, unacknowledged: Saved | None) -> Saved | None:
        """The save that the run came back to; the one that a process died in counts if it is there as a whole."""
        __tracebackhide__ = True
        wanted = self.resumable
        if info is not None and unacknowledged is not None and info.step == unacknowledged.step:
            wanted = unacknowledged
        if wanted is None:
            if info is not None:
                raise self.broken("fresh", f"resumes wrong: resume() returned {info!r}, though nothing was saved")
            return None
        if info is None:
            raise self.broken("resume", f"loses the run: resume() returned None, though {wanted} is there")
        if info.step != wanted.step:
            found = next((f", saved in {old.line}" for old in self.line if old.step == info.step), "")
            told = f"at step {info.step}{found}, though {wanted} is the newest resumable save"
            raise self.broken("newest", f"resumes wrong: {told}")
        consumed = getattr(info, "data_consumed", wanted.consumed)
        if consumed != wanted.consumed:
            told = f"with data_consumed={consumed}, though {wanted} had seen {wanted.consumed} rows: data would be "
            told += "skipped" if consumed > wanted.consumed else "trained twice"
            raise self.broken("cursor", f"resumes wrong: {told}")
        now = self.stage.trainer_state(self.client)
        if now.exported != wanted.trainer.exported:
            raise self.broken("weights", f"resumes wrong: the trainer does not hold the weights of {wanted.name}")
        if now.state != wanted.trainer.state:
            told = f"the weights are those of {wanted.name}, the optimizer's state is not"
            raise self.broken("optimizer", f"resumes wrong: {told}")
        return wanted

    def _check_promoted(self, output: str) -> None:
        """The newest promotable save; with none since the run came back, weights that its line had, or a refusal.

        By weights, since a row that was saved after the one that was resumed from may hold the very same.
        """
        __tracebackhide__ = True
        from ftsim.compute.sampler.weights import fingerprint

        made = self.stage.emulator.world.models.get(f"accounts/{self.stage.account}/models/{output}")
        if made is None:
            raise self.broken("promote", f"promotes nothing: promote_latest returned, but there is no model {output}")
        weights = fingerprint(self.stage.emulator.platform.blobs.fetch(made.blob))
        if weights == (self.promotable.trainer.exported if self.promotable else None):
            return
        own = [saved for saved in self.line if saved.trainer.exported == weights]
        if self.promotable is None and own:
            return
        if not own and (cut := [saved for saved in self.cut_off if saved.trainer.exported == weights]):
            back = f"{self.resumable.name}, saved in {self.resumable.line}" if self.resumable else "the beginning"
            told = f"{output} was made from {cut[-1]} on a branch that is cut off: in {self.came_back} the run came "
            self._wrong_promotion("branch", f"{told}back to {back}")
            return
        source = str(own[-1]).rstrip(",") if own else f"a checkpoint of step {made.source_step} that is not of this run"
        wanted = f", though {self.promotable} is the newest promotable save" if self.promotable else ""
        self._wrong_promotion("promoted", f"{output} was made from {source}{wanted}")

    def _wrong_promotion(self, rule: str, told: str) -> None:
        """The run goes on where the rule is not asked for."""
        if named(rule, self.events) in self.rules:
            raise self.broken(rule, f"promotes wrong: {told}")

    # -- helpers

    def _replace_process(self) -> None:
        self.stage.emulator.platform.jobs.preempt(self.stage.account, JOB)
        self.stage.manager.resume_and_wait(JOB)
        self.stage.drop_clients()
        self._connect()

    def _connect(self) -> None:
        """A new process: new clients, a new manager, the same log_path."""
        self.client = self.stage.training_client(JOB, self.rank)
        self.process = Process(self.client, self.log_path)
        mine: dict[str, Any] = {"sleep": self._sleeper} if wants_sleep(self.factory) else {}
        self.manager = self.factory(
            self.client, self.stage.manager, trainer_id=JOB, log_path=str(self.log_path), lora_rank=self.rank, **mine
        )

    def _resume(self, moment: Any = "") -> tuple[bool, Any]:
        """Resume; returns whether the process was killed in it, and what resume() returned."""
        __tracebackhide__ = True
        try:
            with self._sleeper.installed():
                return self.process.call(lambda: self.manager.resume(), moment)
        except Exception as error:
            if self._forgiven():
                self._replace_process()
                return self._resume(moment)
            raise self.broken("resume", "loses the run: resume() failed", error) from error

    def _forgiven(self) -> bool:
        """Say whether a call may have failed because the service is in trouble; ends the trouble."""
        if not self._troubles or "patience" in self.rules:
            return False
        for trouble in self._troubles:
            trouble.off()
        self._troubles.clear()
        self.history[-1] += "; it gives up at a failure of the service, which passes"
        return True

    def _let_time_pass(self, name: str, *, coarse: bool) -> None:
        """A time in whole seconds is still true: the row is made at the very beginning of one."""
        clock, quirks = self.stage.emulator.clock, self.stage.emulator.quirks
        # A clock that stands runs ahead by a microsecond whenever it is read, hence a few milliseconds more.
        clock.advance((SECOND - clock.now() % SECOND + 5_000) / SECOND if coarse else 0.2)
        if coarse:
            for row in (name, f"{name}-{self.client.session_id}"):
                quirks.set("rows.time_precision", "seconds", checkpoint=row)

    def broken(self, rule: str, what: str, error: Exception | None = None) -> ManagerFault:
        """The fault of a rule that seems to be broken, for `raise`; `error` is what a call of the manager raised."""
        told = f"{what}: {error!r}" if error is not None else what
        seems = "patience" if error is not None and self._troubles else rule
        return ManagerFault(told, self.history, self.events, rule=seems, rank=self.rank)
