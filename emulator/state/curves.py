"""Holds what a run's optimizer steps measured: plain columns, so that a long run is little to store."""

from dataclasses import dataclass, field
from functools import cached_property


@dataclass
class Curve:
    """Some hundred optimizer steps of one live model, in order.

    `owner` is the full name of the job or session that it trains for, `origin` that of the row that it had loaded
    before ("" for none), `first` whether no other piece holds earlier steps since then. `columns` has a number, or
    None where it was not measured, per step and metric. `created` is when the newest row was saved that is older than
    these steps (0 for none): rows with the same model and a later time were saved among them, or after.
    """

    account: str
    owner: str
    model_id: str
    number: int
    created: int
    origin: str = ""
    first: bool = True
    steps: list[int] = field(default_factory=list)
    columns: dict[str, list[float | None]] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        return f"{self.owner}/curves/{self.number:07d}"
