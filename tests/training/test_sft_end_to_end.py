"""The whole life of a supervised run: the recipe, the SDK, the emulator and the trainer, none of them pretended."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fireworks.training.sdk import TrainerJobConfig

from emulator.server import Emulator
from ftsim.compute.backend import TorchBackend
from ftsim.training import promote_checkpoint
from ftsim.training.errors import CheckpointError, ConfigError, DataError, TrainerError
from ftsim.training.recipes.sft_loop import Config, main
from ftsim.training.trainers import connect, job_id_for
from ftsim.training.utils import InfraConfig, WeightSyncConfig
from tests.sdk import BACKGROUND
from tests.training.runs import files, kill_after, rows, run_to_end

SHAPES = "accounts/fireworks/trainingShapes/qwen3-8b-"
DATA = Path(__file__).parents[2] / "ftsim" / "compute" / "data" / "chat-train.jsonl"
STEPS = 12


@pytest.fixture(scope="module")
def running() -> Iterator[Emulator]:
    import torch

    # Several threads on a tiny model mostly wait for one another, on a busy machine for ever.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with Emulator(TorchBackend(), seed=11) as emulator:
        yield emulator
    torch.set_num_threads(threads)


@pytest.fixture
def emulator(running: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    running.reset()
    for name, value in running.env().items():
        monkeypatch.setenv(name, value)
    return running


def configure(folder: Path, tokenizer_folder: Path, name: str = "run", **more: Any) -> Config:
    folder.mkdir(exist_ok=True)
    dataset = folder / "data.jsonl"
    dataset.write_text("".join(DATA.read_text("utf-8").splitlines(keepends=True)[:22]))
    rank = more.get("lora_rank", 0)
    fields: dict[str, Any] = {
        "log_path": str(folder / name),
        "base_model": "accounts/fireworks/models/qwen3-8b",
        "dataset": str(dataset),
        "tokenizer_model": str(tokenizer_folder),
        "learning_rate": 1e-3,
        "lr_schedule": "cosine",
        "warmup_steps": 2,
        "epochs": 2,
        "batch_size": 2,
        "gradient_accumulation_steps": 2,
        "weight_sync": WeightSyncConfig(dcp_save_interval=3),
        "infra": InfraConfig(training_shape_id=SHAPES + ("256k-h200-lora" if rank else "128k-h200")),
    }
    return Config(**(fields | more))


def job_of(config: Config) -> str:
    return job_id_for("sft", config.log_path)


def metrics(config: Config) -> list[dict[str, Any]]:
    lines = (Path(config.log_path) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def sampler_row(emulator: Emulator, config: Config) -> Path:
    (found,) = [path for name, path in rows(emulator, job_of(config)).items() if name.startswith("step-12-")]
    return found


@pytest.mark.parametrize(("lora_rank", "kills"), [pytest.param(0, (2, 7), marks=pytest.mark.slow), (8, (1, 10))])
def test_a_run_killed_twice_ends_like_one_that_was_not(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, lora_rank: int, kills: tuple[int, ...]
) -> None:
    quiet = configure(tmp_path, tokenizer_folder, "quiet", lora_rank=lora_rank)
    killed = configure(tmp_path, tokenizer_folder, "killed", lora_rank=lora_rank)
    run_to_end(quiet, emulator)
    for steps in kills:
        assert kill_after(killed, emulator, steps) < STEPS
    run_to_end(killed, emulator)

    weights = [files(sampler_row(emulator, config), "*.safetensors") for config in (quiet, killed)]
    assert weights[0] == weights[1]
    states = [files(rows(emulator, job_of(config))["step-12"], "*.distcp") for config in (quiet, killed)]
    assert states[0] == states[1]
    assert states[0]
    assert metrics(quiet) == metrics(killed)
    cursors = [json.loads((Path(config.log_path) / "dataloader.json").read_text()) for config in (quiet, killed)]
    assert cursors[0] == cursors[1] == {"step-3": 12, "step-6": 22, "step-9": 34, "step-12": 44}


@pytest.mark.parametrize(("lora_rank", "kind"), [(0, "HF_BASE_MODEL"), (8, "HF_PEFT_ADDON")])
def test_a_run_learns_saves_promotes_and_then_changes_nothing(
    emulator: Emulator,
    tmp_path: Path,
    tokenizer_folder: Path,
    capsys: pytest.CaptureFixture[str],
    lora_rank: int,
    kind: str,
) -> None:
    config = configure(
        tmp_path, tokenizer_folder, lora_rank=lora_rank, output_model_id="tuned", eval_split=0.1, eval_interval=5
    )
    result = main(config)
    assert (result["model"] or {})["kind"] == kind
    losses = [entry["loss"] for entry in metrics(config) if "loss" in entry]
    assert losses[-1] < losses[0]
    assert [entry["step"] for entry in metrics(config) if "eval_loss" in entry] == [0, 5, 10]
    listed = {row["name"].rsplit("/", 1)[-1]: row for row in connect().list_checkpoints(result["job_id"])}
    states = [name for name, row in listed.items() if not row.get("promotable")]
    assert states == ["step-3", "step-6", "step-9", "step-10"]
    assert connect().get(result["job_id"])["state"] == "JOB_STATE_CANCELLED"
    assert (Path(config.log_path) / "loss.svg").stat().st_size > 1000

    emulator.journal.clear()
    capsys.readouterr()
    again = main(config)
    assert "complete already" in capsys.readouterr().err
    assert again["model"] == result["model"]
    assert {asked.method for asked in emulator.journal if asked.endpoint not in BACKGROUND} == {"GET"}


def test_an_interrupted_final_save_is_finished_by_the_next_run(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    """B7: the sampler save fails, so the run fails; what is there already is not made again."""
    config = configure(tmp_path, tokenizer_folder, output_model_id="tuned")
    with (
        emulator.quirks.set("http.fail", 400, endpoint="save_weights_for_sampler"),
        pytest.raises(CheckpointError, match="sampler checkpoint step-12 was not saved"),
    ):
        main(config)
    before = set(rows(emulator, job_of(config)))
    assert "step-12" in before
    emulator.journal.clear()
    result = main(config)
    assert result["resumed_from"] == "step-12"
    assert len(set(rows(emulator, job_of(config))) - before) == 1
    assert not emulator.journal.of("forward_backward")
    assert not emulator.journal.of("save_weights")
    assert (result["model"] or {})["state"] == "READY"


def test_bad_data_creates_no_job(emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> None:
    config = configure(tmp_path, tokenizer_folder)
    with Path(config.dataset).open("a") as file:
        file.write('{"messages": [{"role": "assistant"}]}\n')
    with pytest.raises(DataError, match=r"data\.jsonl, line 23: messages.0"):
        main(config)
    assert not emulator.journal.of("create_job")


def test_a_job_whose_create_lost_its_reply_is_found_and_used(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    """F6."""
    config = configure(tmp_path, tokenizer_folder, max_examples=4, epochs=1)
    with emulator.quirks.set("http.lose_reply", "after", endpoint="create_job", times=1):
        assert main(config)["steps"] == 1
    assert len(emulator.world.jobs) == 1


def test_a_taken_model_id_creates_no_job(emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> None:
    main(configure(tmp_path, tokenizer_folder, "one", output_model_id="tuned", max_examples=4))
    emulator.journal.clear()
    with pytest.raises(ConfigError, match="'tuned' is taken"):
        main(configure(tmp_path, tokenizer_folder, "two", output_model_id="tuned", max_examples=4))
    assert not emulator.journal.of("create_job")


def test_a_new_run_starts_from_another_jobs_checkpoint(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    first = configure(tmp_path, tokenizer_folder, "one")
    main(first)
    second = configure(tmp_path, tokenizer_folder, "two", init_from_checkpoint=f"{job_of(first)}:step-12")
    assert main(second)["resumed_from"] == f"{job_of(first)}:step-12"
    assert metrics(second)[0]["step"] == 1
    assert metrics(second)[0]["loss"] < metrics(first)[0]["loss"] / 2


def test_a_promoted_adapter_warms_up_the_next_run(emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> None:
    first = configure(tmp_path, tokenizer_folder, "one", lora_rank=8, output_model_id="tuned")
    model = (main(first)["model"] or {})["name"]
    second = configure(tmp_path, tokenizer_folder, "two", lora_rank=8, warm_start_from_adapter=model)
    main(second)
    assert metrics(second)[0]["loss"] < metrics(first)[0]["loss"]


def test_a_deleted_job_is_refused_with_the_way_out(emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> None:
    config = configure(tmp_path, tokenizer_folder, max_examples=4)
    main(config)
    connect().delete(job_of(config))
    with pytest.raises(TrainerError, match="was deleted"):
        main(replace(config, epochs=3))


def test_data_that_changed_under_a_checkpoint_is_refused(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    config = configure(tmp_path, tokenizer_folder)
    main(config)
    with pytest.raises(CheckpointError, match="changed since"):
        main(replace(config, epochs=3, max_examples=15))


def test_a_job_named_by_the_configuration_is_left_running(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    """F20."""
    config = configure(tmp_path, tokenizer_folder, max_examples=4, trainer_job_id="my-own-job")
    wanted = TrainerJobConfig(base_model=config.base_model, requested_job_id="my-own-job")
    connect().create_and_wait(wanted)
    main(config)
    assert connect().get("my-own-job")["state"] == "JOB_STATE_RUNNING"


@pytest.mark.parametrize(
    ("quirk", "value"),
    [
        ("rows.time_precision", "mixed"),
        ("rows.visible_after_lists", 2),
        ("clock.skew_s", -300.0),
        ("rows.omit", ["createTime"]),
        ("jobs.resume_flip_after_reads", 1),
        ("promote.async", "unsupported"),
    ],
)
def test_a_bad_day_changes_nothing(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, quirk: str, value: Any
) -> None:
    config = configure(tmp_path, tokenizer_folder, output_model_id="tuned", max_examples=8)
    with emulator.quirks.set(quirk, value):
        main(replace(config, epochs=1, output_model_id=None))
        result = main(config)
    assert result["resumed_from"] == "step-2"
    assert [entry["step"] for entry in metrics(config)] == [1, 2, 3, 4]
    assert (result["model"] or {})["state"] == "READY"


def test_the_script_promotes_what_a_run_has_left(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, tokenizer_folder, max_examples=4)
    job = main(config)["job_id"]
    arguments = ["--job-id", job, "--output-model-id", "by-hand", "--base-model", config.base_model]
    assert promote_checkpoint.main(arguments) == 0
    assert "HF_BASE_MODEL, READY" in capsys.readouterr().out
    assert promote_checkpoint.main([*arguments, "--checkpoint-name", "step-2"]) == 0
    assert len(emulator.journal.of("promote")) == 1
    assert promote_checkpoint.main([*arguments, "--checkpoint-name", "step-1"]) == 1
    assert "is not a checkpoint of this job" in capsys.readouterr().err


def test_a_weighted_row_has_one_loss_whether_it_is_trained_or_held_out(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    asked = [{"role": "user", "content": "Is the gate open?"}]
    rows = [
        {"messages": [*asked, {"role": "assistant", "content": said}], "weight": weight}
        for said, weight in (("Yes.", 0.5), ("No.", 0.5), ("At noon.", 2.0), ("Never.", -1.0))
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = str(tmp_path / "rows.jsonl")
    config = configure(
        tmp_path, tokenizer_folder, dataset=data, eval_dataset=data, batch_size=4, epochs=1, max_examples=None
    )
    main(config)
    found = {
        name: entry[name] for entry in reversed(metrics(config)) for name in ("loss", "eval_loss") if name in entry
    }
    assert found["loss"] == pytest.approx(found["eval_loss"], rel=1e-5)
