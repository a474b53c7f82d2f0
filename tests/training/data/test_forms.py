"""Published forms of rows, each read into what is trained; fields act, are harmless, or are counted."""

import json
from typing import Any

import pytest

from ftsim.training.data.files import BadRow
from ftsim.training.data.forms import read_supervised
from ftsim.training.data.notes import Notes
from ftsim.training.data.preferences import parse_pair
from ftsim.training.data.turns import Conversation, Text

ASKED, SAID = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
BRIEFED = {"role": "system", "content": "Be brief."}
TOOL = {"type": "function", "function": {"name": "tide"}}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "tide", "arguments": {"hour": 9}}}],
}


def shown(row: Any) -> list[dict[str, Any]]:
    assert isinstance(row, Conversation)
    return [one.for_template("") for one in row.messages]


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"messages": [ASKED, SAID]}, [ASKED, SAID]),
        ({"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}, [ASKED, SAID]),
        ({"conversations": [ASKED, SAID]}, [ASKED, SAID]),
        ({"system": "Be brief.",
          "conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]},
         [BRIEFED, ASKED, SAID]),
        ({"tools": [TOOL], "conversations": [{"from": "human", "value": "2 + 2?"},
                            {"from": "function_call", "value": '{"name": "tide", "arguments": {"hour": 9}}'},
                            {"from": "observation", "value": "1.4"}, {"from": "gpt", "value": "4"}]},
         [ASKED, CALL, {"role": "tool", "content": "1.4"}, SAID]),
        ({"instruction": "2 + 2?", "input": "", "output": "4"}, [ASKED, SAID]),
        ({"instruction": "Add.", "input": "2, 2", "output": "4", "system": "Be brief."},
         [BRIEFED, {"role": "user", "content": "Add.\n\n2, 2"}, SAID]),
        ({"prompt": [ASKED], "completion": [SAID]}, [ASKED, SAID]),
        ({"prompt": [ASKED], "completion": SAID}, [ASKED, SAID]),
        ({"prompt": [], "completion": [SAID]}, [SAID]),
        ({"messages": None, "instruction": "2 + 2?", "output": "4"}, [ASKED, SAID]),
        ({"instruction": "2 + 2?", "output": "4", "history": [["2 + 2?", "4"]]}, [ASKED, SAID, ASKED, SAID]),
        ({"instruction": "2 + 2?", "output": "4", "history": []}, [ASKED, SAID]),
        ({"tools": [TOOL], "conversations": [{"from": "human", "value": "2 + 2?"},
                            {"from": "tool_call", "value": '[{"name": "tide", "arguments": "{\\"hour\\": 9}"}]'},
                            {"from": "tool_response", "value": "1.4"}, {"from": "gpt", "value": "4"}]},
         [ASKED, CALL, {"role": "tool", "content": "1.4"}, SAID]),
        ({"prompt": json.dumps([ASKED]), "completion": json.dumps([SAID])}, [ASKED, SAID]),
    ],
)  # fmt: skip
def test_a_supervised_row_is_read(row: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    notes = Notes()
    assert shown(read_supervised(row, "line 1", notes)) == messages
    assert notes.lines() == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"conversations": {}}, "conversations is an object, not a list"),
        ({"conversations": [{"from": "king", "value": "x"}]}, "conversations.0.from is 'king': use one of human"),
        ({"conversations": [{"from": "function_call", "value": "tide"}]}, "function call that is not JSON"),
        ({"instruction": 7, "output": "4"}, "instruction and input must be text"),
        ({"instruction": "a", "output": None}, "neither 'messages' nor"),
        ({"messages": [ASKED, SAID], "tools": "["}, "tools is text that is not JSON"),
        ({"messages": [ASKED, SAID], "chat_template_kwargs": []}, "chat_template_kwargs is a list, not an object"),
        ({"messages": [ASKED, SAID], "weight": "2"}, "weight is '2': write a finite number"),
        ({"messages": [ASKED, SAID], "weight": True}, "weight is True: write a finite number"),
        ({"messages": [ASKED, {**SAID, "trainable": False}]}, "no assistant message to train on"),
        ({"prompt": "x", "completion": "y", "weight": float("inf")}, "weight is inf"),
        ({"instruction": "a", "output": "b", "history": ["c", "d"]}, "history must be a list of pairs"),
        ({"instruction": "a", "output": "b", "history": [["c", None]]}, "messages.1.content is null"),
        (
            {"conversations": [{"from": "human", "value": "a", "content": "b"}]},
            "conversations.0 has both from and value",
        ),
        ({"prompt": str([ASKED]), "completion": str([SAID])}, "prompt is a list as Python prints it"),
        ({"prompt": json.dumps([ASKED]), "completion": "4"}, "both be text or both be lists"),
        ({"messages": [ASKED, {**SAID, "train": False}]}, "messages.1.train is not read: write trainable"),
        ({"messages": [ASKED, SAID, {**SAID, "loss": True}]}, "messages.2.loss is not read: write trainable"),
        ({"messages": [ASKED, SAID], "images": ["a.png"]}, "the row has images, and only text is trained"),
        ({"question": "a", "answer": "b"}, "nor 'conversations', nor 'prompt' and 'completion', nor 'instruction' and"),
    ],
)
def test_a_supervised_row_that_cannot_be_read_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        read_supervised(row, "line 1", Notes())
    assert reason in str(caught.value)


def test_what_is_asked_for_may_be_the_json_of_messages() -> None:
    row = {"prompt": "A chat as JSON?", "completion": json.dumps([SAID])}
    assert read_supervised(row, "line 1", Notes()) == Text("line 1", row["prompt"], row["completion"])


def test_a_call_of_a_tool_that_the_row_does_not_have_is_said() -> None:
    for tools, said in (([], 1), ([{"name": "depth"}], 1), ([TOOL], 0)):
        notes = Notes()
        read_supervised({"messages": [ASKED, CALL], "tools": tools}, "line 1", notes)
        assert len(notes.lines()) == said
    assert notes.lines() == []


def test_the_fields_of_a_row_act() -> None:
    row = {
        "messages": [ASKED, SAID],
        "tools": [TOOL],
        "weight": 2,
        "chat_template_kwargs": {"x": 1},
        "enable_thinking": False,
    }
    read = read_supervised(row, "line 1", Notes())
    assert isinstance(read, Conversation)
    assert (list(read.tools), read.weight, read.settings) == ([TOOL], 2.0, {"x": 1, "enable_thinking": False})
    older = read_supervised({"messages": [ASKED, SAID], "functions": [TOOL["function"]]}, "line 1", Notes())
    assert isinstance(older, Conversation)
    assert list(older.tools) == [TOOL]
    text = read_supervised({"prompt": "x", "completion": "y", "weight": 0.5}, "line 1", Notes())
    assert text == Text("line 1", "x", "y", 0.5)


def test_fields_that_change_nothing_are_known_and_others_are_counted() -> None:
    notes = Notes()
    row = {
        "messages": [{**ASKED, "weight": 0.5, "mood": "x"}, {**SAID, "id": "m"}],
        "id": 1,
        "parallel_tool_calls": True,
    }
    for number in (1, 2):
        read_supervised({**row, "lang": "de"}, f"line {number}", notes)
    assert notes.lines() == [
        "weight and trainable act on the assistant's messages alone (2 times, first line 1)",
        "fields that nothing reads: lang (2), mood (2)",
    ]


GOOD, BAD = {"role": "assistant", "content": "4"}, {"role": "assistant", "content": "5"}


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"chosen": {"messages": [ASKED, GOOD]}, "rejected": {"messages": [ASKED, BAD]}},
        {"prompt": "2 + 2?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"prompt": "2 + 2?", "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [ASKED], "chosen": "4", "rejected": "5"},
        {"prompt": [ASKED], "chosen": GOOD, "rejected": BAD},
        {"prompt": [ASKED], "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"prompt": None, "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"prompt": json.dumps([ASKED]), "chosen": json.dumps([GOOD]), "rejected": json.dumps([BAD])},
        {"prompt": json.dumps([ASKED]), "chosen": "4", "rejected": "5"},
        {"prompt": "2 + 2?", "chosen": json.dumps([ASKED, GOOD]), "rejected": json.dumps([ASKED, BAD])},
        {"chosen": json.dumps({"messages": [ASKED, GOOD]}), "rejected": json.dumps({"messages": [ASKED, BAD]})},
        {"input": {"messages": [ASKED], "tools": []}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
        {"input": [ASKED], "preferred_output": [GOOD], "non_preferred_output": [BAD]},
        {
            "samples": [
                {"messages": [ASKED, BAD], "evals": {"score": 0}},
                {"messages": [ASKED, GOOD], "evals": {"score": 1}},
                {"messages": [ASKED, GOOD], "score": 0.5},
            ]
        },
    ],
)
def test_a_preference_is_read(row: dict[str, Any]) -> None:
    notes = Notes()
    sides = parse_pair(row, "line 1", notes)
    assert sides is not None
    assert [shown(side) for side in sides] == [[ASKED, GOOD], [ASKED, BAD]]
    assert {side.train_from for side in sides if isinstance(side, Conversation)} == {1}
    assert notes.lines() == []


def test_a_tie_is_left_out_and_counted() -> None:
    notes = Notes()
    row = {"samples": [{"messages": [ASKED, one], "evals": {"score": 0.5}} for one in (GOOD, BAD)]}
    assert [parse_pair(row, f"line {number}", notes) for number in (1, 2)] == [None, None]
    assert notes.lines() == ["ties are left out: all samples of a row have one score (2 times, first line 1)"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"samples": [{"messages": [ASKED, GOOD]}]}, "samples must be a list of at least two"),
        ({"samples": [{"messages": [ASKED, GOOD]}] * 2}, "samples.0 has no number at evals.score"),
        (
            {"samples": [{"messages": [ASKED, GOOD], "score": at} for at in (0, 1)]},
            "best and the worst sample are",
        ),
        ({"preferred_output": [GOOD], "non_preferred_output": [BAD]}, "'input' is missing"),
        (
            {"input": "x", "preferred_output": [GOOD], "non_preferred_output": [BAD]},
            "input must be an object",
        ),
        ({"input": [ASKED], "preferred_output": [GOOD], "non_preferred_output": [GOOD]}, "are the same"),
        ({"system": "Be brief.", "question": "2 + 2?", "chosen": "4", "rejected": "5"}, "so 'prompt' must be there"),
        ({"chosen": str([ASKED, GOOD]), "rejected": str([ASKED, BAD])}, "chosen is a list as Python prints it"),
        ({"prompt": "x", "chosen": "4", "rejected": "5", "images": ["a.png"]}, "the row has images"),
        ({"chosen": [ASKED, {**GOOD, "weight": -1}], "rejected": [ASKED, BAD]}, "no meaning in a comparison"),
    ],
)
def test_a_preference_that_cannot_be_read_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        parse_pair(row, "line 1", Notes())
    assert reason in str(caught.value)
