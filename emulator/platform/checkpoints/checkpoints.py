"""Rows and blobs: saving, listing, finding, resolving what load_weights was given (WIRE 1.9, 5)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.backend import SavedState
from emulator.core.clock import SECOND
from emulator.core.errors import AlreadyExists, FailedPrecondition, Internal, InvalidArgument, NotFound, PlatformError
from emulator.core.kinds import RESUMABLE, CheckpointKind, detect
from emulator.core.lifecycle import Lifecycle, Pending, Progression
from emulator.core.names import CheckpointScope, OwnerName, Subject, check_checkpoint_name, parse_reference
from emulator.platform.queries.paging import Page, page
from emulator.platform.trainers.owners import Owners
from emulator.quirks import rows as row_quirks, saves
from emulator.state import references
from emulator.state.blobs import Blobs
from emulator.state.entities import Checkpoint
from emulator.state.records import record_for
from emulator.state.world import World

VISIBLE = "visible"
GONE = 'checkpoint "{}" not found in GCS'


@dataclass(frozen=True)
class Origin:
    """Says where a save comes from: the scope that lists it, the model, what the client asked for."""

    scope: CheckpointScope
    base_model: str
    lora_rank: int
    model_id: str
    saved_as: str
    bucket: str = ""
    ttl_s: float = 0.0
    trained: Mapping[str, bool] = field(default_factory=dict)


_POOL_ROW = "run-<32 hex digits>-<name>-<8 hex digits>"


class Checkpoints:
    """The checkpoint rows of all jobs and sessions."""

    def __init__(self, world: World, blobs: Blobs, owners: Owners) -> None:
        self._world = world
        self._blobs = blobs
        self._owners = owners
        self._plain: dict[str, tuple[int, Sequence[Checkpoint] | None]] = {}
        self._lifecycle = Lifecycle(world, self._show)
        owners.on_purge(lambda owner: self.forget(owner.name))

    def check_name(self, subject: Subject, name: str, *, serverless: bool = False, sampler: bool = False) -> None:
        """Refuse a name before anything is computed; raises InvalidArgument (FAILURES B3, B4)."""
        quirks = self._world.quirks
        if serverless:
            _check_fits(
                name, quirks.value(saves.SERVERLESS_NAMES_MAX_LEN, subject), "run-<32 hex digits>-<name>-<8 hex digits>"
            )
        elif sampler:
            _check_fits(name, quirks.value(saves.SAMPLER_NAMES_MAX_LEN, subject), "<name>-<8 hex digits>")
        strict, longest = quirks.both(saves.NAMES_ENFORCE_ON_SAVE, saves.NAMES_MAX_LEN, subject)
        check_checkpoint_name(name, strict=strict, longest=min(longest, 63) if strict else longest)

    def check_free(self, scope: CheckpointScope, name: str, step: int) -> None:
        """A resumable save under a taken name is refused unless it is that very step again (FAILURES B1)."""
        row = self.at(scope, name)
        if row is None:
            return
        rule = self._world.quirks.value(saves.ON_DUPLICATE, scope.subject(name))
        if rule == "overwrite":
            return
        if row.kind not in RESUMABLE or row.step != step or rule == "strict":
            raise AlreadyExists(
                f"checkpoint {name!r} already exists (step {row.step}, {row.kind.value}): choose another name"
            )

    def save(
        self,
        origin: Origin,
        name: str,
        staged: Path,
        state: SavedState,
        seal: Callable[[Path], None] | None = None,
    ) -> Checkpoint:
        """Turn a staged folder into a row: detect its kind, make it durable, list it. `name` was checked before.

        What `seal` does to the files comes behind the detection.
        """
        owner = origin.scope.owner
        subject = origin.scope.subject(name)
        kind = detect(staged)
        if kind is None:
            self._blobs.discard(staged)
            raise Internal(f"the save of {name!r} left no whole checkpoint")
        if seal is not None:
            seal(staged)
        key = f"{subject.account}/{origin.bucket or subject.job}/{name}~{self._world.ids.hex_aside(8)}"
        size = sum(file.stat().st_size for file in staged.rglob("*") if file.is_file())
        resumes = kind in RESUMABLE
        if torn := resumes and self._world.quirks.spend(saves.DCP_TORN, subject):
            _tear(staged, torn)
        digests = self._blobs.digest(staged)
        clock = self._world.clock
        now = clock.now()
        listed, later, due = self._names(origin.scope, subject, resumes, state.step)
        row = Checkpoint(
            owner=owner,
            id=listed,
            created=now,
            updated=now,
            kind=kind,
            blob=key,
            size=size,
            digests=digests,
            renames_to=later,
            renames_at=due,
            expires=clock.ticks() + int(origin.ttl_s * SECOND) if origin.ttl_s else 0,
            base_model=origin.base_model,
            lora_rank=origin.lora_rank,
            step=state.step,
            saved_as=origin.saved_as,
            bucket=origin.bucket,
            previous_snapshot=state.previous_snapshot,
            model_id=origin.model_id,
            trained=dict(origin.trained),
            pending=self._hidden(subject),
        )
        self._blobs.commit(staged, key, digests, record_for("checkpoint", row, *self._listers(owner)))
        if self._world.quirks.spend(saves.DAMAGED, subject):
            self._blobs.damage(key)
        try:
            with self._world.change():
                if not self._listers(owner):  # it has been forgotten meanwhile
                    raise _unlisted(name, owner)
                others = self._world.checkpoints.of(owner)
                if any(other.created >= row.created for other in others):
                    row.created = row.updated = self._world.clock.now()  # another save came in between: order stays
                replaced = next((other for other in others if other.id == row.id), None)
                if replaced is not None:
                    self._world.checkpoints.remove(row.name)
                self._world.checkpoints.put(row)
        except PlatformError:
            self._blobs.delete(key)
            raise
        if replaced is not None:
            references.delete(self._world, self._blobs, [replaced.blob])
        return row

    def adopt(self, row: Checkpoint, staged: Path | None) -> None:
        """List a row that was saved elsewhere, with its staged files; without any its blob is missing on purpose."""
        if staged is not None:
            row.blob = f"{row.subject.account}/{row.owner_id}/{row.id.replace(':', '-')}~{self._world.ids.hex_aside(8)}"
            row.size = sum(file.stat().st_size for file in staged.rglob("*") if file.is_file())
            row.digests = self._blobs.digest(staged)
            self._blobs.commit(staged, row.blob, row.digests, record_for("checkpoint", row, *self._listers(row.owner)))
        with self._world.change():
            self._world.checkpoints.put(row)

    def _listers(self, owner: str) -> list[tuple[str, Any]]:
        """The entities that list an owner's rows, for their records: the job, or the session and its runs."""
        if (job := self._world.jobs.get(owner)) is not None:
            return [("job", job)]
        session = self._world.sessions.get(owner)
        runs = [run for run in self._world.runs.of(session.account) if run.session == owner] if session else []
        return [*([("session", session)] if session else []), *(("run", run) for run in runs)]

    def list(self, owner: OwnerName, *, page_size: int = 50, page_token: str = "") -> Page[Checkpoint]:
        """Visible rows after `page_token`, oldest first; raises NotFound, and InvalidArgument for a foreign token."""
        lister = self._owners.get(owner)
        rows = self._plain_rows(lister.name)
        if rows is None:
            found = self.rows(lister.name)
            rows = [row for row in found if row.pending is None or (not page_token and self._seen(row))]
        cap = self._world.quirks.value(row_quirks.PAGE_SIZE_CAP, lister.subject)
        return page(rows, page_size, page_token, _birth, cap)

    def _plain_rows(self, owner: str) -> Sequence[Checkpoint] | None:
        """All rows of an owner, oldest first, if none is hidden or will change; else None.

        They are gone through when one of them changed, not for every page.
        """
        version = self._world.checkpoints.versions[owner]
        known = self._plain.get(owner)
        if known is None or known[0] != version:
            rows = self._world.checkpoints.of(owner)
            settled = all(row.pending is None and not row.renames_to and not row.expires for row in rows)
            known = self._plain[owner] = (version, rows if settled else None)
        return known[1]

    def rows(self, owner: str) -> Sequence[Checkpoint]:
        """All rows of a job or session, visible or not, oldest first."""
        rows = self._world.checkpoints.of(owner)
        if any(row.renames_to or row.expires for row in rows):
            self._settle(rows)
            rows = sorted(self._world.checkpoints.of(owner), key=_birth)
        return rows

    def forget(self, owner: str) -> None:
        """Drop the rows of an owner whose retention is over, and their blobs (FAILURES D17)."""
        with self._world.change(synced=False):
            rows = self._world.checkpoints.of(owner)
            for row in rows:
                self._world.checkpoints.remove(row.name)
        self._plain.pop(owner, None)
        references.delete(self._world, self._blobs, [row.blob for row in rows])

    def at(self, scope: CheckpointScope, name: str) -> Checkpoint | None:
        """The row that a save of this name has left on a scope."""
        ids = (listed for (listed,) in scope.ids(name))
        found = (self._world.checkpoints.get(f"{scope.owner}/checkpoints/{listed}") for listed in ids)
        return next((row for row in found if row is not None), None)

    def find(self, owner: OwnerName, checkpoint_id: str) -> Checkpoint:
        """The row of this id, visible or not; raises NotFound, also for an owner that is none, or none any more."""
        name = self._owners.get(owner).name
        row = next((row for row in self.rows(name) if row.id == checkpoint_id), None)
        if row is None:
            raise _unlisted(checkpoint_id, name)
        return row

    def sync(self, owner: OwnerName, checkpoint_id: str, kind: str, region: str) -> Checkpoint:
        """Note that a row is kept in another region or class too; its files stay where they are. Raises NotFound."""
        row = self.find(owner, checkpoint_id)
        with self._world.change():
            kept = [one for one in row.copies if tuple(one[:2]) != (kind, region)]
            row.copies = [*kept, (kind, region, self._world.clock.now())]
            return self._world.checkpoints.put(row)

    def saved(self, scope: CheckpointScope, name: str) -> Checkpoint:
        """The row of a save, visible or not; raises NotFound."""
        self.rows(scope.owner)
        row = self.at(scope, name)
        if row is None:
            raise _unlisted(scope.path(name), scope.owner)
        return row

    def folder(self, row: Checkpoint) -> Path:
        """The files of a row; raises NotFound in the service's words when they are gone (FAILURES D3), Damaged."""
        return self._blobs.checked(row.blob, row.digests, f"checkpoint {row.id!r}", GONE.format(row.id))

    def staged_copy(self, row: Checkpoint) -> tuple[Path, dict[str, str]]:
        """A staged copy of a row's files, and the digest of each; raises as `folder`."""
        return self._blobs.staged_copy(row.blob, row.digests, f"checkpoint {row.id!r}", GONE.format(row.id))

    def resolve(self, asking: CheckpointScope, path: str) -> Checkpoint:
        """The resumable row load_weights means (WIRE 5.2); raises InvalidArgument, NotFound, FailedPrecondition."""
        reference = parse_reference(path)
        source = self._owners.source(asking, reference)
        row = self.saved(source, reference.checkpoint)
        if row.kind not in RESUMABLE:
            raise FailedPrecondition(
                f"checkpoint {row.id!r} holds sampler weights ({_short(row.kind)}) and no optimizer: load one that "
                "save_state wrote" + (", or use load_adapter" if row.kind is CheckpointKind.INFERENCE_LORA else "")
            )
        return row

    def _names(self, scope: CheckpointScope, subject: Subject, resumes: bool, step: int) -> tuple[str, str, int]:
        """The id a row gets, the one it is renamed to, and when (FAILURES A8, A9, A13)."""
        quirks, name = self._world.quirks, subject.checkpoint or ""
        style = -1 if scope.run and quirks.value(row_quirks.SESSION_NAME_STYLE, subject) == "colon" else 0
        asked, own = scope.ids(name, f"step-{step}")[style]
        if not resumes:
            return asked, "", 0
        if own == asked or quirks.value(saves.DCP_RENAME, subject) == "caller":
            return asked, "", 0
        wait = quirks.value(saves.DCP_RENAME_AFTER_S, subject)
        return (asked, own, self._world.clock.ticks() + int(wait * SECOND)) if wait > 0 else (own, "", 0)

    def _settle(self, rows: Sequence[Checkpoint]) -> None:
        """Drop rows that have expired (FAILURES B5); give others their lasting names, replacing what had these (A9)."""
        clock, table = self._world.clock, self._world.checkpoints
        expired: list[str] = []
        with self._world.change(synced=False):
            for row in rows:
                if row.expires and clock.ticks() >= row.expires:
                    table.remove(row.name)
                    expired.append(row.blob)
                elif row.renames_to and clock.reached(row.renames_at):
                    table.remove(row.name)
                    lasting = row.renamed()
                    table.remove(lasting.name)
                    table.put(lasting)
        if expired:
            references.delete(self._world, self._blobs, expired)

    def _seen(self, row: Checkpoint) -> bool:
        """Count one list against a row that shows later than it was saved (FAILURES A6)."""
        return self._lifecycle.settle(row, look=True).pending is None

    def _show(self, row: Checkpoint, _: str) -> None:
        """List the row from now on, after a restart too: what a client has seen does not vanish again."""
        row.pending = None
        self._world.checkpoints.put(row)

    def _hidden(self, subject: Subject) -> Pending | None:
        lists, seconds = self._world.quirks.both(
            row_quirks.VISIBLE_AFTER_LISTS, row_quirks.VISIBLE_AFTER_S, subject, spend=True
        )
        return Progression(lists, seconds).to(VISIBLE, self._world.clock) if lists or seconds else None


def _unlisted(name: str, owner: str) -> NotFound:
    return NotFound(f"checkpoint {name[:200]!r} not found on {owner}: use a name that its list_checkpoints returns")


def _tear(folder: Path, what: str) -> None:
    """Take away what makes a training state whole (FAILURES C22)."""
    victim = ".metadata" if what == "missing_metadata" else "*.distcp"
    for file in folder.glob(victim):
        file.unlink()


def _birth(row: Checkpoint) -> int:
    return row.created


def _short(kind: CheckpointKind) -> str:
    return kind.value.removeprefix("CHECKPOINT_TYPE_")


def _check_fits(name: str, longest: int, row: str) -> None:
    """A row's id is a resource id of at most 63 characters, and what stands around the name is in it too."""
    if longest and len(name) > longest:
        raise InvalidArgument(
            f"checkpoint name {name[:80]!r} has {len(name)} characters: use at most {longest}, so that the row's id "
            f"{row} has at most 63"
        )
