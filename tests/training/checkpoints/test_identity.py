"""A run goes on with the rows it began with, in the order it began with, or not at all."""

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emulator.server import Emulator
from ftsim.training.errors import CheckpointError
from ftsim.training.recipes import dpo_loop, igpo_loop, orpo_loop, rl_loop, sft_loop
from tests.training import preference_runs, rl_runs
from tests.training.test_sft_end_to_end import configure as configure_sft

RECIPES = (sft_loop, dpo_loop, orpo_loop, rl_loop, igpo_loop)


def configured(recipe: ModuleType, folder: Path, tokenizer_folder: Path) -> Any:
    """A run of one epoch and then, with more of them, its continuation."""
    if recipe is sft_loop:
        return configure_sft(folder, tokenizer_folder, lora_rank=8, epochs=1)
    runs = preference_runs if recipe in (dpo_loop, orpo_loop) else rl_runs
    return runs.configure(recipe, folder, tokenizer_folder, lora_rank=8, epochs=1)


def another_order(config: Any) -> Any:
    return dataclasses.replace(config, seed=config.seed + 1)


def another_row(config: Any) -> Any:
    """As many rows as before, so that the cursor fits both files."""
    path = Path(config.dataset)
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join([lines[1], *lines[1:]]), "utf-8")
    return config


@pytest.mark.parametrize("recipe", RECIPES)
def test_other_rows_or_another_order_are_refused_where_the_cursor_would_fit(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, recipe: ModuleType
) -> None:
    """C15, C17."""
    config = configured(recipe, tmp_path, tokenizer_folder)
    recipe.main(config)
    emulator.journal.clear()
    for change, named in ((another_order, "seed"), (another_row, "dataset")):
        with pytest.raises(CheckpointError, match=f"^{named} changed since"):
            recipe.main(change(dataclasses.replace(config, epochs=2)))
    assert not emulator.journal.of("optim_step")


def test_more_epochs_and_another_rate_go_on(emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> None:
    config = configured(sft_loop, tmp_path, tokenizer_folder)
    first = sft_loop.main(config)
    assert sft_loop.main(dataclasses.replace(config, epochs=2, learning_rate=1e-4))["steps"] == 2 * first["steps"]


def test_a_run_that_has_saved_nothing_begins_again_with_what_is_there_now(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    config = configured(sft_loop, tmp_path, tokenizer_folder)
    with emulator.quirks.set("http.fail", 400, endpoint="optim_step"), pytest.raises(Exception, match="400"):
        sft_loop.main(config)
    sft_loop.main(another_order(config))
