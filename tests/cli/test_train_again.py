"""`ftsim train` called twice on one folder."""

import json
from pathlib import Path

import pytest

from tests.cli.test_train import command

DATASET = Path(__file__).parents[2] / "fixtures" / "datasets" / "forty-rows.jsonl"
RUN = ("sft", f"dataset={DATASET}", "log_path=run", "lora_rank=4")


@pytest.mark.slow
def test_another_batch_size_is_refused_with_both_values_and_nothing_is_lost(tmp_path: Path) -> None:
    given = (*RUN, "lr_schedule=cosine", "warmup_steps=2", "learning_rate=1e-3", "weight_sync.dcp_save_interval=3")
    first = command(tmp_path, *given, "epochs=1", "batch_size=4", "output_model_id=run-a")
    assert first.returncode == 0, first.stderr
    files = {name: (tmp_path / "run" / name).read_text() for name in ("dataloader.json", "metrics.jsonl")}
    second = command(tmp_path, *given, "epochs=2", "batch_size=8", "output_model_id=run-b")
    assert second.returncode == 1
    (said,) = [line for line in second.stderr.splitlines() if line.startswith("ftsim: ")]
    assert said.startswith("ftsim: batch_size changed since run began: batch_size was 4 and is 8.")
    assert {name: (tmp_path / "run" / name).read_text() for name in files} == files


@pytest.mark.slow
def test_more_epochs_go_on_although_nobody_chose_another_model_id(tmp_path: Path) -> None:
    models = []
    for epochs in (1, 2, 2):
        done = command(tmp_path, *RUN, f"epochs={epochs}")
        assert done.returncode == 0, done.stderr
        models += [line for line in done.stdout.splitlines() if line.startswith("model ")]
    assert "complete already" in done.stderr
    names = [line.split()[1] for line in models]
    assert names[1] == names[2] == f"{names[0]}-2"
    entries = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "loss" in entry] == list(range(1, 11))
