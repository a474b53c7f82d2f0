"""The life of a run, which all recipes share: read the data, find the job, resume, take steps, save, promote.

A recipe brings a `Recipe`: its name, how its rows are read, and a `Learner` that takes one step. Nothing here knows a
loss. `run` is the life from beginning to end; read it first.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar

from ftsim.training.checkpoints.identity import Identity, check_identity, identity_of, note
from ftsim.training.checkpoints.manager import TrainingCheckpoints
from ftsim.training.checkpoints.promotion import check_model_is_free
from ftsim.training.checkpoints.rows import step_name
from ftsim.training.clients import Manager, TrainingClient
from ftsim.training.config import RunConfig, is_set
from ftsim.training.data.batches import Step, build_plan, steps_done
from ftsim.training.errors import ConfigError
from ftsim.training.interrupts import named_interrupts
from ftsim.training.metrics import LOSSES, RunLog
from ftsim.training.serverless import Pool, pool_of
from ftsim.training.steps import learning_rate, scheduled_rate
from ftsim.training.trainers import close_finished, connect, context_length, job_id_for, training_client

T = TypeVar("T")
C = TypeVar("C", bound=RunConfig)
Figures = Mapping[str, Any]
"""Names and values of one line of metrics.jsonl."""
Say = Callable[[str], None]
"""Tells the person at the terminal one line."""


class Result(TypedDict):
    """A finished run: its job or its run on the pool, its steps, promoted model, and what it went on from."""

    job_id: str
    steps: int
    model: dict[str, Any] | None
    resumed_from: str | None


@dataclass(frozen=True)
class Data(Generic[T]):
    """The rows of a run: `train` by number of the row in the file, and those held out for evaluation."""

    train: Sequence[T]
    usable: Sequence[bool]
    """False for a row that is dropped; it still counts as consumed."""
    held_out: Sequence[Any] = ()
    lengths: Sequence[int] | None = None
    """Tokens of each row, by which rows are batched with their like; None leaves the order as the seed makes it."""
    digest: str | None = None
    """Digest of the tokens and weights of all rows, by which a run knows its own; None takes the file's bytes."""
    held_out_digest: str | None = None
    """The same of the rows of `eval_dataset`; None where there are none."""


@dataclass
class Stopwatch:
    """Seconds spent per part of a step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = round(self.seconds.get(part, 0.0) + time.perf_counter() - started, 6)


@dataclass
class Run(Generic[C]):
    """A run that has its trainer, as a recipe's learner sees it."""

    config: C
    manager: Manager
    client: TrainingClient
    checkpoints: TrainingCheckpoints
    log: RunLog
    plan: Sequence[Step]
    job_id: str
    max_seq_len: int
    identity: Identity
    """What the run trains, which it keeps to."""
    pool: Pool | None = None
    """The serverless pool, where the run trains there."""
    done: int = 0
    """Steps that the trainer's weights have seen already."""
    moved: bool = False
    """True once the trainer holds other weights than the base model's: it resumed, or started from a checkpoint."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    """Times the parts of the present step."""


@dataclass(frozen=True)
class Learner:
    """A recipe's part in each step."""

    begin: Callable[[Step, float], Callable[[], Figures]]
    """Submits a step at a learning rate; what it returns awaits the step and gives the figures to log."""
    evaluate: Callable[[], Figures] | None = None
    """Gives the figures of the held-out rows; None when there are none."""
    end: Callable[[Step, bool], None] = lambda step, saved: None
    """Called after each step, and after its save when there was one."""
    ahead: int = 0
    """Steps that may be submitted before the first of them is awaited."""


@dataclass(frozen=True)
class Recipe(Generic[C, T]):
    """The parts that one recipe brings to a run."""

    name: str
    """Begins the ids of its jobs, and its lines on the terminal."""
    load: Callable[[C, int, Say], Data[T]]
    """(configuration, longest sequence, say) -> rows; raises `DataError` before anything is made."""
    learner: Callable[[Run[C], Data[T]], AbstractContextManager[Learner]]
    """Prepares the run's steps; leaving the context releases what it brought up."""
    rows: str = "rows"
    """Its word for rows of data."""
    pictures: Mapping[str, tuple[Mapping[str, str], str]] = field(
        default_factory=lambda: {"loss.svg": (LOSSES, "loss per token")}
    )
    """File name -> curves (figure and legend) and the label of the y axis."""
    check: Callable[[C, Manager], None] = lambda config, manager: None
    """Refuses what cannot work, before a trainer is made."""
    release: Callable[[C, Manager], None] = lambda config, manager: None
    """Releases what a killed run may have left beside its trainer, once nothing is to be trained any more."""


def run(config: C, recipe: Recipe[C, T], said: Sequence[str] = ()) -> Result:
    """Train as `config` says, or go on where that run was, to its end; a run that has ended trains nothing more.

    `said` are lines that belong on the terminal first, such as those of `as_begun`.
    Raises `ConfigError`, `DataError`, `TrainerError` or `CheckpointError`; what the service says passes through.
    """
    manager = connect()
    max_seq_len = context_length(manager, config)
    job_id = config.trainer_job_id or job_id_for(recipe.name, config.log_path)
    with (
        named_interrupts(),
        RunLog(config.log_path, recipe.name, config.report_to) as log,
        pool_of(manager, config) as pool,
    ):
        checkpoints = TrainingCheckpoints(
            None,
            pool or manager,
            trainer_id=job_id,
            log_path=config.log_path,
            lora_rank=config.lora_rank,
            phase=config.phase(recipe.name),
            pool=pool.account_id if pool else None,
        )
        for line in said:
            log.say(line)
        data = recipe.load(config, max_seq_len, log.say)
        plan = plan_of(config, data)
        refuse_idle_steps(config, len(plan))
        if pool:
            pool.check_names(len(plan), checkpoints.phase)
        identity = identity_of(config, data.digest, data.held_out_digest, len(data.train))
        begun = bool(checkpoints.cursors.recorded())
        for line in check_identity(config, identity, begun=begun, planned=plan[-1].data_consumed):
            log.say(line)
        result = Result(job_id=job_id, steps=len(plan), model=None, resumed_from=None)
        if checkpoints.finished(plan[-1].data_consumed):
            if not pool:
                close_finished(manager, config, job_id)
                recipe.release(config, manager)
            log.say("this run is complete already; nothing is trained")
        else:
            if config.output_model_id and is_set(config, "output_model_id"):
                check_model_is_free(manager, config.output_model_id)
            recipe.check(config, manager)
            opened = pool.training_client() if pool else training_client(manager, config, job_id, max_seq_len)
            with opened as client:
                checkpoints.client = client
                going = Run(config, manager, client, checkpoints, log, plan, job_id, max_seq_len, identity, pool)
                result["resumed_from"] = resume(going, recipe.rows)
                train(going, recipe, data)
        if config.output_model_id:
            chosen = is_set(config, "output_model_id")  # an id that nobody chose must not end a run
            become = checkpoints.promote_latest if chosen else checkpoints.promote_under_free_id
            model = become(config.output_model_id, config.base_model)
            result["model"] = model
            log.say(f"model {model.get('name', config.output_model_id)} is ready")
        if pool:
            result["job_id"] = pool.run_id
        for picture, (curves, label) in recipe.pictures.items():
            log.draw(picture, curves, label)
    return result


def plan_of(config: RunConfig, data: Data[Any]) -> list[Step]:
    """Returns all steps of a run; they follow from the configuration and the data alone."""
    batch_size, accumulation = config.rows_per_step
    return build_plan(
        data.usable,
        epochs=config.epochs,
        batch_size=batch_size,
        accumulation=accumulation,
        seed=config.seed,
        lengths=data.lengths,
    )


def refuse_idle_steps(config: RunConfig, total: int) -> None:
    """Refuse a schedule that gives every step the rate 0: the SDK's ends there, and a run of one step has no other."""
    if config.lr_scheduler is None or not config.learning_rate:
        return
    rates = (
        scheduled_rate(config.lr_scheduler, at, peak=config.learning_rate, total_steps=total) for at in range(total)
    )
    if not any(rates):
        raise ConfigError(
            f"lr_scheduler gives the rate 0 to all of the {total} steps, which would train nothing: set min_lr_ratio "
            "in it, or take more steps"
        )


def resume(run: Run[C], rows: str) -> str | None:
    """Load what the run goes on from, and set how many steps are done; returns the name of what was loaded."""
    found = run.checkpoints.resume_run(run.config, len(run.plan))
    if found:
        run.log.say(found.told(rows))
        run.done, run.moved = steps_done(run.plan, found.data_consumed), True
    # A save that was announced and never recorded is a beginning too, once it loads.
    check_identity(run.config, run.identity, begun=run.done > 0, planned=run.plan[-1].data_consumed)
    note(run.config, run.identity)
    return found.source if found else None


def train(run: Run[C], recipe: Recipe[C, T], data: Data[T]) -> None:
    """Take the steps that are left, and save the end of the run so that it can be promoted."""
    run.log.begin(run.done, len(run.plan), owner_of(run))
    if run.done < len(run.plan):
        with recipe.learner(run, data) as learner:
            take_steps(run, learner)
    elif run.pool is None:
        recipe.release(run.config, run.manager)
    if run.config.save_final_checkpoint:
        run.checkpoints.save_step(len(run.plan), run.plan[-1].data_consumed, promotable=True)
        run.log.say(f"weights {step_name(len(run.plan), run.checkpoints.phase)} can be promoted")


def owner_of(run: Run[C]) -> str:
    """Returns the full name of the job or the training session that holds the run."""
    if run.pool is not None:
        return str(run.pool.service.training_session_name)
    return f"accounts/{run.manager.account_id}/rlorTrainerJobs/{run.job_id}"


def take_steps(run: Run[C], learner: Learner) -> None:
    """Take the steps of the plan after `run.done`; save, and evaluate, as configured."""
    total = len(run.plan)
    saved = run.config.saved_steps(total)
    evaluated = run.config.evaluated_steps(total) if learner.evaluate else []
    if learner.evaluate and run.done == 0 and not run.log.entries():
        run.log.add({"step": 0} | dict(learner.evaluate()))
    in_flight: deque[tuple[Step, float, Callable[[], Figures]]] = deque()
    for step in run.plan[run.done :]:
        run.watch = Stopwatch()
        number, rate = step.index + 1, rate_of(run.config, step, total)
        in_flight.append((step, rate, learner.begin(step, rate)))
        # A save must hold exactly the steps that its cursor counts, so nothing stays in flight across it.
        all_done = number in saved or number in evaluated or number == total
        while len(in_flight) > (0 if all_done else learner.ahead):
            report(run.log, *in_flight.popleft())
        if learner.evaluate and number in evaluated:
            run.log.add({"step": number} | dict(learner.evaluate()))
        if number in saved:
            with run.watch("save"):
                name = run.checkpoints.save_step(number, step.data_consumed)
            run.log.say(f"checkpoint {name} is saved")
        learner.end(step, number in saved)


def rate_of(config: RunConfig, step: Step, total: int) -> float:
    """Returns the learning rate of a step, which follows from its number alone: a resumed run has the same."""
    if config.lr_scheduler is not None:
        return scheduled_rate(config.lr_scheduler, step.index, peak=config.learning_rate, total_steps=total)
    return learning_rate(
        step.index,
        peak=config.learning_rate,
        schedule=config.lr_schedule,
        warmup_steps=config.warmup_steps,
        total_steps=total,
        min_ratio=config.min_lr_ratio,
    )


def report(log: RunLog, step: Step, rate: float, result: Callable[[], Figures]) -> None:
    """Await a step and log it."""
    figures = result()
    log.add(
        {"step": step.index + 1, "epoch": step.epoch, "data_consumed": step.data_consumed, "lr": rate} | dict(figures)
    )
