"""A run goes on where nothing that is trained has changed, and is refused in one line where something has."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.server import Emulator
from ftsim.training.errors import CheckpointError
from ftsim.training.recipes import dpo_loop, rl_loop, sft_loop
from ftsim.training.trainers import job_id_for
from ftsim.training.utils import WeightSyncConfig
from tests.training import preference_runs, rl_runs
from tests.training.interrupts import counting, interrupt
from tests.training.runs import rows
from tests.training.test_sft_end_to_end import metrics

DATASET = Path(__file__).parents[2] / "fixtures" / "datasets" / "forty-rows.jsonl"


def fields(folder: Path, tokenizer_folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "log_path": str(folder / "run"),
        "base_model": "accounts/fireworks/models/qwen3-8b",
        "dataset": str(DATASET),
        "tokenizer_model": str(tokenizer_folder),
        "lora_rank": 4,
        "learning_rate": 1e-3,
        "epochs": 1,
        "max_examples": 16,
        "weight_sync": WeightSyncConfig(dcp_save_interval=3),
        **more,
    }


@pytest.fixture
def configured(tmp_path: Path, tokenizer_folder: Path) -> Callable[..., sft_loop.Config]:
    return lambda **more: sft_loop.Config(**fields(tmp_path, tokenizer_folder, **more))


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 8}, "batch_size changed since {run} began: batch_size was 4 and is 8."),
    ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps changed since"),
    ({"seed": 1}, "seed changed since {run} began: seed was 0 and is 1."),
    ({"max_seq_len": 20}, "max_seq_len changed since {run} began: max_seq_len was None and is 20."),
    ({"max_examples": 20}, "max_examples changed since {run} began: max_examples was 16 and is 20."),
    ({"lr_schedule": "cosine"}, "lr_schedule changed since {run} began: lr_schedule was 'constant' and is 'cosine'."),
    ({"lr_scheduler": "cosine"}, "lr_scheduler changed since"),
    ({"lora_alpha": 8}, "lora_alpha changed since {run} began: lora_alpha was 32 and is 8."),
    ({"eval_split": 0.2}, "eval_split changed since {run} began: eval_split was 0.0 and is 0.2."),
    ({"batch_size": 8, "seed": 1}, "seed, batch_size changed since {run} began: seed was 0 and is 1; batch_size was 4"),
]


def test_what_changes_steps_schedule_or_order_is_refused_by_name_and_the_log_stays(
    emulator: Emulator, configured: Callable[..., sft_loop.Config]
) -> None:
    config = configured(batch_size=4)
    sft_loop.main(config)
    logged, listed = metrics(config), set(rows(emulator, job_id_for("sft", config.log_path)))
    emulator.journal.clear()
    for change, message in CHANGES:
        for epochs in (1, 2):  # a run that is complete is another's too
            with pytest.raises(CheckpointError) as refused:
                sft_loop.main(configured(**{"batch_size": 4, "epochs": epochs} | change))
            told = str(refused.value)
            assert told.startswith(message.format(run=config.log_path)), told
            assert "\n" not in told
    assert not emulator.journal.of("optim_step")
    assert metrics(config) == logged
    assert set(rows(emulator, job_id_for("sft", config.log_path))) == listed


def test_what_is_harmless_goes_on_and_the_log_has_every_step(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = tmp_path / "rows.jsonl"
    lines = DATASET.read_text().splitlines()
    dataset.write_text("\n".join(lines))
    given = fields(tmp_path, tokenizer_folder, batch_size=4, dataset=str(dataset), lr_schedule="cosine")
    sft_loop.main(sft_loop.Config(**given, output_model_id="first"))
    began = metrics(sft_loop.Config(**given))
    # The same rows, told otherwise: what is trained is the same.
    dataset.write_text("".join(json.dumps({"id": at, **json.loads(line)}) + "\n" for at, line in enumerate(lines)))
    harmless = {
        "epochs": 2,
        "output_model_id": "second",
        "weight_sync": WeightSyncConfig(dcp_save_interval=5),
        "max_seq_len": 512,
        "pipeline_depth": 2,
        "learning_rate": 5e-4,
    }
    config = sft_loop.Config(**given | harmless)
    result = sft_loop.main(config)
    assert (result["steps"], result["resumed_from"]) == (8, "step-4")
    assert (result["model"] or {})["name"].endswith("/second")
    assert metrics(config)[:4] == began
    assert [entry["step"] for entry in metrics(config)] == list(range(1, 9))
    assert "epochs is 2, and was 1: the learning rate follows the schedule of the new length" in capsys.readouterr().err


def test_fewer_epochs_than_were_trained_are_refused(
    emulator: Emulator, configured: Callable[..., sft_loop.Config]
) -> None:
    sft_loop.main(configured(epochs=2))
    with pytest.raises(CheckpointError, match=r"^epochs changed since .*: epochs was 2 and is 1\."):
        sft_loop.main(configured(epochs=1))


def test_a_field_that_the_user_does_not_set_is_as_the_run_began(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = fields(tmp_path, tokenizer_folder)
    sft_loop.main(sft_loop.Config(**given, batch_size=4, seed=3, warmup_steps=2))
    result = sft_loop.main(sft_loop.Config(**given | {"epochs": 2}))
    assert (result["steps"], result["resumed_from"]) == (8, "step-4")
    said = capsys.readouterr().err
    for line in ("batch_size is 4, as the run began; 8 is a default", "seed is 3, as", "warmup_steps is 2, as"):
        assert f"sft {line}" in said
    with pytest.raises(CheckpointError, match=r"^batch_size changed since"):  # 8 is the default, and was set
        sft_loop.main(sft_loop.Config(**given | {"epochs": 3, "batch_size": 8}))


def test_a_default_id_is_followed_by_the_next_one(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclasses.dataclass
    class Config(sft_loop.Config):
        output_model_id: str | None = "mine"

    given = fields(tmp_path, tokenizer_folder)
    names = [(sft_loop.main(Config(**given | {"epochs": epochs}))["model"] or {})["name"] for epochs in (1, 2, 2, 3)]
    assert [name.rpartition("/")[2] for name in names] == ["mine", "mine-2", "mine-2", "mine-3"]


def test_a_run_begun_by_an_older_version_goes_on_and_is_refused_by_the_names_it_noted(
    emulator: Emulator, configured: Callable[..., sft_loop.Config]
) -> None:
    from ftsim.training.data.files import digest_of

    config = configured(batch_size=4)
    sft_loop.main(config)
    old = {
        "dataset": digest_of(str(DATASET)),
        "max_examples": 16,
        "eval_split": 0.0,
        "seed": 0,
        "group_by_length": None,
    }
    path = Path(config.log_path) / "rows.json"
    path.write_text(json.dumps(old))
    with pytest.raises(CheckpointError, match=r"^seed changed since .*: seed was 0 and is 1\."):
        sft_loop.main(configured(batch_size=4, epochs=2, seed=1))
    assert sft_loop.main(configured(batch_size=4, epochs=2))["resumed_from"] == "step-4"
    with pytest.raises(CheckpointError, match=r"^batch_size changed since"):
        sft_loop.main(configured(batch_size=2, epochs=3))


def test_a_save_under_another_name_is_told_by_it(
    emulator: Emulator, configured: Callable[..., sft_loop.Config], capsys: pytest.CaptureFixture[str]
) -> None:
    """A torn row keeps its name; the save that comes after it has another one."""
    often = {"batch_size": 4, "weight_sync": WeightSyncConfig(dcp_save_interval=1)}
    config = configured(**often)
    with counting() as calls:
        sft_loop.main(configured(**often, log_path=config.log_path + "-quiet"))
    second = [number for number, name in enumerate(calls.made) if name == "save_state"][1]
    with emulator.quirks.set("dcp.torn", "missing_metadata", checkpoint="step-2"):
        interrupt(sft_loop.main, config, second, after=True)
        deadline = time.monotonic() + 20
        while "step-2" not in rows(emulator, job_id_for("sft", config.log_path)):  # the save was only asked for
            assert time.monotonic() < deadline
            time.sleep(0.005)
    capsys.readouterr()
    assert sft_loop.main(config)["resumed_from"] == "step-1"
    assert "sft checkpoint step-2-r2 is saved" in capsys.readouterr().err
    assert {"step-2", "step-2-r2"} <= set(rows(emulator, job_id_for("sft", config.log_path)))


def test_what_is_trained_again_is_kept_beside_the_log(
    emulator: Emulator, configured: Callable[..., sft_loop.Config]
) -> None:
    config = configured(batch_size=2)
    with counting() as calls:
        sft_loop.main(configured(batch_size=2, log_path=config.log_path + "-quiet"))
    sixth = [number for number, name in enumerate(calls.made) if name == "optim_step"][5]
    interrupt(sft_loop.main, config, sixth, after=True)
    before = metrics(config)
    assert [entry["step"] for entry in before] == [1, 2, 3, 4]
    sft_loop.main(dataclasses.replace(config, learning_rate=1e-4))
    undone = Path(config.log_path) / "metrics.undone.jsonl"
    assert [json.loads(line) for line in undone.read_text().splitlines()] == before[3:]
    assert [entry["step"] for entry in metrics(config)] == list(range(1, 9))
    assert metrics(config)[:3] == before[:3]


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        (dpo_loop, [({"beta": 0.2}, "beta was 0.1 and is 0.2")]),
        (
            rl_loop,
            [
                ({"temperature": 0.5}, "temperature was 1.0 and is 0.5"),
                ({"policy_loss": "dro"}, "policy_loss was 'grpo' and is 'dro'"),
                ({"max_completion_tokens": 4}, "max_completion_tokens was 8 and is 4"),
            ],
        ),
    ],
)
def test_settings_of_the_loss_and_of_samples_belong_to_the_run(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, recipe: Any, changes: list[tuple[dict[str, Any], str]]
) -> None:
    configure = preference_runs.configure if recipe is dpo_loop else rl_runs.configure
    config = configure(recipe, tmp_path, tokenizer_folder, lora_rank=4, epochs=1)
    recipe.main(config)
    for change, named in changes:
        with pytest.raises(CheckpointError, match=named):
            recipe.main(dataclasses.replace(config, epochs=2, **change))
