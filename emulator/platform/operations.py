"""Long-running operations (WIRE 4.3): the work is done when one starts, only its end is shown late."""

from typing import Any

from emulator.core.errors import NotFound
from emulator.core.lifecycle import Lifecycle, Progression
from emulator.core.names import Subject, resource
from emulator.quirks import promotion
from emulator.state.entities import Operation
from emulator.state.world import World

DONE = "done"


class Operations:
    """The operations of all accounts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lifecycle = Lifecycle(world, self._enter)

    def start(
        self, account: str, response: dict[str, Any], metadata: dict[str, Any], after_s: float = 0.0
    ) -> Operation:
        """An operation that will hold `response` after so many seconds and so many reads (FAILURES D9)."""
        quirks, subject = self._world.quirks, Subject(account=account)
        wait = Progression(quirks.spend(promotion.OPERATIONS_PENDING_READS, subject), after_s)
        ends_with = quirks.spend(promotion.OPERATIONS_ENDS_WITH, subject)
        with self._world.change():
            now = self._world.clock.now()
            error = {"code": 13, "message": "the copy was interrupted", "details": []}
            return self._world.operations.put(
                Operation(
                    account=account,
                    id=self._world.ids.hex(32),
                    created=now,
                    metadata=metadata,
                    pending=wait.to(DONE, self._world.clock),
                    response=response if ends_with == "response" else None,
                    error=error if ends_with == "error" else None,
                )
            )

    def read(self, account: str, operation_id: str) -> Operation:
        """One look at an operation; raises NotFound."""
        operation = self._world.operations.get(resource(account, "operations", operation_id))
        if operation is None:
            raise NotFound(f"operation {operation_id[:128]!r} not found in account {account}")
        return self._lifecycle.settle(operation, look=True)

    def _enter(self, operation: Operation, _: str) -> None:
        operation.pending = None
        self._world.operations.put(operation)
