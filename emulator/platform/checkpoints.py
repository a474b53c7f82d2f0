"""Rows and blobs: saving, listing, finding, resolving what load_weights was given (WIRE 1.9, 5)."""

from dataclasses import dataclass
from pathlib import Path

from emulator.backend import SavedState
from emulator.blobs import Blobs
from emulator.entities import Checkpoint
from emulator.errors import AlreadyExists, FailedPrecondition, Internal, InvalidArgument, NotFound
from emulator.kinds import CheckpointKind, detect, resumable
from emulator.names import check_checkpoint_name, parse_reference
from emulator.platform.jobs import Jobs
from emulator.transitions import Pending, Progression
from emulator.world import World

VISIBLE = "visible"


@dataclass(frozen=True)
class Page:
    """One page of rows, oldest first; an empty token ends the list (WIRE 1.9)."""

    rows: list[Checkpoint]
    next_token: str


@dataclass(frozen=True)
class Origin:
    """Where a save comes from: the listing owner (full job or session name), the model, what the client asked for."""

    owner: str
    base_model: str
    lora_rank: int
    model_id: str
    saved_as: str
    bucket: str = ""


class Checkpoints:
    """The checkpoint rows of all jobs and sessions."""

    def __init__(self, world: World, blobs: Blobs, jobs: Jobs) -> None:
        self._world = world
        self._blobs = blobs
        self._jobs = jobs

    def check_name(self, owner: str, name: str) -> None:
        """Refuse a name before anything is computed; raises InvalidArgument (FAILURES B3, B4)."""
        strict = self._world.quirks.value("names.enforce_on_save", job=owner.rsplit("/", 1)[-1])
        check_checkpoint_name(name, strict=strict, longest=63 if strict else 128)

    def check_free(self, owner: str, name: str, step: int) -> None:
        """A resumable save under a taken name is refused unless it is that very step again (FAILURES B1)."""
        row = self._world.checkpoints.get(f"{owner}/checkpoints/{name}")
        if row is None or self._world.quirks.value("save.on_duplicate", checkpoint=name) == "overwrite":
            return
        if not resumable(row.kind) or row.step != step:
            raise AlreadyExists(
                f"checkpoint {name!r} already exists (step {row.step}, {row.kind.value}): choose another name"
            )

    def save(self, origin: Origin, name: str, staged: Path, state: SavedState) -> Checkpoint:
        """Turn a staged folder into a row: detect its kind, make it durable, list it."""
        self.check_name(origin.owner, name)
        kind = detect(staged)
        if kind is None:
            self._blobs.discard(staged)
            raise Internal(f"the save of {name!r} left no whole checkpoint")
        account, _, job = origin.owner.split("/")[1:4]
        key = f"{account}/{origin.bucket or job}/{name}~{self._world.ids.hex(8)}"
        size = sum(file.stat().st_size for file in staged.rglob("*") if file.is_file())
        self._blobs.commit(staged, key)
        with self._world.change():
            now = self._world.clock.now()
            row = Checkpoint(
                owner=origin.owner, id=name, created=now, updated=now, kind=kind, blob=key, size=size,
                base_model=origin.base_model, lora_rank=origin.lora_rank, step=state.step, saved_as=origin.saved_as,
                bucket=origin.bucket, previous_snapshot=state.previous_snapshot, model_id=origin.model_id,
                pending=self._hidden(job, name, now),
            )  # fmt: skip
            replaced = self._world.checkpoints.get(row.name)
            if replaced is not None:
                self._world.checkpoints.remove(row.name)
            self._world.checkpoints.put(row)
        if replaced is not None:
            self._blobs.delete(replaced.blob)
        return row

    def list(self, owner: str, *, page_size: int = 50, page_token: str = "") -> Page:
        """Visible rows after `page_token`, oldest first; raises InvalidArgument for a token that is not ours."""
        job = owner.rsplit("/", 1)[-1]
        after = _read_token(page_token)
        with self._world.lock:
            rows = [row for row in self._world.checkpoints.of(owner) if self._seen(row)]
        rows = [row for row in rows if row.created > after]
        size = max(1, min(page_size or 50, self._world.quirks.value("rows.page_size_cap", job=job)))
        page = rows[:size]
        return Page(page, f"t{page[-1].created}" if len(rows) > size else "")

    def find(self, owner: str, checkpoint_id: str) -> Checkpoint:
        """The row of this id, visible or not; raises NotFound."""
        row = self._world.checkpoints.get(f"{owner}/checkpoints/{checkpoint_id}")
        if row is None:
            raise NotFound(f"checkpoint {checkpoint_id[:128]!r} not found on {owner}")
        return row

    def folder(self, row: Checkpoint) -> Path:
        """The files of a row; raises NotFound in the service's words when they are gone (FAILURES D3)."""
        if not self._blobs.exists(row.blob):
            raise NotFound(f'checkpoint "{row.id}" not found in GCS')
        return self._blobs.path(row.blob)

    def resolve(self, account: str, job_id: str, path: str) -> Checkpoint:
        """The resumable row load_weights means (WIRE 5.2); raises InvalidArgument, NotFound, FailedPrecondition."""
        reference = parse_reference(path)
        if reference.run is not None:
            raise InvalidArgument(f"cannot load {path[:120]!r}: a serverless run's checkpoint on a dedicated trainer")
        source = self._jobs.get(account, reference.job or job_id)
        row = self.find(source.name, reference.checkpoint)
        if not resumable(row.kind):
            raise FailedPrecondition(
                f"checkpoint {row.id!r} holds sampler weights ({_short(row.kind)}) and no optimizer: load one that "
                "save_state wrote" + (", or use load_adapter" if row.kind is CheckpointKind.INFERENCE_LORA else "")
            )
        return row

    def _hidden(self, job: str, name: str, now: int) -> Pending | None:
        subject = {"job": job, "checkpoint": name}
        lag = Progression(
            self._world.quirks.spend("rows.visible_after_lists", **subject),
            self._world.quirks.spend("rows.visible_after_s", **subject),
        )
        return None if lag.immediate else Pending.start(VISIBLE, lag, now)

    def _seen(self, row: Checkpoint) -> bool:
        if row.pending is not None and row.pending.look(self._world.clock.now()):
            row.pending = None
        return row.pending is None


def _read_token(token: str) -> int:
    if not token:
        return 0
    if token[0] != "t" or not token[1:].isascii() or not token[1:].isdigit():
        raise InvalidArgument(f"invalid page token {token[:40]!r}")
    return int(token[1:])


def _short(kind: CheckpointKind) -> str:
    return kind.value.removeprefix("CHECKPOINT_TYPE_")
