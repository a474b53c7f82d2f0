"""The shipped data sets: reproducible, small, well formed, and held-out rows are really held out."""

import json
from pathlib import Path
from typing import Any

import pytest

from ftsim.compute import data
from ftsim.compute.data import build
from ftsim.compute.models import tokenizer

WORDS = tokenizer.load()


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.path(name).read_text(encoding="utf-8").splitlines()]


def test_writing_again_gives_the_shipped_bytes(tmp_path: Path) -> None:
    build.write(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == set(data.names())
    for path in tmp_path.iterdir():
        assert path.read_bytes() == data.path(path.stem).read_bytes()


def test_together_they_are_small() -> None:
    assert sum(data.path(name).stat().st_size for name in data.names()) < 300_000


def test_an_unknown_data_set_is_refused_with_those_that_exist() -> None:
    with pytest.raises(LookupError, match="chat-train"):
        data.path("chat")


@pytest.mark.parametrize("name", sorted({name.rpartition("-")[0] for name in data.names()}))
def test_no_held_out_row_is_trained_on(name: str) -> None:
    train, held_out = ({json.dumps(row) for row in rows(f"{name}-{part}")} for part in ("train", "eval"))
    assert len(train) >= 100
    assert len(held_out) >= 30
    assert not train & held_out


def test_held_out_chats_ask_for_pairs_never_seen() -> None:
    def things(name: str) -> set[str]:
        return {row["messages"][1]["content"].split(" is in ")[0] for row in rows(name)}

    assert not things("chat-train") & things("chat-eval")


@pytest.mark.parametrize("name", ["chat-train", "chat-eval"])
def test_chats_are_short_and_end_with_the_assistant(name: str) -> None:
    for row in rows(name):
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert sum(len(WORDS.encode(message["content"]).ids) for message in row["messages"]) < 64


@pytest.mark.parametrize("name", ["preference-train", "preference-eval"])
def test_both_sides_of_a_pair_answer_the_same_prompt(name: str) -> None:
    for row in rows(name):
        chosen, rejected = row["chosen"]["messages"], row["rejected"]["messages"]
        assert chosen[:-1] == rejected[:-1]
        assert chosen[-1] != rejected[-1]
        assert chosen[-1]["role"] == rejected[-1]["role"] == "assistant"


@pytest.mark.parametrize("name", ["rl-copy-train", "rl-copy-eval"])
def test_the_truth_of_a_copy_task_is_in_its_prompt(name: str) -> None:
    for row in rows(name):
        assert row["messages"][-1] == {"role": "user", "content": f"Copy: {row['ground_truth']}"}


@pytest.mark.parametrize("name", ["rl-arithmetic-train", "rl-arithmetic-eval"])
def test_the_truth_of_a_sum_is_right(name: str) -> None:
    for row in rows(name):
        left, sign, right = row["messages"][-1]["content"].removeprefix("What is ").rstrip("?").split()
        assert int(row["ground_truth"]) == int(left) + (int(right) if sign == "+" else -int(right)) >= 0


@pytest.mark.parametrize("name", ["search-train", "search-eval"])
def test_the_truth_of_a_search_is_found_by_looking_up_what_was_asked(name: str) -> None:
    for row in rows(name):
        asked = row["messages"][-1]["content"].removeprefix("Find the colour of the ").split(".")[0]
        assert row["facts"][asked] == row["ground_truth"]
        assert list(row["facts"].values()).count(row["ground_truth"]) == 1
