"""A request that the disk refuses moves nothing that lives in memory: what comes next goes on from what is stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.core.errors import StorageFailed
from emulator.server import Emulator
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import batch
from tests.state.test_flips import PLAN, Victims


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Victims]:
    """A full-parameter job with a base and a delta over it; a deployment holds the base."""
    with (
        Emulator(DictBackend(tmp_path / "base"), state_dir=tmp_path / "state") as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http,
    ):
        yield Victims(emulator, http)


@contextmanager
def refused(there: Victims, kind: str) -> Iterator[None]:
    """The disk takes no entity of this kind meanwhile."""
    store = there.emulator.world.store
    write = store.write

    def full(changed: Any, *rest: Any, **how: Any) -> None:
        if any(found == kind for found, _ in changed):
            raise StorageFailed("no space left")
        write(changed, *rest, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "write", full)
        yield


def step(there: Victims) -> None:
    assert there.run(there.full, "forward_backward", forward_backward_input=batch(1, 2)) == ""
    assert there.run(there.full, "optim_step", adam_params={"learning_rate": 0.1}) == ""


def save(there: Victims, name: str) -> str:
    return there.run(there.full, "save_weights_for_sampler", path=name, checkpoint_type="delta")


def test_a_save_that_was_not_acknowledged_is_no_base_of_the_next_delta(there: Victims) -> None:
    step(there)
    with refused(there, "checkpoint"):
        assert "no space left" in save(there, "d-00000002")
    step(there)
    assert save(there, "d-00000003") == ""
    rows = {row.id: row for row in there.emulator.world.checkpoints.of("accounts/local/rlorTrainerJobs/full")}
    assert "d-00000002" not in rows
    assert rows["d-00000003"].previous_snapshot == "d-00000001"
    assert there.hot_load("full", "d-00000001", "b-00000001") == ""
    assert there.hot_load("full", "d-00000003", "d-00000001") == ""


def test_a_load_that_was_not_noted_is_done_anew_on_what_is_noted(there: Victims) -> None:
    for name in ("d-00000002", "d-00000003"):
        step(there)
        assert save(there, name) == ""
    assert there.hot_load("full", "d-00000001", "b-00000001") == ""
    headers = {"fireworks-deployment": "accounts/local/deployments/d-full", "fireworks-model": BASE}
    about = {"previous_snapshot_identity": "d-00000001", **PLAN}
    body = {"identity": "d-00000002", "incremental_snapshot_metadata": about}
    with refused(there, "snapshot_load"):
        assert there.http.post("/hot_load/v1/models/hot_load", headers=headers, json=body).status_code == 507
    assert there.hot_load("full", "d-00000003", "d-00000002") == ""
    loads = {load.identity: load.error for load in there.emulator.world.loads}
    assert loads == {"b-00000001": "", "d-00000001": "", "d-00000002": "", "d-00000003": ""}


def test_a_step_is_acknowledged_though_its_curve_cannot_be_kept(there: Victims) -> None:
    with refused(there, "curve"):
        step(there)
    step(there)
    assert [curve.steps for curve in there.emulator.world.curves if curve.model_id == there.full.model_id] == [[2]]
