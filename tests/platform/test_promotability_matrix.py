"""The cheat sheet of docs/checkpoint-kinds.md, row by row and column by column, through the vendor's SDK."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from emulator.core.kinds import SAVINGS, promotable
from ftsim.testing.clients import take_step
from ftsim.testing.stage import KeptStage, stage
from ftsim.testing.tiny import NAME
from ftsim.training.checkpoints.manager import TrainingCheckpoints

JOB = "job"
RANKS = {"LoRA": 4, "full": 0}


class Bench(NamedTuple):
    """A running job with one step taken, and whatever can save it."""

    stage: KeptStage
    client: Any
    manager: TrainingCheckpoints
    syncer: Any


def _dcp_only(bench: Bench) -> None:
    bench.manager.save("step-2", resumable=True, promotable=False, data_consumed=2)


def _promotable(bench: Bench) -> None:
    bench.manager.save("step-2", resumable=False, promotable=True, data_consumed=2)


def _base(bench: Bench) -> None:
    bench.client.save_weights_for_sampler_ext("step-2", checkpoint_type="base")


def _delta(bench: Bench) -> None:
    bench.client.save_weights_for_sampler_ext("step-2", checkpoint_type="delta")


def _sync(bench: Bench) -> None:
    bench.syncer.save_and_hotload("step-2")


def _nothing(bench: Bench) -> None: ...


class Way(NamedTuple):
    """`before` is done first, as a delta and a later sync need it; `lora`, `full`: whether the result is promotable."""

    before: Callable[[Bench], None]
    save: Callable[[Bench], None]
    lora: bool
    full: bool


def _first_base(bench: Bench) -> None:
    bench.client.save_weights_for_sampler_ext("step-1", checkpoint_type="base")


def _first_sync(bench: Bench) -> None:
    bench.syncer.save_and_hotload("step-1")


WAYS = {
    "TrainingCheckpoints.save(resumable=True, promotable=False)": Way(_nothing, _dcp_only, False, False),
    "TrainingCheckpoints.save(promotable=True)": Way(_nothing, _promotable, True, True),
    'save_weights_for_sampler_ext(checkpoint_type="base")': Way(_nothing, _base, True, True),
    'save_weights_for_sampler_ext(checkpoint_type="delta")': Way(_first_base, _delta, True, False),
    "WeightSyncer.save_and_hotload(), first": Way(_nothing, _sync, True, True),
    "WeightSyncer.save_and_hotload(), later": Way(_first_sync, _sync, True, False),
}


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    on, rank = stage(), RANKS[request.param]
    on.reset()
    on.manager.create(on.job_config(JOB, rank))
    client = on.training_client(JOB, rank)
    take_step(client, 0)
    manager = TrainingCheckpoints(client, on.manager, trainer_id=JOB, log_path=tmp_path, lora_rank=rank)
    yield Bench(on, client, manager, on.syncer(JOB, client, rank))
    on.drop_clients()


def test_every_way_of_the_cheat_sheet_is_tried() -> None:
    assert list(WAYS) == [saving.how for saving in SAVINGS]
    said = [(any(map(promotable, saving.lora)), any(map(promotable, saving.full))) for saving in SAVINGS]
    assert said == [(way.lora, way.full) for way in WAYS.values()]


@pytest.mark.parametrize("bench", RANKS, indirect=True)
@pytest.mark.parametrize("how", WAYS)
def test_a_way_of_saving_leaves_what_the_cheat_sheet_says(bench: Bench, how: str, request: Any) -> None:
    way, lora = WAYS[how], request.node.callspec.params["bench"] == "LoRA"
    way.before(bench)
    before = {row["name"] for row in bench.stage.manager.list_checkpoints(JOB)}
    take_step(bench.client, 1)
    way.save(bench)
    (row,) = [row for row in bench.stage.manager.list_checkpoints(JOB) if row["name"] not in before]
    saving = next(saving for saving in SAVINGS if saving.how == how)
    assert (row["checkpointType"],) == (saving.lora if lora else saving.full)
    assert row["promotable"] is (way.lora if lora else way.full)
    promote = bench.stage.manager.promote_checkpoint
    if row["promotable"]:
        model = promote(name=row["name"], output_model_id="made", base_model=NAME)
        assert model["kind"] == ("HF_PEFT_ADDON" if lora else "HF_BASE_MODEL")
    else:
        kind = row["checkpointType"].removeprefix("CHECKPOINT_TYPE_")
        with pytest.raises(RuntimeError, match=rf"(?s)HTTP 400.*{kind}.*not promotable.*checkpoint_type=.base"):
            promote(name=row["name"], output_model_id="made", base_model=NAME)
