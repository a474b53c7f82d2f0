"""Client sessions of one trainer: they live and die with the trainer, as its models do (WIRE 2.4)."""

from dataclasses import dataclass

from emulator.core.errors import NotFound
from emulator.state.world import World


@dataclass
class ClientSession:
    """One service client's connection; times in microseconds since the epoch."""

    id: str
    created: int
    last_seen: int


class ClientSessions:
    """The sessions of one trainer, oldest first."""

    def __init__(self, world: World, prefix: str = "ses-") -> None:
        self._world = world
        self._prefix = prefix
        self._sessions: dict[str, ClientSession] = {}

    def create(self) -> ClientSession:
        now = self._world.clock.now()
        session = ClientSession(f"{self._prefix}{self._world.ids.hex(32)}", now, now)
        self._sessions[session.id] = session
        return session

    def adopt(self, session_id: str) -> None:
        """Know a session that was opened elsewhere, as those of the pool are."""
        now = self._world.clock.now()
        self._sessions.setdefault(session_id, ClientSession(session_id, now, now))

    def get(self, session_id: str) -> ClientSession:
        """A live session; raises NotFound."""
        session = self._sessions.get(session_id)
        if session is None:
            raise NotFound(
                f"session {session_id[:80]!r} not found: the trainer was restarted since; connect again "
                "(create_session, create_model) and load a checkpoint"
            )
        return session

    def heartbeat(self, session_id: str) -> None:
        self.get(session_id).last_seen = self._world.clock.now()
