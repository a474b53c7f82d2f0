"""Checkpoint rows as the control plane lists them, read defensively (FAILURES A)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")
_STEP = re.compile(r"(?:.*-)?step-(\d+)(?:-r\d+)?")
_OF_SESSION = re.compile(r"accounts/([^/]+)/trainingSessions/[^/]+/checkpoints/(run-[0-9a-f]{32})-(.+)")
_SESSION_SUFFIX = re.compile(r"-[0-9a-f]{8}")


def parse_time(text: str) -> int:
    """Returns an RFC 3339 timestamp of any precision as nanoseconds since 1970; `ValueError` when it is none."""
    match = _TIMESTAMP.fullmatch(text)
    if not match:
        raise ValueError(f"not an RFC 3339 timestamp: {text!r}")
    seconds, fraction, zone = match.groups()
    moment = datetime.fromisoformat(seconds.upper() + ("+00:00" if zone in "Zz" else zone)).astimezone(UTC)
    return int(moment.timestamp()) * 1_000_000_000 + int((fraction or "").ljust(9, "0")[:9])


@dataclass(frozen=True)
class Row:
    """One listed checkpoint; `created` is in nanoseconds of the server's clock, 0 when the server gave none."""

    id: str
    name: str
    type: str
    created: int
    promotable: bool

    @property
    def path(self) -> str:
        """Name what loads the row: its id on its own job, and account, run and name on the serverless pool."""
        match = _OF_SESSION.fullmatch(self.name)
        return "/".join(match.groups()) if match else self.id

    @property
    def resumable(self) -> bool:
        # Prefixed or not; any other type is opaque.
        return self.type.endswith(("TRAINING", "TRAINING_LORA"))

    @property
    def step(self) -> int | None:
        """The step in a name such as `step-7`, `dpo-step-7` or `step-7-r2`; None when the name holds none."""
        return step_of(self.id)

    def is_save_of(self, name: str) -> bool:
        """Returns True for a sampler row saved under `name` by some session: the SDK adds the session to the name."""
        return self.id.startswith(name) and bool(_SESSION_SUFFIX.fullmatch(self.id[len(name) :]))


def step_of(name: str) -> int | None:
    """The step number in a checkpoint name, None when it holds none."""
    match = _STEP.fullmatch(name)
    return int(match.group(1)) if match else None


def step_name(step: int, phase: str = "", stem: str = "step") -> str:
    """The name of what is saved after `step`, such as `step-7` or, in a phase of its own, `dpo-step-7`."""
    return f"{phase}-{stem}-{step}" if phase else f"{stem}-{step}"


def read_row(raw: Mapping[str, Any]) -> Row:
    """Returns a row from one entry of `list_checkpoints`; absent fields mean empty, absent `promotable` means false."""
    name = str(raw.get("name") or "")
    of_session = _OF_SESSION.fullmatch(name)
    created = str(raw.get("createTime") or raw.get("create_time") or "")
    return Row(
        id=of_session.group(3) if of_session else name.rsplit("/", 1)[-1],
        name=name,
        type=str(raw.get("checkpointType") or raw.get("checkpoint_type") or ""),
        created=parse_time(created) if created else 0,
        promotable=raw.get("promotable") is True,
    )


def read_rows(raw: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Returns rows newest first by the server's clock; of equal times, the one listed later comes first."""
    listed = [read_row(entry) for entry in raw]
    order = sorted(range(len(listed)), key=lambda index: (listed[index].created, index), reverse=True)
    return [listed[index] for index in order]
