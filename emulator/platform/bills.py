"""Bills: line items of what was counted, at the prices of the switches (`billing.*`). Nothing is paid."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from emulator.core.errors import InvalidArgument
from emulator.core.names import Subject
from emulator.platform.usage import HOUR, Usages
from emulator.quirks import billing
from emulator.state.usage import METERS, Usage
from emulator.state.world import World

DAY = 24 * HOUR
_NANO_PER_TOKEN = 1000
"""Nano-dollars that a token costs at a dollar for a million."""
_PRICES = {
    "prefilled": billing.PREFILLED,
    "cached": billing.CACHED,
    "sampled": billing.SAMPLED,
    "trained": billing.TRAINED,
}
"""Prices by the counters of `emulator.state.usage`."""


@dataclass(frozen=True)
class Item:
    """Says how many tokens of a meter were counted on a model; `price` is in nano-dollars a token."""

    series: str
    model: str
    meter: str
    quantity: int
    price: int

    @property
    def cost(self) -> int:
        """The cost in nano-dollars."""
        return self.quantity * self.price


@dataclass(frozen=True)
class Span:
    """The hours that begin within a time, in microseconds; `end` is not in it."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise InvalidArgument("endTime must be after startTime")

    def holds(self, row: Usage) -> bool:
        """Say whether a row's hour overlaps the time."""
        return row.hour + HOUR > self.start and row.hour < self.end

    def days(self) -> "Iterator[Span]":
        """The days of it, in UTC, the first and the last cut where it begins and ends."""
        at = self.start
        while at < self.end:
            after = min(at - at % DAY + DAY, self.end)
            yield Span(at, after)
            at = after


class Bills:
    """The bills of all accounts."""

    def __init__(self, world: World, usages: Usages) -> None:
        self._world = world
        self._usages = usages

    def rows(self, account: str, span: Span, wanted: Callable[[Usage], bool] = lambda row: True) -> Sequence[Usage]:
        """The counters of a time, oldest hour first."""
        return self._usages.rows(account, lambda row: span.holds(row) and wanted(row))

    def items(self, account: str, rows: Sequence[Usage]) -> list[Item]:
        """Line items of counters: one for each series, model and meter that counted something."""
        sums: dict[tuple[str, str, str], int] = {}
        for row in rows:
            for meter in METERS:
                key = (row.series, row.model, meter)
                sums[key] = sums.get(key, 0) + getattr(row, meter)
        return [Item(*key, quantity, self._price(account, key[2])) for key, quantity in sums.items() if quantity]

    def cost(self, account: str, rows: Sequence[Usage]) -> int:
        """The cost of counters in nano-dollars."""
        return sum(item.cost for item in self.items(account, rows))

    def _price(self, account: str, meter: str) -> int:
        return round(self._world.quirks.value(_PRICES[meter], Subject(account=account)) * _NANO_PER_TOKEN)
