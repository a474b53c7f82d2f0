"""Recipes on the serverless pool, through the SDK: they train, are killed, go on, and become a model."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emulator.server import Emulator
from ftsim.training.checkpoints.rows import read_row
from ftsim.training.errors import CheckpointError, ConfigError
from ftsim.training.recipes import async_rl_loop, dpo_loop, igpo_loop, orpo_loop, rl_loop, sft_loop
from ftsim.training.serverless import session_names
from ftsim.training.utils import InfraConfig, TrainerConfig, WeightSyncConfig
from tests.training import preference_runs, rl_runs
from tests.training.interrupts import SAMPLING_CALLS, counting, interrupt
from tests.training.preference_runs import metrics, moments
from tests.training.runs import files, kill_after, run_to_end

SAMPLING = (rl_loop, async_rl_loop, igpo_loop)
BATCHES = (sft_loop, dpo_loop, orpo_loop)
POOL: dict[str, Any] = {"serverless": True, "lora_rank": 4, "output_model_id": "pooled"}


def configure(recipe: ModuleType, folder: Path, tokenizer_folder: Path, name: str = "run", **more: Any) -> Any:
    made = rl_runs if recipe in SAMPLING else preference_runs
    if recipe is sft_loop:
        folder.mkdir(exist_ok=True)
        (folder / "chat.jsonl").write_text("\n".join(TALKS))
        more = {"dataset": str(folder / "chat.jsonl"), "eval_split": 0.0, "max_seq_len": 200} | more
    return made.configure(recipe, folder, tokenizer_folder, name, **POOL | more)


TALKS = [
    json.dumps(
        {"messages": [{"role": "user", "content": f"Pier {at}?"}, {"role": "assistant", "content": f"No {at}."}]}
    )
    for at in range(12)
]


def blobs(emulator: Emulator, config: Any) -> dict[str, Path]:
    """The newest blob folder of every name that a run has saved under."""
    found = {}
    for session in session_names(config.log_path):
        for row in emulator.platform.checkpoints.rows(session):
            named = read_row({"name": f"{session}/checkpoints/{row.id}"})
            found[named.id] = emulator.platform.blobs.path(row.blob)
    return found


def remains(emulator: Emulator, config: Any) -> dict[str, Any]:
    """Everything by which two runs may be told apart."""
    found = blobs(emulator, config)
    last = max(int(name.split("-")[1]) for name in found)
    (*_, sampler) = [path for name, path in found.items() if name.startswith(f"step-{last}-")]
    return {
        "weights": files(sampler, "*.safetensors"),
        "state": rl_runs.tensors(found[f"step-{last}"]),
        "metrics": [entry for entry in metrics(config) if "seconds" not in entry],
        "cursor": json.loads((Path(config.log_path) / "dataloader.json").read_text())[f"step-{last}"],
    }


def open_sessions(emulator: Emulator) -> int:
    """The number of the account's places that are taken."""
    return sum(session.running for session in emulator.world.sessions)


@pytest.fixture
def configured(tmp_path: Path, tokenizer_folder: Path) -> Any:
    return lambda recipe, name="run", **more: configure(recipe, tmp_path, tokenizer_folder, name, **more)


@pytest.mark.parametrize(
    ("recipe", "count"),
    [
        (rl_loop, 1),
        *(pytest.param(recipe, 10, marks=pytest.mark.slow) for recipe in (*BATCHES, *SAMPLING)),
    ],
)
def test_a_run_interrupted_anywhere_ends_like_one_that_was_not(
    emulator: Emulator, configured: Any, recipe: ModuleType, count: int
) -> None:
    quiet = configured(recipe, "quiet")
    with counting(watched=SAMPLING_CALLS) as calls:
        result = recipe.main(quiet)
    assert (result["model"] or {})["importedFrom"].startswith(session_names(quiet.log_path)[0])
    assert result["job_id"].startswith("run-")
    assert not list(emulator.world.jobs)
    expected = remains(emulator, quiet)
    for number, (at, after) in enumerate(moments(calls.made, count, seed=5)):
        config = configured(recipe, f"interrupted-{number}", output_model_id=f"pooled-{number}")
        interrupt(recipe.main, config, at, after=after, watched=SAMPLING_CALLS)
        recipe.main(config)
        assert remains(emulator, config) == expected, (at, after, calls.made[at])
        # A session that was opened and not noted yet is nobody's: it keeps its place until it idles out.
        unknown = after and calls.made[at] == "create_training_client"
        assert open_sessions(emulator) == unknown, (at, after, calls.made[at])
        for session in list(emulator.world.sessions):
            if session.running:
                emulator.platform.sessions.delete(session.account, session.id)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [sft_loop, rl_loop])
def test_a_killed_process_is_continued(emulator: Emulator, configured: Any, recipe: ModuleType) -> None:
    quiet, killed = (configured(recipe, name, output_model_id=name) for name in ("quiet", "killed"))
    recipe.main(quiet)
    assert kill_after(killed, emulator, 3) < 6
    assert open_sessions(emulator) == 1
    run_to_end(killed, emulator)
    assert remains(emulator, killed) == remains(emulator, quiet)
    assert not open_sessions(emulator)


def test_a_run_that_is_complete_trains_nothing_and_one_with_more_epochs_goes_on(
    emulator: Emulator, configured: Any, gone: None
) -> None:
    """Also where a session that is over lists nothing any more."""
    config = configured(sft_loop)
    first = sft_loop.main(config)
    emulator.journal.clear()
    again = sft_loop.main(config)
    assert (again["model"], again["job_id"]) == (first["model"], first["job_id"])
    assert not emulator.journal.of("create_model")
    more = sft_loop.main(dataclasses.replace(config, epochs=3, output_model_id="longer"))
    assert (more["steps"], more["resumed_from"]) == (9, "step-6")
    assert more["job_id"] != first["job_id"]
    assert [entry["step"] for entry in metrics(config)] == list(range(1, 10))


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose deleted sessions list and promote nothing."""
    from ftsim.training.sdk import TrainerJobManager

    deleted: set[str] = set()
    listed, delete = TrainerJobManager.list_training_session_checkpoints, TrainerJobManager.delete_training_session

    def listing(self: Any, name: str) -> Any:
        if name in deleted:
            raise RuntimeError(f"Failed to list checkpoints for training session {name!r} (HTTP 404): not found")
        return listed(self, name)

    def deleting(self: Any, name: str) -> None:
        deleted.add(name)
        delete(self, name)

    monkeypatch.setattr(TrainerJobManager, "list_training_session_checkpoints", listing)
    monkeypatch.setattr(TrainerJobManager, "delete_training_session", deleting)


def test_a_new_run_starts_from_one_on_the_pool(emulator: Emulator, configured: Any) -> None:
    parent = sft_loop.main(configured(sft_loop, "parent", epochs=1))
    ref = f"{parent['job_id']}:step-3"
    child = configured(sft_loop, "child", epochs=1, output_model_id="child", init_from_checkpoint=ref)
    result = sft_loop.main(child)
    assert (result["steps"], result["resumed_from"]) == (3, ref)
    assert metrics(child)[0]["loss"] < metrics(configured(sft_loop, "parent"))[0]["loss"]
    for wrong, reason in (
        ({"init_from_checkpoint": f"{parent['job_id']}:step-9"}, "the pool has no local/run-"),
        ({"init_from_checkpoint": ref, "lora_rank": 8}, "has LoRA rank 4|with LoRA rank 4"),
        ({"output_model_id": "child"}, "output_model_id 'child' is taken"),
    ):
        with pytest.raises(ConfigError, match=reason):
            sft_loop.main(configured(sft_loop, f"wrong-{len(reason)}", **{"output_model_id": "other"} | wrong))


def test_a_promoted_adapter_is_started_from(emulator: Emulator, configured: Any) -> None:
    parent = sft_loop.main(configured(sft_loop, "parent", epochs=1))
    name = (parent["model"] or {})["name"]
    child = configured(sft_loop, "child", epochs=1, output_model_id="child", warm_start_from_adapter=name)
    assert sft_loop.main(child)["resumed_from"] == name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lora_rank": 0}, r"serverless=True needs a LoRA run: set lora_rank\. The trainers of the pool hold"),
        (
            {"infra": InfraConfig(training_shape_id="s", region="eu")},
            r"out infra\.training_shape_id, infra\.region",
        ),
        ({"trainer": TrainerConfig(region="eu")}, r"leave out infra\.region"),
        ({"trainer_job_id": "job"}, "leave out trainer_job_id"),
        ({"deployment_id": "mine"}, "leave out deployment_id"),
        ({"deployment_replicas": 2}, "leave out deployment_replicas"),
        ({"init_from_checkpoint": "job:step-4"}, "a run on the pool starts from another one there"),
    ],
)
def test_what_the_pool_cannot_have_is_refused(configured: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(rl_loop, **fields)


def test_names_that_are_too_long_for_the_pool_are_refused_before_anything_is_made(
    emulator: Emulator, configured: Any
) -> None:
    config = configured(sft_loop, weight_sync=WeightSyncConfig(checkpoint_prefix="a-long-prefix"))
    with pytest.raises(ConfigError, match="'a-long-prefix-step-6', and on the pool a name has at most 17 characters"):
        sft_loop.main(config)
    assert not list(emulator.world.sessions)


def test_a_run_keeps_to_where_it_began(emulator: Emulator, configured: Any) -> None:
    config = configured(sft_loop, epochs=1)
    sft_loop.main(config)
    with pytest.raises(CheckpointError, match=r"^serverless changed since"):
        sft_loop.main(dataclasses.replace(config, serverless=False))
