"""Small data sets of kinds on which trainers go wrong, each with what is right."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ftsim.training.data.files import BadRow, read_rows
from ftsim.training.data.forms import read_supervised
from ftsim.training.data.notes import Notes
from ftsim.training.data.preferences import load_preferences
from ftsim.training.data.supervised import load_supervised
from ftsim.training.data.turns import Example, Turns
from ftsim.training.errors import DataError
from ftsim.training.sampling.rollouts import load_prompts

FOLDER = Path(__file__).parents[3] / "fixtures" / "datasets"


def marked(example: Example, tokenizer: Any) -> str:
    """The text of an example, trained parts between [[ and ]], without the empty thought before an answer."""
    text, trained = "", False
    for token, weight in zip(example.tokens, example.weights, strict=True):
        if bool(weight) != trained:
            text, trained = text + ("]]" if trained else "[["), bool(weight)
        text += tokenizer.decode([token])
    text += "]]" if trained else ""
    return text.replace("<|im_start|>", "<").replace("<|im_end|>", "|").replace("<think>\n\n</think>\n\n", "")


def rows(name: str, tokenizer: Any) -> list[list[Example] | str]:
    """The examples of each row, or why it is bad."""
    turns, found = Turns(tokenizer), list[list[Example] | str]()
    for where, row in read_rows(FOLDER / name):
        assert not isinstance(row, BadRow)
        try:
            found.append(turns.examples(read_supervised(row, where, Notes())))
        except BadRow as bad:
            found.append(bad.reason)
    return found


def shown(name: str, tokenizer: Any) -> list[list[str]]:
    return [[marked(one, tokenizer) for one in row if isinstance(one, Example)] for row in rows(name, tokenizer)]


def test_a_thought_in_the_content_is_trained_once_and_in_its_turn(tokenizer: Any) -> None:
    asked = "<user\nIs the gate open?|\n<assistant\n"
    thought, empty, unopened, quoted = shown("inline-thought-two-turns.jsonl", tokenizer)
    long = "I look at the gate book, which lies open on the desk, and read what it says there."
    assert thought == [
        f"{asked}[[<think>\n{long}\n</think>\n\nYes.|]]",
        f"{asked}Yes.|\n<user\nAnd the crane?|\n<assistant\n[[<think>\nIt rests.\n</think>\n\nNo.|]]",
    ]
    assert empty == [f"{asked}[[Yes.|]]", f"{asked}Yes.|\n<user\nAnd the crane?|\n<assistant\n[[No.|]]"]
    assert unopened[0] == f"{asked}[[<think>\nThe book says so, and the book is right as a rule.\n</think>\n\nYes.|]]"
    assert unopened[2].endswith("<assistant\nNo.|\n<user\nSure?|\n<assistant\n[[Quite.|]]")
    assert quoted[0].endswith("<assistant\n[[Use the tags <think> and </think> around a thought.|]]")
    assert quoted[1].endswith(
        "Use the tags <think> and </think> around a thought.|\n<user\nThanks|\n<assistant\n[[Welcome.|]]"
    )


def test_a_marker_inside_of_a_call_does_not_end_the_turn(tokenizer: Any) -> None:
    ((call, answer),) = shown("marker-in-arguments.jsonl", tokenizer)
    text = '<tool_call>\n{"name": "note", "arguments": {"text": "with | always", "page": 4}}\n</tool_call>|'
    assert call.endswith(f"<assistant\n[[{text}]]")
    assert answer.endswith(
        f"<assistant\n{text}\n<user\n<tool_response>\nok\n</tool_response>|\n<assistant\n[[Noted.|]]"
    )


def test_the_tools_of_a_row_go_through_the_template(tokenizer: Any) -> None:
    (found,) = rows("tools-in-row.jsonl", tokenizer)
    row = json.loads((FOLDER / "tools-in-row.jsonl").read_text())
    text = tokenizer.apply_chat_template(
        row["messages"][:1], tools=row["tools"], tokenize=False, add_generation_prompt=True
    )
    assert isinstance(found[0], Example)
    assert tokenizer.decode(found[0].tokens).startswith(text)
    assert marked(found[0], tokenizer).endswith('"arguments": {"name": "Varde"}}\n</tool_call>|]]')


def test_each_turn_is_trained_with_its_thought(tokenizer: Any) -> None:
    assert shown("reasoning-in-each-turn.jsonl", tokenizer) == [
        [
            "<user\n3 + 3?|\n<assistant\n[[<think>\nThree and three.\n</think>\n\n6|]]",
            "<user\n3 + 3?|\n<assistant\n6|\n<user\nand 4 + 4?|\n<assistant\n"
            "[[<think>\nFour and four.\n</think>\n\n8|]]",
        ]
    ]


def test_weights_scale_rows_and_messages(tokenizer: Any) -> None:
    found = rows("weights.jsonl", tokenizer)
    weights = [{weight for one in row for weight in one.weights if weight} for row in found[:5]]  # type: ignore[union-attr]
    assert weights == [set(), {2.0}, {-1.0}, {0.25}, {1.0}]
    assert shown("weights.jsonl", tokenizer)[4] == [
        "<user\nFee?|\n<assistant\nTwo crowns.|\n<user\nSure?|\n<assistant\n[[Yes.|]]"
    ]
    assert found[5] == "messages.1.weight is '0': write a finite number"


def test_a_row_of_weight_nothing_is_left_out_and_said(tokenizer: Any, tmp_path: Path) -> None:
    good = (FOLDER / "weights.jsonl").read_text().splitlines()[:5]
    (tmp_path / "weights.jsonl").write_text("\n".join(good))
    loaded = load_supervised(str(tmp_path / "weights.jsonl"), tokenizer, 512, truncate=True)
    assert (loaded.dropped, loaded.data[0]) == (1, None)
    (said,) = loaded.notes.lines()
    assert said.startswith("rows are left out because their weight is 0 (1 times, first ")


def test_null_is_an_absent_field(tokenizer: Any) -> None:
    first, second, text, call = shown("nulls-of-an-export.jsonl", tokenizer)
    assert first == ["<user\nFee?|\n<assistant\n[[Two crowns.|]]"]
    assert [one.count("[[") for one in second] == [1, 1]
    assert text == ["2 + 2 = [[4|]]"]
    assert call[1].endswith("<tool_response>\n\n</tool_response>|\n<assistant\n[[I do not know.|]]")


def test_content_may_be_a_list_of_texts(tokenizer: Any) -> None:
    assert shown("content-parts.jsonl", tokenizer) == [["<user\nFee at Brill?|\n<assistant\n[[Two crowns.|]]"]] * 2


def test_the_assistant_may_begin_and_may_speak_twice(tokenizer: Any) -> None:
    ((greeting, answer),) = shown("assistant-first.jsonl", tokenizer)
    assert greeting == "<assistant\n[[Harbour office, good morning.|]]"
    assert answer.endswith("good morning.|\n<user\nIs Hamra free?|\n<assistant\n[[Yes, until noon.|]]")
    assert shown("two-assistant-turns.jsonl", tokenizer) == [
        ["<user\nRead me the log.|\n<assistant\n[[Certainly.|]]\n<assistant\n[[First entry: fog.|]]"]
    ]


@pytest.mark.parametrize("name", ["preferences-of-the-vendor.jsonl", "preferences-of-the-hub.jsonl"])
def test_every_form_of_a_preference_is_read_with_its_prompt_once(tokenizer: Any, name: str) -> None:
    loaded = load_preferences(str(FOLDER / name), tokenizer, 512, truncate=False)
    assert loaded.notes.lines() == []
    for pair in loaded.pairs:
        assert pair is not None
        for side, answer in ((pair.chosen, "In the kitchen."), (pair.rejected, "kitchen")):
            (datum,) = side
            weights = list(datum.loss_fn_inputs["weights"].data)
            example = Example(
                [*datum.model_input.to_ints(), datum.loss_fn_inputs["target_tokens"].data[-1]], [0, *weights]
            )
            assert marked(example, tokenizer) == f"<user\nWhere is Ada?|\n<assistant\n[[{answer}|]]"


def test_prompts_are_read_in_every_form(tokenizer: Any) -> None:
    tools, *plain = load_prompts(str(FOLDER / "rl-prompts.jsonl"), tokenizer, 512, ground_truth_key="ground_truth")
    assert '"name": "harbour_depth"' in tokenizer.decode(tools.tokens)
    assert tokenizer.decode(tools.tokens).endswith(
        "<tool_response>\n11\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    for prompt in plain:
        assert tokenizer.decode(prompt.tokens) == "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
        assert prompt.row["ground_truth"] == "4"


@pytest.mark.parametrize("key", [None, "ground_truth", "reward_model.ground_truth"])
def test_a_nested_truth_is_found(tokenizer: Any, key: str | None) -> None:
    (prompt,) = load_prompts(str(FOLDER / "rl-nested-truth.jsonl"), tokenizer, 512, ground_truth_key=key)
    assert prompt.row["ground_truth"] == "4"
    with pytest.raises(DataError, match=r"line 1: extra_info\.truth is not there, by which answers are rewarded"):
        load_prompts(str(FOLDER / "rl-nested-truth.jsonl"), tokenizer, 512, ground_truth_key="extra_info.truth")


def test_a_day_of_realistic_rows_runs_but_for_the_one_without_an_answer(tokenizer: Any) -> None:
    path = str(FOLDER / "harbour-59.jsonl")
    with pytest.raises(DataError, match=r"line 59: no assistant message to train on$"):
        load_supervised(path, tokenizer, 4096, truncate=True)
    loaded = load_supervised(path, tokenizer, 4096, truncate=True, on_bad_row="skip")
    assert (len(loaded.data), loaded.dropped, loaded.truncated) == (59, 1, 1)
    assert loaded.data[58] is None
    empty, spelt, skipped, unread = loaded.notes.lines()
    assert empty.startswith("the assistant says nothing, ")
    assert empty.endswith("line 51)")
    assert spelt.startswith("a message spells a special token, ")
    assert spelt.endswith("line 55)")
    assert "line 59: no assistant message to train on" in skipped
    assert unread == "fields that nothing reads: lang (1)"
    turns = Counter(len(row) for row in loaded.data if row is not None)
    assert turns == {1: 38, 2: 12, 3: 8}
