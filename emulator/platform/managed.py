"""Data sets and managed jobs, to be read: what somebody imported. Nothing here makes one or runs one.

Since November 2026 the service takes no uploads of data sets and no new managed jobs, and keeps what there was.
"""

from emulator.core.errors import (
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    PlatformError,
    Unimplemented,
)
from emulator.core.names import Subject, resource
from emulator.platform.queries.paging import Page, Query
from emulator.quirks import managed
from emulator.state.managed import Managed
from emulator.state.world import World

DATASETS = "datasets"
RECIPES = {
    "supervisedFineTuningJobs": "sft_loop",
    "dpoJobs": "dpo_loop",
    "reinforcementFineTuningJobs": "rl_loop",
}
"""Collections of managed jobs, and the recipe that does the same on a trainer job."""
_REFUSALS: dict[str, type[PlatformError]] = {
    "400": FailedPrecondition,
    "403": PermissionDenied,
    "404": NotFound,
    "501": Unimplemented,
}


class ManagedResources:
    """The data sets and managed jobs of all accounts."""

    def __init__(self, world: World) -> None:
        self._world = world

    def get(self, account: str, collection: str, identifier: str) -> Managed:
        """Raises NotFound."""
        found = self._world.managed.get(resource(account, collection, identifier))
        if found is None:
            raise NotFound(
                f"{resource(account, collection, identifier)[:200]} not found: nothing is made here in {collection}, "
                "`ftsim state import` brings what there was"
            )
        return found

    def list(self, account: str, collection: str, query: Query[Managed] = Query()) -> Page[Managed]:
        """All of a collection, oldest first; raises InvalidArgument for a foreign page token."""
        found = [one for one in self._world.managed.of(account) if one.collection == collection]
        return query.page(found, lambda one: one.created)

    def delete(self, account: str, collection: str, identifier: str) -> None:
        """Forget one; raises NotFound."""
        found = self.get(account, collection, identifier)
        with self._world.change():
            self._world.managed.remove(found.name)

    def refusal_to_write(self, account: str) -> PlatformError:
        """The answer to whoever would write a data set (since 2026-11-15)."""
        said = self._world.quirks.value(managed.DATASETS_TEXT, Subject(account=account))
        return _REFUSALS[self._world.quirks.value(managed.DATASETS_WRITES, Subject(account=account))](
            said
            or "data sets are no longer written on the service: give the training program a local JSONL file, a "
            "folder of shards or a gs:// path"
        )

    def refusal_to_create(self, account: str, collection: str) -> PlatformError:
        """The answer to whoever would start a managed job."""
        said = self._world.quirks.value(managed.CREATES_TEXT, Subject(account=account))
        recipe = RECIPES.get(collection)
        instead = f"train on a trainer job, for example with training.recipes.{recipe}" if recipe else "there is none"
        return _REFUSALS[self._world.quirks.value(managed.CREATES, Subject(account=account))](
            said or f"no new {collection} are accepted: {instead}"
        )

    def refusal_of_state(self, account: str, collection: str, identifier: str, verb: str) -> PlatformError:
        """The answer to whoever would cancel or resume a job that only is kept; raises NotFound."""
        state = self.get(account, collection, identifier).state
        return FailedPrecondition(f"cannot {verb} job in state: {state}; managed jobs are kept here and never run")

    def no_file(self, account: str, collection: str, identifier: str) -> PlatformError:
        """The answer to whoever asks for a file of a job; raises NotFound for another job as well."""
        found = self.get(account, collection, identifier)
        return NotFound(f"no file is kept of {found.name}")
