"""Shows the emulator's time, and what it will bring next."""

from dataclasses import dataclass

from emulator.core.clock import SECOND, rfc3339
from emulator.core.lifecycle import RETENTION_S
from emulator.http.console.views.lists import short_state
from emulator.platform.platform import Platform
from emulator.state.entities import Job

MOST = 60
"""Things that are listed: the soonest."""
LEAPS = (("1 minute", 60), ("10 minutes", 600), ("1 hour", 3600), ("1 day", 86_400), ("30 days", 30 * 86_400))


@dataclass(frozen=True)
class Due:
    """Something that time brings: what happens to which thing, at which moment, in how many seconds."""

    moment: int
    at: str
    seconds: int
    what: str
    name: str
    page: str


@dataclass(frozen=True)
class ClockPage:
    """The time and what is due. `more` is how many later things are not listed."""

    now: str
    due: list[Due]
    more: int
    leaps: tuple[tuple[str, int], ...]


def clock(platform: Platform) -> ClockPage:
    world, now = platform.world, platform.world.clock.ticks()
    found: list[tuple[int, str, str, str]] = []
    for owner in [*world.jobs, *world.sessions]:
        if owner.pending is not None and not owner.pending.reads:
            found.append((owner.pending.due, f"becomes {short_state(owner.pending.value)}", owner.name, "run"))
        idle = owner.inactivity_s if isinstance(owner, Job) else 0
        if idle and owner.running:
            found.append((owner.last_activity + int(idle * SECOND), "is stopped as idle", owner.name, "run"))
        if owner.deleted is not None:
            found.append((owner.deleted + RETENTION_S * SECOND, "is forgotten", owner.name, ""))
    for row in world.checkpoints:
        if row.pending is not None and not row.pending.reads:
            found.append((row.pending.due, "is listed", row.name, "files"))
        if row.expires:
            found.append((row.expires, "expires", row.name, "files"))
        if row.renames_to:
            found.append((row.renames_at, f"is renamed to {row.renames_to}", row.name, "files"))
    for model in world.models:
        if model.pending is not None and not model.pending.reads:
            found.append((model.pending.due, f"becomes {model.pending.value}", model.name, "model"))
    for deployment in world.deployments:
        if deployment.pending is not None and not deployment.pending.reads:
            found.append((deployment.pending.due, f"becomes {deployment.pending.value}", deployment.name, "deployment"))
        for pod in deployment.pods:
            if pod.coming and pod.coming["reads"] <= 0:
                what = f"has loaded {pod.coming['identity']} on {pod.identity}"
                found.append((int(pod.coming["due"]), what, deployment.name, "deployment"))
    for setting in world.quirks.active():
        if setting.until is not None:
            found.append((setting.until, "ends by itself", setting.name, "failures"))
    found.sort()
    due = [
        Due(moment, rfc3339(moment, 0), max(0, (moment - now) // SECOND), what, name, page)
        for moment, what, name, page in found[:MOST]
    ]
    return ClockPage(rfc3339(world.clock.now(), 3), due, max(0, len(found) - MOST), LEAPS)
