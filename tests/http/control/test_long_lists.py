"""A list of many rows: all of them in order, and each page costs what it holds."""

from typing import Any

import pytest

from emulator.core.kinds import CheckpointKind
from emulator.core.lifecycle import Progression
from emulator.core.names import OwnerName
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from emulator.state.entities import Checkpoint
from emulator.state.table import Table

JOB = "accounts/local/rlorTrainerJobs/j1"


def add(emu: Emulator, number: int, **more: object) -> Checkpoint:
    fields = {
        "owner": JOB,
        "id": f"step-{number}",
        "created": number * 10**6,
        "updated": number * 10**6,
        "kind": CheckpointKind.INFERENCE_LORA,
        "blob": f"b{number}",
        "size": 1,
        "base_model": "m",
        "lora_rank": 4,
        "step": number,
        "saved_as": "x",
        **more,
    }
    with emu.world.change():
        return emu.world.checkpoints.put(Checkpoint(**fields))  # type: ignore[arg-type]


def listed(emu: Emulator) -> list[str]:
    """The ids of all pages."""
    found, token = list[str](), ""
    while True:
        page = emu.platform.checkpoints.list(OwnerName.parse(JOB), page_size=3, page_token=token)
        found += [row.id for row in page.rows]
        if not (token := page.next_token):
            return found


def test_rows_are_gone_through_once_for_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator() as emu:
        emu.platform.jobs.create("local", JobSpec(base_model="accounts/fireworks/models/qwen3-8b"), "j1")
        for number in range(1, 11):
            add(emu, number)
        asked: list[str] = []
        of = Table.of

        def counted(table: Table[Any], parent: str) -> list[Any]:
            asked.append(parent)
            return of(table, parent)

        monkeypatch.setattr(Table, "of", counted)
        names = [f"step-{number}" for number in range(1, 11)]
        assert listed(emu) == listed(emu) == names
        assert asked.count(JOB) == 1
        add(emu, 11)
        assert listed(emu) == [*names, "step-11"]
        assert asked.count(JOB) == 2
        with emu.world.change():
            emu.world.checkpoints.remove(f"{JOB}/checkpoints/step-4")
        assert listed(emu) == [name for name in [*names, "step-11"] if name != "step-4"]


def test_rows_that_change_by_themselves_are_looked_at_for_every_page() -> None:
    with Emulator() as emu:
        emu.platform.jobs.create("local", JobSpec(base_model="accounts/fireworks/models/qwen3-8b"), "j1")
        for number in range(1, 4):
            add(emu, number)
        assert listed(emu) == ["step-1", "step-2", "step-3"]
        now = emu.clock.now()
        add(emu, 4, created=now, updated=now, expires=now + 60 * 10**6)
        assert listed(emu)[-1] == "step-4"
        emu.clock.advance(61)
        assert listed(emu) == ["step-1", "step-2", "step-3"]


def test_a_row_that_is_listed_late_is_counted_by_lists() -> None:
    with Emulator() as emu:
        emu.platform.jobs.create("local", JobSpec(base_model="accounts/fireworks/models/qwen3-8b"), "j1")
        add(emu, 1)
        add(emu, 2, pending=Progression(2, 0).to("visible", emu.clock))
        assert [listed(emu) for _ in range(4)] == [["step-1"], ["step-1"], ["step-1", "step-2"], ["step-1", "step-2"]]
