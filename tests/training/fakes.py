"""A control plane and a trainer in a few dicts: the rules of the checkpoint list without a network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

JOB = "accounts/acct/rlorTrainerJobs/sft-job/checkpoints/"


class RequestFailedError(Exception):
    """Named as the SDK's error for a refused request."""


class Done:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def result(self, timeout: float | None = None) -> None:
        if self.error is not None:
            raise self.error


@dataclass
class FakePlane:
    """Lists rows oldest first; `now` is the server's clock in seconds, `lag` how many lists miss a new row."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    now: float = 0.0
    fail_list: Exception | None = None
    lag: int = 0
    hidden: dict[str, int] = field(default_factory=dict)
    promoted: list[str] = field(default_factory=list)

    def add(self, name: str, kind: str = "TRAINING", *, created: str | None = None) -> dict[str, Any]:
        self.now += 1
        minute, second = divmod(int(self.now), 60)
        row: dict[str, Any] = {
            "name": JOB + name,
            "checkpointType": f"CHECKPOINT_TYPE_{kind}",
            "createTime": created or f"2026-08-01T10:{minute:02d}:{second:02d}.000000Z",
        }
        if kind.startswith("INFERENCE") and "ARC" not in kind:
            row["promotable"] = True
        self.hidden[JOB + name] = self.lag
        self.rows = [kept for kept in self.rows if kept["name"] != row["name"]] + [row]
        return row

    def list_checkpoints(self, job_id: str) -> list[dict[str, Any]]:
        assert job_id == "sft-job"
        if self.fail_list is not None:
            raise self.fail_list
        shown = [row for row in self.rows if not self.hidden.get(row["name"])]
        self.hidden = {name: count - 1 for name, count in self.hidden.items() if count > 1}
        return shown

    def promote_checkpoint(self, *, name: str, output_model_id: str, base_model: str) -> dict[str, Any]:
        self.promoted.append(name.removeprefix(JOB))
        return {"name": f"accounts/acct/models/{output_model_id}", "state": "READY"}


@dataclass
class FakeTrainer:
    """Saves into the plane; `rename` is what the server calls a save, `broken` the names that do not load."""

    plane: FakePlane
    session_id: str = "aaaaaaaa"
    rename: Callable[[str], str] = str
    broken: frozenset[str] = frozenset()
    fail_save: BaseException | None = None
    apply_before_failing: bool = False
    calls: list[tuple[str, str]] = field(default_factory=list)

    def save_state(self, name: str) -> Done:
        self.calls.append(("save_state", name))
        if self.fail_save is None or self.apply_before_failing:
            self.plane.add(self.rename(name))
        return Done(self.fail_save)

    def save_weights_for_sampler_ext(self, name: str, checkpoint_type: str) -> None:
        self.calls.append(("save_sampler", name))
        assert checkpoint_type == "base"
        self.plane.add(f"{name}-{self.session_id}", "INFERENCE_BASE")

    def load_state_with_optimizer(self, path: str) -> Done:
        self.calls.append(("load_with_optimizer", path))
        return Done(RequestFailedError(f"{path} has no metadata") if path in self.broken else None)

    def load_state(self, path: str) -> Done:
        self.calls.append(("load_weights", path))
        return Done(RequestFailedError(f"{path} has no metadata") if path in self.broken else None)

    def load_adapter(self, path: str) -> Done:
        self.calls.append(("load_adapter", path))
        return Done()

    def resolve_checkpoint_path(self, name: str, source_job_id: str | None = None) -> str:
        return f"cross_job://{source_job_id}/{name}" if source_job_id else name
