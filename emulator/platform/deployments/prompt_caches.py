"""Keeps track of which computed prompts a replica may go on from after a load: reset_prompt_cache (FAILURES E28).

A replica keeps computed positions under a scope; a request finds what stands under its own. `all` gives every later
request another scope, `new_session` those of sessions that were not heard of before, `none` nobody.
"""

from dataclasses import dataclass, field

from emulator.quirks import inference
from emulator.state.entities import Deployment
from emulator.state.world import World

RESETS = ("all", "new_session", "none")


@dataclass
class _Epochs:
    now: int = 0
    sessions: dict[str, int] = field(default_factory=dict)
    """The epoch in which each session was first heard of."""


class PromptCaches:
    """The scopes of all deployments, in memory as the caches themselves are."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._epochs: dict[str, _Epochs] = {}

    def reset(self, deployment: Deployment, how: str) -> None:
        """Take note of a load that says `how` caches are reset, one of RESETS."""
        epochs = self._epochs.setdefault(deployment.name, _Epochs())
        if how != "none":
            epochs.now += 1
        if how == "all":
            epochs.sessions.clear()

    def scope(self, deployment: Deployment, session: str) -> str:
        """The scope of a request, "" where prompts are computed anew; `session` is "" for one that names none."""
        if self._world.quirks.value(inference.PREFIX_CACHE, deployment.subject) == "none":
            return ""
        epochs = self._epochs.setdefault(deployment.name, _Epochs())
        begun = epochs.sessions.setdefault(session, epochs.now) if session else epochs.now
        return f"{session}/{begun}"
