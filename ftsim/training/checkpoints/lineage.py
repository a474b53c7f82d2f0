"""The rows of a trainer job's list that belong to a run, when other runs have saved there too."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ftsim.training.checkpoints.cursors import Cursors
from ftsim.training.checkpoints.rows import Row, step_of
from ftsim.training.errors import CheckpointError


@dataclass(frozen=True)
class LastSave:
    """A checkpoint that equals the trainer's present state: the names it goes by, its cursor, its row if listed."""

    names: frozenset[str]
    data_consumed: int
    row: Row | None

    def covers(self, name: str, data_consumed: int) -> bool:
        steps = {step_of(known) for known in self.names} - {None}
        return data_consumed == self.data_consumed and (name in self.names or step_of(name) in steps)

    def newest_sampler(self, rows: Sequence[Row]) -> Row | None:
        """The newest promotable row saved from this state, by any session; None while the state is not listed."""
        since = self.row.created if self.row is not None else None
        return next(
            (
                row
                for row in rows
                if since is not None
                and row.promotable
                and row.created >= since
                and any(row.is_save_of(name) for name in self.names)
            ),
            None,
        )


def foreign(rows: Sequence[Row], cursors: Cursors) -> list[Row]:
    """The rows that no cursor of this run speaks of."""
    known = cursors.recorded() | cursors.announced()
    return [row for row in rows if row.id not in known]


def refuse_taken(names: Collection[str], rows: Sequence[Row], cursors: Cursors, job_id: str) -> None:
    """Raise `CheckpointError` when another run of the job has saved under one of `names`."""
    taken = [row.id for row in foreign(rows, cursors) if row.id in names]
    if taken:
        raise CheckpointError(
            f"trainer job {job_id} already has a checkpoint {taken[-1]!r} that is not from this log_path: name this "
            "run's with weight_sync.checkpoint_prefix (in a recipe of your own, TrainingCheckpoints(phase=...)), or "
            "use a job of its own for each run"
        )


def refuse_unknown_past(rows: Sequence[Row], cursors: Cursors, job_id: str) -> None:
    """Raise `CheckpointError` on a job that was trained before, when no cursor says how far."""
    unknown = [row for row in foreign(rows, cursors) if row.resumable]
    if unknown and not (unknown[0].id == "step-0" and not cursors.announced()):
        raise CheckpointError(
            f"trainer job {job_id} has checkpoints ({unknown[0].id} is the newest) but "
            f"{cursors.path} does not say how many data rows they have seen: restore that file, use a "
            "new log_path, or name one with init_from_checkpoint to start from it at step 0"
        )


def refuse_lost(rows: Sequence[Row], cursors: Cursors, job_id: str) -> None:
    """Raise `CheckpointError` for a run that has saved, by its cursors, when none of the job's `rows` is its own."""
    recorded = cursors.recorded()
    if recorded:
        listed = ", ".join(row.id for row in rows) or "no resumable checkpoint"
        raise CheckpointError(
            f"trainer job {job_id} lists {listed}, {cursors.path} has the cursors of {', '.join(recorded)}. If they "
            "belong to another job, set trainer_job_id to it or use a new log_path; if a save was renamed after the "
            "run had ended (A9), give the listed name the cursor of that save in the file"
        )


def free_name(name: str, rows: Sequence[Row]) -> str:
    """`name`, or `name-rK` when a torn checkpoint of this run has taken it."""
    taken = {row.id for row in rows}
    retries = (f"{name}-r{count}" for count in range(2, len(taken) + 3))
    return name if name not in taken else next(retry for retry in retries if retry not in taken)
