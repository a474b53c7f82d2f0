"""Save, resume and promote, with the control plane as the source of truth.

A run is a `log_path`. Its checkpoints are the rows of its trainer job whose names `dataloader.json` knows; rows of
other phases on the same job are left alone, and a row is never resumed without the cursor that belongs to it.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ftsim.training.checkpoints.cursors import Cursors
from ftsim.training.checkpoints.lineage import LastSave, free_name, refuse_lost, refuse_taken, refuse_unknown_past
from ftsim.training.checkpoints.loading import ResumeInfo, load_adapter, load_checkpoint, load_newest, wait
from ftsim.training.checkpoints.promotion import http_status, next_model_id, poll, promote
from ftsim.training.checkpoints.rows import Row, read_rows, step_name, step_of
from ftsim.training.checks import LABEL
from ftsim.training.clients import CheckpointClient, ControlPlane
from ftsim.training.config import RunConfig
from ftsim.training.errors import CheckpointError, ConfigError
from ftsim.training.interrupts import named_interrupts

__all__ = ["ResumeInfo", "TrainingCheckpoints"]

logger = logging.getLogger(__name__)

LIST_WAIT_S = 90.0
# 63 less the hyphen and eight hex digits the SDK adds to sampler names.
NAME_LIMIT = 54
# On the pool the run, another 36 and a hyphen, stands before the name.
POOL_NAME_LIMIT = 17
_SECOND = 1_000_000_000


class TrainingCheckpoints:
    """Drives the checkpoints of one run; errors are `CheckpointError` unless the SDK's own say more.

    `phase` begins the names of its steps, and keeps them apart from those of other runs on the same job. `pool` is the
    account of a run on the serverless pool, where names are shorter; None trains on a job.
    """

    def __init__(
        self,
        client: CheckpointClient | None,
        fw_client: ControlPlane,
        *,
        trainer_id: str,
        log_path: str | os.PathLike[str],
        lora_rank: int = 0,
        phase: str = "",
        pool: str | None = None,
        list_wait_s: float = LIST_WAIT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client = client
        self.fw_client = fw_client
        self.trainer_id = trainer_id.rsplit("/", 1)[-1]  # the list path wants the short id
        self.lora_rank = lora_rank
        self.phase = phase
        self.pool = pool
        self.cursors = Cursors(log_path)
        self.list_wait_s = list_wait_s
        self._sleep = sleep
        self._last: LastSave | None = None
        self._snapshot: str | None = None
        self._sampled: set[str] = set()
        self._listed_before: dict[str, int] = {}

    # -- saving

    def save_step(self, step: int, data_consumed: int, *, promotable: bool = False) -> str:
        """Save the state after `step`, resumable, and return the name of its row."""
        name = step_name(step, self.phase)
        return self.save(name, resumable=True, promotable=promotable, data_consumed=data_consumed)

    def save(
        self, name: str, *, resumable: bool = True, promotable: bool = False, data_consumed: int | None = None
    ) -> str:
        """Save the trainer's state: `resumable` writes weights and optimizer, `promotable` sampler weights.

        `data_consumed` counts the raw data rows the state has seen, dropped ones included; a resumable save needs
        it. All steps submitted before must have been awaited. A state of the same name and cursor is not
        saved again, nor are sampler weights that this session has saved since; later ones take the place of those of
        their name. Returns the name that the resumable row has, which is another one where a torn row
        has taken `name`, or the service has changed it.
        """
        if not (resumable or promotable):
            raise ValueError(f"save({name!r}) must be resumable, promotable or both")
        limit = POOL_NAME_LIMIT if self.pool else NAME_LIMIT
        if not LABEL.fullmatch(name) or len(name) > limit:
            raise ValueError(
                f"checkpoint name {name!r} could not be loaded later: use 1 to {limit} of a-z, 0-9, hyphen"
            )
        if resumable and data_consumed is None:
            raise ValueError(f"save({name!r}, resumable=True) needs data_consumed")
        saved_as = self._save_state(name, data_consumed) if resumable and data_consumed is not None else name
        if promotable:
            self._save_sampler(name, with_state=resumable)
        return saved_as

    def _save_state(self, name: str, data_consumed: int) -> str:
        rows = self._rows()
        self._follow_rename(rows)
        if self._last is not None and self._last.covers(name, data_consumed):
            return self._last.row.id if self._last.row is not None else name
        refuse_taken([name], rows, self.cursors, self.trainer_id)
        save_as = free_name(name, rows)
        before = {row.id: row.created for row in rows if row.resumable}
        self.cursors.announce(save_as, data_consumed)
        try:
            with named_interrupts():
                wait(self._trainer().save_state(save_as))
        except Exception as error:
            # The reply may be what got lost, not the save.
            row = self._saved_row(before, save_as)
            if row is None:
                raise CheckpointError(f"checkpoint {save_as} was not saved: {error}") from error
        else:
            row = poll(lambda: self._saved_row(before, save_as), wait_s=self.list_wait_s, sleep=self._sleep)
        if row is None:
            logger.warning("checkpoint %s is saved but not listed yet", save_as)
        # The name resume would pick is written last; the one asked for stays for its step number.
        names = [save_as, *([row.id] if row is not None and row.id != save_as else [])]
        self.cursors.record(dict.fromkeys(names, data_consumed))
        self._last = LastSave(frozenset([name, *names]), data_consumed, row)
        return names[-1]

    def _saved_row(self, before: dict[str, int], name: str) -> Row | None:
        """Returns the resumable row that a save added: a name that was not listed before, or is younger now."""
        new = [row for row in self._rows() if row.resumable and row.created > before.get(row.id, -1)]
        earlier = self.cursors.recorded().keys() - before.keys()  # saved before, listed only now
        ours = [row for row in new if row.id == name] or [row for row in new if row.id not in earlier]
        return ours[0] if ours else None

    def _follow_rename(self, rows: list[Row]) -> None:
        """Note the final name of a row that was listed under a passing one."""
        last = self._last
        if last is None or last.row is None or any(row.id == last.row.id for row in rows):
            return
        known = self.cursors.recorded()
        new = [row for row in rows if row.resumable and row.created >= last.row.created and row.id not in known]
        if len(new) == 1:
            self.cursors.record({new[0].id: last.data_consumed})
            self._last = LastSave(last.names | {new[0].id}, last.data_consumed, new[0])

    def _save_sampler(self, name: str, *, with_state: bool) -> None:
        rows = self._rows()
        found = self._own_samplers(name, rows)
        if found and not self._outdated(name, found[0], with_state=with_state):
            self._snapshot = name
            return
        self._listed_before = {row.id: row.created for row in rows}
        try:
            with named_interrupts():
                self._trainer().save_weights_for_sampler_ext(name, checkpoint_type="base")
        except Exception as error:
            before = found[0].created if found else -1
            if not any(row.created > before for row in self._own_samplers(name, self._rows())):
                raise CheckpointError(f"sampler checkpoint {name} was not saved: {error}") from error
        self._snapshot = name
        self._sampled.add(name)

    def _own_samplers(self, name: str, rows: Sequence[Row]) -> list[Row]:
        """Returns the sampler rows of this session's own saves: another's of the same name holds other weights."""
        session = self._session()
        return [row for row in rows if session and row.id == f"{name}-{session}" and row.promotable]

    def _outdated(self, name: str, row: Row, *, with_state: bool) -> bool:
        """Returns True when the session's sampler row may hold earlier weights than the trainer's.

        A state that was saved after it says so. Without a state nothing is known of steps in between: what was asked
        for here before is saved once more.
        """
        if not with_state:
            return name in self._sampled
        last = self._last.row if self._last is not None else None
        # A stamp in whole seconds may stand for any moment of its second.
        latest = row.created + (_SECOND - 1 if row.created % _SECOND == 0 else 0)
        return last is not None and latest < last.created

    # -- resuming

    def resume(
        self,
        init_from_checkpoint: str | None = None,
        warm_start_from_adapter: str | None = None,
        *,
        restore_optimizer: bool = False,
        saves: Iterable[int] = (),
    ) -> ResumeInfo | None:
        """Load what the run goes on from; None for a fresh start.

        The newest row of this run wins. Only without one does `init_from_checkpoint` ("job-id:checkpoint-name", at step
        0, with its optimizer when `restore_optimizer` says so) or `warm_start_from_adapter` apply. A torn row is passed
        over for the one before it. Fails closed when the list cannot be read, a cursor is missing, or another run has
        taken the name of one of the steps `saves` that are still to come: that would cost the run its last save.
        """
        if init_from_checkpoint and warm_start_from_adapter:
            raise ConfigError("init_from_checkpoint and warm_start_from_adapter exclude each other; keep one")
        found = self._load(init_from_checkpoint, warm_start_from_adapter, restore_optimizer)
        done = found.step if found else 0
        names = {step_name(step, self.phase) for step in saves if step > done}
        if names:
            refuse_taken(names, self._rows(), self.cursors, self.trainer_id)
        return found

    def resume_run(self, config: RunConfig, steps: int) -> ResumeInfo | None:
        """`resume` as the configuration of a shipped recipe says, for a run of `steps` steps."""
        return self.resume(
            config.init_from_checkpoint,
            config.warm_start_from_adapter,
            restore_optimizer=config.restore_optimizer,
            saves=config.saved_steps(steps),
        )

    def _load(
        self, init_from_checkpoint: str | None, warm_start_from_adapter: str | None, restore_optimizer: bool
    ) -> ResumeInfo | None:
        candidates = self._resumable_rows()
        if candidates:
            return self._load_newest(candidates)
        if init_from_checkpoint:
            return load_checkpoint(
                self._trainer(),
                init_from_checkpoint,
                self.trainer_id,
                restore_optimizer=restore_optimizer,
                pool=self.pool,
            )
        if warm_start_from_adapter:
            return load_adapter(self._trainer(), warm_start_from_adapter)
        refuse_unknown_past(self._rows(), self.cursors, self.trainer_id)
        return None

    def finished(self, data_consumed: int) -> bool:
        """Returns True when the run's newest row has seen `data_consumed` rows and its sampler weights are listed too.

        Needs no trainer; afterwards `promote_latest` promotes those sampler weights.
        """
        candidates = self._resumable_rows(missing_job_is_empty=True)
        if not candidates or candidates[0][1] != data_consumed:
            return False
        row, consumed = candidates[0]
        self._last = LastSave(self._names_of(row, consumed), consumed, row)
        return self._own_promotable(self._rows()) is not None

    def _resumable_rows(self, missing_job_is_empty: bool = False) -> list[tuple[Row, int]]:
        """Returns this run's resumable rows with their cursors, newest first."""
        recorded, announced = self.cursors.recorded(), self.cursors.announced()
        known = announced | recorded

        def listed() -> list[Row]:
            return [row for row in self._rows(missing_job_is_empty) if row.resumable]

        rows = listed()
        if recorded and rows and not any(row.id == list(recorded)[-1] for row in rows):
            # The newest save is on record: give a lagging list time to show it.
            expected = list(recorded)[-1]
            poll(lambda: any(row.id == expected for row in listed()), wait_s=self.list_wait_s, sleep=self._sleep)
            rows = listed()
        found = [(row, known[row.id]) for row in rows if row.id in known]
        if not found:
            refuse_lost(rows, self.cursors, self.trainer_id)
        return found

    def _load_newest(self, candidates: list[tuple[Row, int]]) -> ResumeInfo:
        row, consumed = load_newest(self._trainer(), candidates, self.trainer_id)
        names = self._names_of(row, consumed)
        self.cursors.record({row.id: consumed})
        self._last = LastSave(names, consumed, row)
        return ResumeInfo(max((step_of(name) or 0 for name in names), default=0), consumed, row.id)

    def _names_of(self, row: Row, consumed: int) -> frozenset[str]:
        """Returns the names one checkpoint has gone by: those that share its cursor."""
        return frozenset({row.id} | {name for name, value in self.cursors.recorded().items() if value == consumed})

    # -- promoting

    def promote_latest(self, output_model_id: str, base_model: str) -> dict[str, Any]:
        """Promote this run's newest promotable row and return the model; an earlier promotion of it is success."""
        return promote(self.fw_client, self._newest_promotable(), output_model_id, base_model, sleep=self._sleep)

    def promote_under_free_id(self, output_model_id: str, base_model: str) -> dict[str, Any]:
        """As `promote_latest`, under the next id, as in `name-2`, where another row's model has this one."""
        row = self._newest_promotable()
        model_id = next_model_id(self.fw_client, row, output_model_id)
        return promote(self.fw_client, row, model_id, base_model, sleep=self._sleep)

    def _newest_promotable(self) -> Row:
        row: Row | None = poll(lambda: self._own_promotable(self._rows()), wait_s=self.list_wait_s, sleep=self._sleep)
        if row is None:
            raise CheckpointError(
                f"trainer job {self.trainer_id} lists no promotable checkpoint of this run after "
                f"{self.list_wait_s:g} s: save with promotable=True before promoting"
            )
        return row

    def _own_promotable(self, rows: list[Row]) -> Row | None:
        """Returns the newest promotable row of this lineage; with nothing saved or resumed here, of the job."""
        promotable = [row for row in rows if row.promotable]
        session = self._session()
        by_session = [row for row in promotable if session and row.id.endswith(f"-{session}")]
        saved = self._snapshot
        # While the last save is not listed, what the session saved before it is not the newest.
        if by_session and (saved is None or any(row.id == f"{saved}-{session}" for row in by_session)):
            return by_session[0]
        if saved is not None:
            # Saved here, but listed without the suffix the SDK sent.
            before = self._listed_before.get(saved, -1)
            return next((row for row in promotable if row.id == saved and row.created > before), None)
        if self._last is not None and self._last.row is not None:
            return self._last.newest_sampler(rows)
        return promotable[0] if promotable else None

    # -- shared

    def _trainer(self) -> CheckpointClient:
        if self.client is None:
            raise CheckpointError("there is no training client yet: set .client before you save or load")
        return self.client

    def _session(self) -> str | None:
        return getattr(self.client, "session_id", None)

    def _rows(self, missing_job_is_empty: bool = False) -> list[Row]:
        try:
            return read_rows(self.fw_client.list_checkpoints(self.trainer_id))
        except Exception as error:
            if missing_job_is_empty and http_status(error) == 404:
                return []
            raise CheckpointError(
                f"the checkpoints of trainer job {self.trainer_id} cannot be listed, so it is unknown what this run "
                f"has saved: {error}"
            ) from error
