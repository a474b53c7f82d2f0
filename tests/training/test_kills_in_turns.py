"""Rows of several turns, with thoughts and tools, in every recipe: killed at random moments the end is the same."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emulator.server import Emulator
from ftsim.compute import data
from ftsim.training.data.supervised import load_supervised
from ftsim.training.recipes import async_rl_loop, dpo_loop, igpo_loop, orpo_loop, rl_loop, sft_loop
from tests.training import preference_runs, rl_runs

TOOLS = [{"type": "function", "function": {"name": "depth", "parameters": {"type": "object", "properties": {}}}}]
ANY_LENGTH: dict[str, Any] = {"max_seq_len": 512}


def talk(at: int) -> list[dict[str, Any]]:
    """A conversation of a thought, a call, its result, and an answer, which are three datums."""
    call = {"id": "c1", "type": "function", "function": {"name": "depth", "arguments": json.dumps({"pier": at})}}
    thought = {"reasoning_content": f"Pier {at}, then."} if at % 2 else {}
    return [
        {"role": "user", "content": f"Pier {at}?"},
        {"role": "assistant", "content": "One moment.", **thought},
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": f"{at} m"},
        {"role": "assistant", "content": f"{at} metres."},
    ]


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def chats(folder: Path) -> str:
    return write(folder / "chats.jsonl", [{"messages": talk(at), "tools": TOOLS} for at in range(12)])


def comparisons(folder: Path) -> str:
    rows = []
    for at in range(12):
        *before, last = talk(at)
        asked = {"messages": before[:3], "tools": TOOLS}
        worse = [*before[3:], {**last, "content": "Deep."}]
        rows.append({"input": asked, "preferred_output": talk(at)[3:], "non_preferred_output": worse})
    return write(folder / "comparisons.jsonl", rows)


def prompts(folder: Path, shipped: str) -> str:
    rows = [json.loads(line) for line in data.path(shipped).read_text("utf-8").splitlines()[:9]]
    for at, row in enumerate(rows):
        row |= {"messages": [*talk(at), *row["messages"]], "tools": TOOLS}
    return write(folder / "prompts.jsonl", rows)


def check(
    emulator: Emulator, recipe: ModuleType, folder: Path, tokenizer_folder: Path, rank: int, kills: int
) -> dict[str, Any]:
    """Interrupt the recipe at `kills` random moments, LoRA with a `rank` above 0; returns what each run left."""
    if recipe in (rl_loop, async_rl_loop, igpo_loop):
        shipped = rl_runs.DATA[rl_runs.name_of(recipe)]
        configured = partial(rl_runs.configure, recipe, folder, tokenizer_folder, lora_rank=rank, **ANY_LENGTH)
        configured.keywords["dataset"] = prompts(folder, shipped)
        return rl_runs.check_interruptions(emulator, recipe, configured, kills, seed=7)
    rows = chats(folder) if recipe is sft_loop else comparisons(folder)
    configured = partial(preference_runs.configure, recipe, folder, tokenizer_folder, lora_rank=rank, **ANY_LENGTH)
    epochs = 2 if kills > 1 else 1
    configured.keywords.update(dataset=rows, eval_split=0.0, epochs=epochs)
    name = rl_runs.name_of(recipe)
    return preference_runs.check_interruptions(emulator, recipe, name, configured, kills, seed=7, steps=3 * epochs)


@pytest.mark.parametrize(
    ("recipe", "rank", "kills"),
    [
        (sft_loop, 4, 1),
        *(
            pytest.param(recipe, rank, 10, marks=pytest.mark.slow)
            for rank in (4, 0)
            for recipe in (sft_loop, dpo_loop, orpo_loop, rl_loop, async_rl_loop, igpo_loop)
        ),
    ],
)
def test_a_run_on_turns_and_tools_interrupted_anywhere_ends_like_one_that_was_not(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, recipe: ModuleType, rank: int, kills: int
) -> None:
    left = check(emulator, recipe, tmp_path / "run", tokenizer_folder, rank, kills)
    assert [entry["step"] for entry in left["metrics"]] == list(range(1, 7 if kills > 1 else 4))


def test_the_rows_are_of_several_datums(tmp_path: Path, tokenizer: Any) -> None:
    loaded = load_supervised(chats(tmp_path), tokenizer, 512, truncate=False)
    assert {len(row) for row in loaded.data if row is not None} == {3}
