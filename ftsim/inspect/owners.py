"""Jobs and training sessions as a person names them: an id or the beginning of one, a display name, a log_path."""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from ftsim.inspect.listing import ListedRow
from ftsim.inspect.service import Service, ServiceError
from ftsim.training.checkpoints.rows import parse_time

COLLECTIONS = ("rlorTrainerJobs", "trainingSessions")
_DIGITS = 24
"""Of a recipe's job id, behind its name: they are drawn from the real path of its log_path."""


@dataclass(frozen=True)
class Owner:
    """The owner of checkpoints: a job, or a training session (`display_name` is then empty)."""

    name: str
    state: str
    base_model: str
    lora_rank: int | None
    created: int
    """In nanoseconds; 0 where the service does not say."""
    display_name: str = ""

    @property
    def id(self) -> str:
        return self.name.rsplit("/", 1)[-1]

    @property
    def log_path(self) -> str | None:
        """The folder of a recipe's run, if it is the current folder, one in it, or in `runs`; None elsewhere."""
        near = (".", self.display_name, os.path.join("runs", self.display_name))
        return next((path for path in near if path and self.belongs_to(path)), None)

    def belongs_to(self, log_path: str) -> bool:
        """Tell whether a recipe with this log_path made the job."""
        return self.id.endswith(f"-{_digest(log_path)}")


def owners(service: Service) -> list[Owner]:
    """All jobs and sessions of the account, oldest first; raises `ServiceError`."""
    found: list[Owner] = []
    for collection in COLLECTIONS:
        token, seen = "", set[str]()
        while True:
            query = {"pageSize": 200} | ({"pageToken": token} if token else {})
            answer = service.get(f"/v1/accounts/{service.account}/{collection}", **query)
            found += [_owner(body) for body in answer.get(collection) or []]
            token = str(answer.get("nextPageToken") or "")
            if not token or token in seen:  # FAILURES A7: a page may name itself as the next
                break
            seen.add(token)
    return sorted(found, key=lambda owner: owner.created)


def find(service: Service, text: str | None) -> str:
    """The full name of the job or session that `text` means, the newest without it; raises `ServiceError`.

    A text that means none is given back as it is: a job may be there and not be listed.
    """
    if text is not None and text.strip("/").startswith("accounts/"):
        return text
    if text is None:
        there = owners(service)
        if not there:
            raise ServiceError(f"there is no job and no session in the account {service.account} yet")
        return there[-1].name
    try:
        there = owners(service)
    except ServiceError:  # an old service without one of the lists still answers for an id
        return text
    ways = (
        [one for one in there if one.id == text],
        [one for one in there if one.display_name == text],
        [one for one in there if os.path.isdir(text) and one.belongs_to(text)],
        [one for one in there if one.id.startswith(text)],
    )
    for chosen in ways:
        if len(chosen) == 1:
            return chosen[0].name
        if chosen:
            listed = ", ".join(one.id for one in chosen[-5:])
            raise ServiceError(f"{text!r} may be any of {len(chosen)}, the newest are {listed}: give more of the id")
    if os.path.isdir(text) and os.sep in os.path.normpath(text):
        raise ServiceError(f"no job of a recipe has the log_path {text!r}; `ftsim jobs` lists them")
    return text


def latest_step(rows: list[ListedRow]) -> int | None:
    """The highest optimizer step that a checkpoint holds."""
    return max((row.step for row in rows if row.step is not None), default=None)


def _owner(body: dict[str, Any]) -> Owner:
    config = body.get("trainingConfig") or body
    rank = config.get("loraRank")
    return Owner(
        name=str(body.get("name", "")),
        state=str(body.get("state", "")),
        base_model=str(config.get("baseModel") or ""),
        lora_rank=rank if isinstance(rank, int) else None,
        created=_time(str(body.get("createTime") or "")),
        display_name=str(body.get("displayName") or ""),
    )


def _time(text: str) -> int:
    try:
        return parse_time(text)
    except ValueError:
        return 0


def _digest(log_path: str) -> str:
    return hashlib.sha256(os.path.realpath(log_path).encode()).hexdigest()[:_DIGITS]
