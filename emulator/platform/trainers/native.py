"""Runs, paths and sampling sessions as clients of tinker name them; behind them are the pool's sessions and rows.

A run is called as its model is, `<session>:train:<number>`; its saves are `tinker://<run>/weights/<name>`,
`tinker://<run>/sampler_weights/<name>` and `tinker://<run>/external_weights/<name>`.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from emulator.backend import Generation
from emulator.core.clock import SECOND
from emulator.core.errors import InvalidArgument, NotFound
from emulator.core.kinds import resumable
from emulator.core.names import CheckpointScope
from emulator.platform.checkpoints.checkpoints import Checkpoints
from emulator.platform.trainers.training_sessions import TrainingSessions
from emulator.state.entities import Checkpoint, Run
from emulator.state.world import World

_PATH = re.compile(r"tinker://([^/]+)/(weights|sampler_weights|external_weights)/([^/]+)")
Kind = Literal["weights", "sampler_weights", "external_weights"]
SUFFIXES: Mapping[str, str] = {"weights": "", "sampler_weights": "-sampler", "external_weights": "-external"}
"""What the row of each kind has behind the name of its save: all three may have one name."""
UNNAMED = "unnamed-"
"""What a sampler save without a name is called, before the number of its sampling session; no list shows it."""
LEAST_TTL_S, MOST_TTL_S = 3600, 10 * 366 * 86_400


@dataclass(frozen=True)
class SamplingSession:
    """Says what a sampling client samples: `model` as the inference endpoint names it, `path` where it is a save."""

    id: str
    account: str
    session: str
    model: str
    base_model: str
    path: str | None = None


@dataclass
class Sampling:
    """Sampling sessions and the generations that run for them; both are lost with the emulator's process."""

    sessions: dict[str, SamplingSession] = field(default_factory=dict)
    _running: dict[str, list["Future[Generation]"]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, account: str, session_id: str) -> SamplingSession:
        """The session of this id; raises NotFound."""
        found = self.sessions.get(session_id)
        if found is None or found.account != account:
            raise NotFound(f"sampling session {session_id[:80]!r} not found: create the sampling client again")
        return found

    def of(self, account: str, session: str) -> list[str]:
        """Ids of the sampling sessions that a client session has opened, oldest first."""
        return [one.id for one in self.sessions.values() if (one.account, one.session) == (account, session)]

    def run(self, request_id: str, futures: Sequence["Future[Generation]"], end: Callable[[], None]) -> None:
        """Call `end` once, when all of a request's generations are over, from whichever thread ends the last."""
        left = len(futures)

        def ended(_: "Future[Generation]") -> None:
            nonlocal left
            with self._lock:
                left -= 1
                over = left == 0
                if over:
                    self._running.pop(request_id, None)
            if over:
                end()

        with self._lock:
            self._running[request_id] = list(futures)
        for future in futures:
            future.add_done_callback(ended)

    def cancel(self, request_id: str) -> None:
        """Stop the generations of a request; one that is over stays as it is."""
        with self._lock:
            futures = list(self._running.get(request_id, ()))
        for future in futures:
            future.cancel()


class NativeRuns:
    """Finds the runs and saves that tinker's names mean."""

    def __init__(self, world: World, sessions: TrainingSessions, checkpoints: Checkpoints) -> None:
        self._world = world
        self._sessions = sessions
        self._checkpoints = checkpoints

    def all(self, account: str) -> Sequence[Run]:
        """The runs of an account, the newest first."""
        return self._sessions.runs(account)

    def sessions(self, account: str) -> list[str]:
        """Ids of the sessions that are not deleted, the newest first."""
        found = [one for one in self._world.sessions.of(account) if one.deleted is None]
        return [one.id for one in sorted(found, key=lambda one: (one.created, one.id), reverse=True)]

    def get(self, account: str, run_id: str) -> Run:
        """The run of this id; raises NotFound."""
        return self._sessions.run_of_model(account, run_id)

    def rows(self, run: Run) -> Sequence[Checkpoint]:
        """The saves of a run that have a name, oldest first."""
        rows = [row for row in self._checkpoints.rows(run.session) if row.model_id == run.model_id]
        return [row for row in rows if not checkpoint_id(run, row).startswith(f"sampler_weights/{UNNAMED}")]

    def row(self, account: str, path: str) -> Checkpoint:
        """The save that a path means; raises InvalidArgument, NotFound."""
        return self._find(account, path)[1]

    def pool_path(self, account: str, path: str) -> str:
        """The same save as the pool's endpoints name it; raises InvalidArgument, NotFound."""
        run, row = self._find(account, path)
        return CheckpointScope(run.session, run.id).path(_listed(run, row))

    def delete(self, account: str, path: str) -> None:
        """Remove a save and its files; raises NotFound."""
        row = self.row(account, path)
        self._expire(row, self._world.clock.ticks())

    def keep(self, account: str, path: str, seconds: object) -> None:
        """Let a save expire so many seconds from now, None never; raises InvalidArgument, NotFound."""
        if seconds is None:
            self._expire(self.row(account, path), 0)
            return
        if not isinstance(seconds, int) or not LEAST_TTL_S <= seconds <= MOST_TTL_S:
            raise InvalidArgument(f"ttl_seconds is {str(seconds)[:40]}: give {LEAST_TTL_S} to {MOST_TTL_S}, or null")
        self._expire(self.row(account, path), self._world.clock.ticks() + seconds * SECOND)

    def _expire(self, row: Checkpoint, moment: int) -> None:
        with self._world.change():
            row.expires = moment
            self._world.checkpoints.put(row)
        self._checkpoints.rows(row.owner)  # what is over by now goes at once

    def _find(self, account: str, path: str) -> tuple[Run, Checkpoint]:
        match = _PATH.fullmatch(path)
        if match is None:
            raise InvalidArgument(
                f"{path[:120]!r} is no path of a checkpoint: give tinker://<run>/weights/<name>, or "
                "sampler_weights or external_weights in place of weights"
            )
        run = self.get(account, match[1])
        name = match[3] + SUFFIXES[match[2]]
        self._checkpoints.rows(run.session)  # what has expired goes first
        row = self._checkpoints.at(CheckpointScope(run.session, run.id), name)
        if row is None or kind(row) != match[2]:
            raise NotFound(f"checkpoint {path[:160]!r} not found")
        return run, row


def kind(row: Checkpoint) -> Kind:
    """The word in its path that says what a save holds."""
    if resumable(row.kind):
        return "weights"
    return "external_weights" if row.id.endswith(SUFFIXES["external_weights"]) else "sampler_weights"


def checkpoint_id(run: Run, row: Checkpoint) -> str:
    """The end of a save's path, `weights/<name>`."""
    return f"{kind(row)}/{_listed(run, row).removesuffix(SUFFIXES[kind(row)])}"


def _listed(run: Run, row: Checkpoint) -> str:
    return row.id[len(run.id) + 1 :]
