"""What to do with a saved journal: show it, export it as HAR, replay it against a fresh emulator."""

from ftsim.journal.har import har
from ftsim.journal.replay import Difference, Replay, replay

__all__ = ["Difference", "Replay", "har", "replay"]
