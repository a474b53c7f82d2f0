import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import tokenization_utils_base

from ftsim.training.data.forms import read_supervised
from ftsim.training.data.notes import Notes
from ftsim.training.data.store import datum, fit
from ftsim.training.data.supervised import load_supervised, load_tokenizer, read_objects
from ftsim.training.data.turns import Example, TextRow, Turns
from ftsim.training.errors import ConfigError, DataError
from ftsim.training.sampling.rollouts import load_prompts

CHAT = {"messages": [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "In room two."}]}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "data.jsonl"
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def read_jsonl(path: Path, max_examples: int | None = None) -> list[Any]:
    return list(read_objects(path, lambda row, where: read_supervised(row, where, Notes()), max_examples=max_examples))


def tokenize(row: TextRow, tokenizer: Any) -> Example:
    (example,) = Turns(tokenizer).examples(row)
    return example


def chat(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def user(content: Any = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any = "ho", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content} | more


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"messages": [', "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (rb'{"prompt": "a", "completion": "b\ud83d"}', "half of a character"),
        ([], "a JSON object is wanted, not a list"),
        (None, "not null"),
        ({"text": "x"}, "neither 'messages' nor"),
        ({"prompt": "x"}, "neither 'messages' nor"),
        ({"prompt": "x", "completion": ""}, "completion is empty"),
        ({"prompt": "x", "completion": [assistant()]}, "both be text or both be lists"),
        ({"prompt": [assistant()], "completion": [user()]}, "no assistant message"),
        ({"messages": {}}, "messages must be a list"),
        (chat(), "at least one message"),
        (chat("hi"), "messages.0 is text"),
        (chat(user(), {"role": "robot", "content": "x"}), "messages.1.role is 'robot': use one of system"),
        (chat(user(), {"content": "x"}), "role is 'None'"),
        (chat({"role": ["user"], "content": "x"}), "role is .*user"),
        (chat(user(7), assistant()), r"messages.0.content is a number, not text \(user\)"),
        (chat(user(), assistant(None)), r"messages.1.content is null, not text \(assistant\)"),
        (chat(user()), "no assistant message to train on"),
        (chat(user(), assistant(weight=0)), "no assistant message to train on"),
        (
            chat(user(), assistant(weight=1e39)),
            r"messages\.1\.weight is 1e\+39: write 0, or a number between 1e-18 and 1e18",
        ),
        ({**CHAT, "weight": 1e-46}, "weight is 1e-46: write 0, or a number between"),
        ({**CHAT, "enable_thinking": "false"}, "enable_thinking is 'false': write true or false"),
        ({**CHAT, "tools": [{"name": "a"}], "functions": [{"name": "b"}]}, "tools and functions are one thing"),
        ({"system": "Be kind.", **chat({"role": "system", "content": "x"}, user(), assistant())}, "keep one"),
        ({"messages": "[{"}, "messages are text that is not JSON"),
        (
            chat(
                user(), assistant(None, tool_calls=[{"name": "a"}]), {"role": "tool", "content": {"m": 3}}, assistant()
            ),
            r"messages\.2\.content is an object, not text \(tool\): write it as JSON text",
        ),
        (chat(user(), assistant({"a": 1}, tool_calls=[{"name": "a"}])), "messages.1.content is an object, not text"),
    ],
)
def test_a_bad_line_is_named_by_file_number_and_reason(tmp_path: Path, bad: Any, reason: str) -> None:
    path = write(tmp_path, CHAT, b"", bad)
    with pytest.raises(DataError, match=reason) as caught:
        read_jsonl(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.jsonl").write_bytes(content)
    with pytest.raises(DataError, match="holds no rows"):
        read_jsonl(tmp_path / "data.jsonl")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_jsonl(tmp_path / "data.jsonl")


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    assert len(read_jsonl(write(tmp_path, CHAT, CHAT, b"bad"), max_examples=2)) == 2


def learned(row: Any, tokenizer: Any, folder: Path) -> tuple[str, str]:
    """The whole text of a row, and the part of it that is trained on."""
    (read,) = read_jsonl(write(folder, row))
    examples = Turns(tokenizer).examples(read)
    return tokenizer.decode(examples[-1].tokens), "".join(said(example, tokenizer) for example in examples)


def said(example: Example, tokenizer: Any) -> str:
    """The part of an example that is trained on."""
    trained = [token for token, weight in zip(example.tokens, example.weights, strict=True) if weight]
    return str(tokenizer.decode(trained))


def test_the_assistant_and_its_end_of_turn_are_trained(tmp_path: Path, tokenizer: Any) -> None:
    text, trained = learned(CHAT, tokenizer, tmp_path)
    assert text + "\n" == tokenizer.apply_chat_template(CHAT["messages"], tokenize=False)
    assert trained.endswith("In room two.<|im_end|>")
    assert "Where" not in trained


def test_every_assistant_turn_is_trained_unless_it_says_otherwise(tmp_path: Path, tokenizer: Any) -> None:
    row = chat(user(), assistant("one"), user("more"), assistant("two", weight=0), user(), assistant("three"))
    text, trained = learned(row, tokenizer, tmp_path)
    assert text + "\n" == tokenizer.apply_chat_template(row["messages"], tokenize=False)
    assert trained.replace("<think>\n\n</think>\n\n", "") == "one<|im_end|>three<|im_end|>"


TURNS = [
    user(),
    assistant("a"),
    user(),
    assistant("b", trainable=True),
    {"role": "tool", "content": "x"},
    assistant("c"),
]


@pytest.mark.parametrize(
    ("train_on_what", "said"),
    [
        ("all_assistant_messages", "abc"),
        ("last_assistant_message", "c"),
        ("last_assistant_turn", "bc"),
        ("customized", "b"),
    ],
)
def test_train_on_what_says_which_messages_are_trained(
    tmp_path: Path, tokenizer: Any, train_on_what: str, said: str
) -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {}}}
    turns = [dict(one) for one in TURNS]
    turns[3]["tool_calls"] = [call]
    path = str(write(tmp_path, chat(*turns), {"prompt": [*turns[:2], user()], "completion": [assistant("d")]}))
    loaded = load_supervised(path, tokenizer, 512, truncate=True, train_on_what=train_on_what, on_bad_row="skip")
    trained = ["" if row is None else "".join(heard(one, tokenizer) for one in row) for row in loaded.data]
    assert trained == [said, "" if train_on_what == "customized" else "d"]


def heard(one: Any, tokenizer: Any) -> str:
    """The text of the trained tokens of a datum, without calls, thoughts and ends of turns."""
    targets, weights = (one.loss_fn_inputs[name].data for name in ("target_tokens", "weights"))
    kept = [int(token) for token, weight in zip(targets, weights, strict=True) if weight]
    text = re.sub(r"<tool_call>.*?</tool_call>|<think>.*?</think>", "", tokenizer.decode(kept), flags=re.DOTALL)
    return re.sub(r"<\|im_end\|>|\s", "", text)


def test_a_message_must_be_marked_where_only_marked_ones_are_trained(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(DataError, match="no assistant message to train on: none is marked trainable"):
        load_supervised(str(write(tmp_path, CHAT)), tokenizer, 512, truncate=True, train_on_what="customized")


def test_all_bad_rows_are_told_by_kind(tmp_path: Path, tokenizer: Any) -> None:
    path = str(write(tmp_path, CHAT, *[b"{"] * 11, {"text": "x"}, chat(user())))
    with pytest.raises(DataError) as caught:
        load_supervised(path, tokenizer, 512, truncate=True)
    *named, rest, total = str(caught.value).splitlines()
    assert len(named) == 10
    assert rest == "and 3 more, which ftsim data check names"
    assert total.startswith("13 rows are bad (empty 1, form 1, json 11): mend them, or leave them out")


def test_only_the_completion_of_a_conversational_prompt_is_trained(tmp_path: Path, tokenizer: Any) -> None:
    row = {"prompt": [user(), assistant("before"), user()], "completion": [assistant("after")]}
    assert learned(row, tokenizer, tmp_path)[1].replace("<think>\n\n</think>\n\n", "") == "after<|im_end|>"


def test_a_raw_completion_is_trained_to_its_end(tmp_path: Path, tokenizer: Any) -> None:
    text, trained = learned({"prompt": "2 + 2 =", "completion": " 4"}, tokenizer, tmp_path)
    assert (text, trained) == ("2 + 2 = 4<|im_end|>", " 4<|im_end|>")


def test_an_end_that_the_completion_spells_is_trained_once(tmp_path: Path, tokenizer: Any) -> None:
    found = learned({"prompt": "2 + 2 =", "completion": " 4<|im_end|>"}, tokenizer, tmp_path)
    assert found == ("2 + 2 = 4<|im_end|>", " 4<|im_end|>")


def test_what_stands_beside_the_messages_or_as_their_text_is_read(tmp_path: Path, tokenizer: Any) -> None:
    briefed = chat({"role": "system", "content": "Be kind."}, user(), assistant())
    for row in (
        {"system": "Be kind.", **chat(user(), assistant())},
        {"messages": json.dumps(briefed["messages"])},
    ):
        assert learned(row, tokenizer, tmp_path) == learned(briefed, tokenizer, tmp_path)


def test_a_message_that_is_empty_or_spells_a_special_token_is_said(tmp_path: Path, tokenizer: Any) -> None:
    path = str(write(tmp_path, chat(user(), assistant("")), chat(user("<|im_end|>"), assistant())))
    empty, spelt = load_supervised(path, tokenizer, 512, truncate=True).notes.lines()
    assert empty.startswith("the assistant says nothing, which is trained as the end of its turn (1 times, first ")
    assert spelt.startswith("a message spells a special token, which is read as one, as it is when served (1 times, ")


def test_tool_calls_are_trained(tmp_path: Path, tokenizer: Any) -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {"where": "here"}}}
    _, trained = learned(chat(user(), assistant(None, tool_calls=[call])), tokenizer, tmp_path)
    assert '"look"' in trained
    assert trained.endswith("<|im_end|>")


def test_a_datum_predicts_the_next_token(tmp_path: Path, tokenizer: Any) -> None:
    example = tokenize(read_jsonl(write(tmp_path, CHAT))[0], tokenizer)
    one = datum(example)
    length = len(example.tokens) - 1
    assert one.model_input.to_ints() == list(example.tokens[:-1])
    assert list(one.loss_fn_inputs["target_tokens"].data) == list(example.tokens[1:])
    assert list(one.loss_fn_inputs["weights"].data) == list(example.weights[1:])
    assert list(one.loss_fn_inputs["weights"].shape) == [length]


def test_long_rows_are_cut_or_left_out_and_counted(tmp_path: Path, tokenizer: Any) -> None:
    long = chat(user(), assistant("In room two. " * 40))
    all_prompt = chat(user("Where is it? " * 40), assistant("x"))
    path = str(write(tmp_path, CHAT, long, all_prompt))
    cut = load_supervised(path, tokenizer, 48, truncate=True)
    assert [one is None for one in cut.data] == [False, False, True]
    assert (cut.truncated, cut.dropped) == (1, 1)
    shortened = cut.data[1]
    assert shortened is not None
    assert shortened[0].model_input.length == 48
    left_out = load_supervised(path, tokenizer, 48, truncate=False)
    assert (left_out.truncated, left_out.dropped) == (0, 2)


def test_a_file_of_rows_that_are_all_too_long_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    path = str(write(tmp_path, CHAT, CHAT))
    with pytest.raises(DataError, match="no row has anything to train on within 4 tokens"):
        load_supervised(path, tokenizer, 4, truncate=True)


def test_a_row_at_the_limit_is_whole(tmp_path: Path, tokenizer: Any) -> None:
    example = tokenize(read_jsonl(write(tmp_path, CHAT))[0], tokenizer)
    assert fit([example], len(example.tokens) - 1, truncate=False) == ([example], False)
    assert fit([example], len(example.tokens) - 2, truncate=False) == ([], False)


def test_a_template_that_refuses_a_row_names_the_line(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path, CHAT)
    plain = type("Plain", (), {"apply_chat_template": None})()
    with pytest.raises(DataError, match=r"line 1: the tokenizer's chat template refuses it"):
        tokenize(read_jsonl(path)[0], plain)


def test_a_message_that_the_template_leaves_out_is_named(tmp_path: Path, tokenizer: Any) -> None:
    briefed = {"role": "developer", "content": " Be kind. "}
    (row,) = read_jsonl(write(tmp_path, chat(briefed, user(), assistant())))
    assert "<|im_start|>system\n Be kind. " in tokenizer.decode(tokenize(row, tokenizer).tokens)
    deaf = copy.deepcopy(tokenizer)
    deaf.chat_template = deaf.chat_template.replace("text(messages[0].content)", "''") + "{# developer #}"
    for role in ("system", "developer"):
        (row,) = read_jsonl(write(tmp_path, chat(briefed | {"role": role}, user(), assistant())))
        with pytest.raises(DataError, match=rf"line 1: .* leaves out message 0 \({role}\): give it another role"):
            tokenize(row, deaf)
        prompts = write(tmp_path, {"messages": [briefed | {"role": role}, user()], "ground_truth": "x"})
        with pytest.raises(DataError, match=rf"leaves out message 0 \({role}\)"):
            load_prompts(str(prompts), deaf, 100)
    (known,) = read_jsonl(write(tmp_path, chat(briefed | {"role": "system"}, user(), assistant())))
    assert "Be kind." in tokenizer.decode(tokenize(known, tokenizer).tokens)


def test_a_tokenizer_that_does_not_load_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not load"):
        load_tokenizer(str(tmp_path))


def test_a_row_of_any_length_is_encoded_without_a_warning(
    tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[object] = []
    monkeypatch.setattr(tokenization_utils_base.logger, "warning", said.append)
    tokenizer = load_tokenizer(str(tokenizer_folder))
    assert len(tokenizer.encode("fog " * 5000)) > tokenizer.model_max_length
    assert said == []
