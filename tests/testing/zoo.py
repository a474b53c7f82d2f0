"""Checkpoint managers for the kit to judge: five right ones, each in its own way, and twenty with one fault each."""

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from ftsim.training.checkpoints.manager import TrainingCheckpoints

Row = dict[str, Any]


@dataclass
class Info:
    step: int
    data_consumed: int


def parsed(row: Row) -> datetime:
    return datetime.fromisoformat(row["createTime"])


def name_of(row: Row) -> str:
    return str(row["name"].rsplit("/", 1)[1])


class Listing:
    """Right: the list says what there is, a file what each save had seen; it is written before the save."""

    def __init__(self, client: Any, fw_client: Any, *, trainer_id: str, log_path: str, lora_rank: int = 0) -> None:
        self.client, self.fw_client, self.trainer_id = client, fw_client, trainer_id
        self.lora_rank = lora_rank
        self.file = Path(log_path) / "seen.json"
        self.last: str | None = None
        """The row that holds what the trainer came back to or what was last saved promotable."""

    # -- what the faulty ones below replace

    def seen(self) -> dict[str, int]:
        return dict(json.loads(self.file.read_text())) if self.file.exists() else {}

    def note(self, name: str, data_consumed: int) -> None:
        aside = self.file.with_suffix(".new")
        aside.write_text(json.dumps({**self.seen(), name: data_consumed}))
        aside.replace(self.file)

    def rows(self) -> list[Row]:
        return list(self.fw_client.list_checkpoints(self.trainer_id))

    def key(self, row: Row) -> Any:
        return parsed(row)

    def states(self) -> list[Row]:
        """Resumable rows, oldest first."""
        wanted = [row for row in self.rows() if "TRAINING" in row["checkpointType"]]
        return sorted((row for row in wanted if name_of(row) in self.seen()), key=self.key)

    def load(self, name: str) -> None:
        self.client.load_state_with_optimizer(name).result()

    def unused(self, name: str) -> str:
        """Returns a name that no row has: a step is saved again after a resume."""
        taken = {name_of(row) for row in self.rows()}
        return next(free for free in (name, *(f"{name}-r{number}" for number in range(2, 99))) if free not in taken)

    # -- the interface

    def save(self, name: str, *, resumable: bool, promotable: bool, data_consumed: int) -> None:
        if resumable:
            self.save_state(name, data_consumed)
        if promotable:
            self.save_weights(name)

    def save_state(self, name: str, data_consumed: int) -> None:
        name = self.unused(name)
        self.note(name, data_consumed)
        self.client.save_state(name).result()

    def save_weights(self, name: str) -> None:
        self.client.save_weights_for_sampler_ext(name, checkpoint_type="base")
        self.last = f"{name}-{self.client.session_id}"

    def resume(self) -> Info | None:
        states = self.states()
        return self.come_back(name_of(states[-1])) if states else None

    def come_back(self, name: str) -> Info:
        self.load(name)
        self.last = None
        return Info(int(name.split("-")[1]), self.seen()[name])

    def promotable(self) -> list[Row]:
        return sorted((row for row in self.rows() if row.get("promotable")), key=self.key)

    def promote_latest(self, output_model_id: str, base_model: str) -> None:
        """Promote what this process saved last, or what belongs to the save that it came back to."""
        self.promote(self.newest_of_ours(), output_model_id, base_model)

    def newest_of_ours(self) -> Row:
        if self.last is not None:
            return self.wait_for(self.last)
        state = self.states()[-1]
        twin = [row for row in self.promotable() if name_of(row).startswith(f"{name_of(state)}-")]
        if not twin:
            raise LookupError(f"nothing promotable belongs to {name_of(state)}")
        return twin[-1]

    def wait_for(self, name: str) -> Row:
        for attempt in range(11):
            if found := [row for row in self.rows() if name_of(row) == name]:
                return found[0]
            time.sleep(2**attempt)
        raise LookupError(f"{name} was not listed within {2**11 - 1} s")

    def promote(self, row: Row, output_model_id: str, base_model: str) -> None:
        self.fw_client.promote_checkpoint(name=row["name"], output_model_id=output_model_id, base_model=base_model)


# -- right ones, too


class Ledger(Listing):
    """Right: a database of its own says what each save had seen, the list whether it is there."""

    def _ledger(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.file.with_suffix(".db"))
        base.execute("create table if not exists saves (name text primary key, consumed integer, done integer)")
        return base

    def seen(self) -> dict[str, int]:
        base = self._ledger()
        with base:
            found = dict(base.execute("select name, consumed from saves"))
        base.close()
        return found

    def note(self, name: str, data_consumed: int) -> None:
        base = self._ledger()
        with base:
            base.execute("insert or replace into saves values (?, ?, 0)", (name, data_consumed))
        base.close()


class FailsClosed(Listing):
    """Right: what is not listed at once is refused, never replaced by something older."""

    def wait_for(self, name: str) -> Row:
        found = [row for row in self.rows() if name_of(row) == name]
        if not found:
            raise LookupError(f"{name} is not listed")
        return found[0]


class ByHand(Listing):
    """Right: reads the list over plain HTTP, page by page."""

    def rows(self) -> list[Row]:
        found: list[Row] = []
        page: dict[str, Any] = {}
        while True:
            page = self.page(str(page.get("nextPageToken") or ""))
            found += page.get("checkpoints") or []
            if not page.get("nextPageToken"):
                return found

    def page(self, token: str) -> dict[str, Any]:
        client = self.fw_client
        path = f"/v1/accounts/{client.account_id}/rlorTrainerJobs/{self.trainer_id}/checkpoints"
        answer = httpx.get(
            client.base_url + path, params={"pageToken": token} if token else {}, headers={"X-Api-Key": client.api_key}
        )
        return dict(answer.raise_for_status().json())


# -- one fault each


class Forgetful(Listing):
    """Starts over."""

    def resume(self) -> None:
        return None


class Eager(Listing):
    """Says that it resumed at step 0 when there was nothing."""

    def resume(self) -> Info | None:
        return super().resume() or Info(0, 0)


class OldestState(Listing):
    """Takes the first resumable row."""

    def states(self) -> list[Row]:
        return super().states()[::-1]


class OffByOne(Listing):
    """Reads "saved after batch N" as "batch N is next"."""

    def come_back(self, name: str) -> Info:
        found = super().come_back(name)
        return Info(found.step, found.data_consumed - 1)


class CountsSteps(Listing):
    """Takes the step for the number of rows."""

    def come_back(self, name: str) -> Info:
        found = super().come_back(name)
        return Info(found.step, found.step)


class LoadsFirst(Listing):
    """Says the newest and loads the first."""

    def load(self, name: str) -> None:
        super().load(name_of(self.states()[0]))


class WeightsOnly(Listing):
    """Loads without the optimizer."""

    def load(self, name: str) -> None:
        self.client.load_state(name).result()


class PromotesState(Listing):
    """Promotes the training state."""

    def newest_of_ours(self) -> Row:
        return self.states()[-1]


class OldestPromotable(Listing):
    """Takes the first promotable row of the list."""

    def newest_of_ours(self) -> Row:
        return self.promotable()[0]


class SameName(Listing):
    """Saves under a name that the branch before had taken."""

    def unused(self, name: str) -> str:
        return name


class ComparesText(Listing):
    """Compares createTime as text."""

    def key(self, row: Row) -> Any:
        return row["createTime"]


class SortsNames(Listing):
    """Sorts names as text."""

    def states(self) -> list[Row]:
        return sorted(super().states(), key=name_of)


class FirstPage(ByHand):
    """Reads the first page only."""

    def rows(self) -> list[Row]:
        return list(self.page("").get("checkpoints") or [])


class TrustsRows(Listing):
    """Knows every type of row there is."""

    def rows(self) -> list[Row]:
        known = {
            "CHECKPOINT_TYPE_TRAINING",
            "CHECKPOINT_TYPE_TRAINING_LORA",
            "CHECKPOINT_TYPE_INFERENCE_BASE",
            "CHECKPOINT_TYPE_INFERENCE_LORA",
        }
        rows = super().rows()
        for row in rows:
            if row["checkpointType"] not in known:
                raise KeyError(row["checkpointType"])
        return rows


class LocalClock(Listing):
    """Leaves out rows that are older than the run, by its own clock."""

    def rows(self) -> list[Row]:
        began = self.file.with_name("began")
        if not began.exists():
            began.write_text(datetime.now(UTC).isoformat())
        return [row for row in super().rows() if parsed(row) >= datetime.fromisoformat(began.read_text())]


class PointsFirst(Listing):
    """Writes a pointer to a save before the save, and believes it."""

    def save_state(self, name: str, data_consumed: int) -> None:
        name = self.unused(name)
        self.note(name, data_consumed)
        self.file.with_name("latest").write_text(name)
        self.client.save_state(name).result()

    def resume(self) -> Info | None:
        latest = self.file.with_name("latest")
        return self.come_back(latest.read_text()) if latest.exists() else None


class NotesLast(Listing):
    """Writes what a save had seen after both halves, and takes any row."""

    def save(self, name: str, *, resumable: bool, promotable: bool, data_consumed: int) -> None:
        name = self.unused(name)
        if resumable:
            self.client.save_state(name).result()
        if promotable:
            self.save_weights(name)
        self.note(name, data_consumed)

    def states(self) -> list[Row]:
        return sorted((row for row in self.rows() if "TRAINING" in row["checkpointType"]), key=self.key)


class TakesTheNote(Listing):
    """Takes its file away while it resumes and writes it anew afterwards."""

    def resume(self) -> Info | None:
        seen: Mapping[str, int] = self.seen()
        states = self.states()
        self.file.unlink(missing_ok=True)
        if not states:
            return None
        self.load(name_of(states[-1]))
        for name, consumed in seen.items():
            self.note(name, consumed)
        return super().resume()


class EmptyWhenUnreachable(Listing):
    """Takes a list that failed for an empty one."""

    def rows(self) -> list[Row]:
        try:
            return super().rows()
        except Exception:
            return []


class Impatient(Listing):
    """Promotes the newest of its session that is listed now."""

    def newest_of_ours(self) -> Row:
        own = [row for row in self.promotable() if name_of(row).endswith(f"-{self.client.session_id}")]
        return own[-1] if own else super().newest_of_ours()


class NewestOfTheJob(Listing):
    """Promotes the newest promotable row, of a branch that a crash has cut off or not."""

    def newest_of_ours(self) -> Row:
        if self.last is not None:
            return super().newest_of_ours()
        return self.promotable()[-1]


RIGHT = (TrainingCheckpoints, Listing, Ledger, FailsClosed, ByHand)
FAULTY = {
    Forgetful: "resume", Eager: "fresh", OldestState: "newest", OffByOne: "cursor", CountsSteps: "cursor",
    LoadsFirst: "weights", WeightsOnly: "optimizer", PromotesState: "promote", OldestPromotable: "promoted",
    ComparesText: "times", SortsNames: "numbers", FirstPage: "pages", TrustsRows: "rows",
    LocalClock: "clock", PointsFirst: "unfinished", NotesLast: "unfinished", TakesTheNote: "interrupted",
    EmptyWhenUnreachable: "unreachable", Impatient: "visible", NewestOfTheJob: "branch",
}  # fmt: skip
