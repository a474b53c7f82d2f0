"""`ftsim data check`: all bad rows in one pass, and what is trained of the others."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ftsim.cli.main import app

DATA = Path(__file__).parents[2] / "fixtures" / "datasets"


@pytest.fixture
def check(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("FTSIM_STATE_DIR", str(tmp_path_factory.getbasetemp() / "checked"))
    return lambda *words: CliRunner().invoke(app, ["data", "check", *map(str, words)])


def report(result: Result) -> dict[str, object]:
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_a_day_of_realistic_rows_has_one_bad_one(check) -> None:  # type: ignore[no-untyped-def]
    result = check(DATA / "harbour-59.jsonl", "--json")
    found = report(result)
    bad = {
        "file": str(DATA / "harbour-59.jsonl"),
        "line": 59,
        "reason": "no assistant message to train on",
        "kind": "empty",
    }
    assert (result.exit_code, found["rows"], found["bad"], found["cut"]) == (1, 59, [bad], 1)
    notes: Any = found["notes"]
    *said, unread = notes
    assert [one.partition(" (1 times, ")[0] for one in said] == [
        "the assistant says nothing, which is trained as the end of its turn",
        "a message spells a special token, which is read as one, as it is when served",
    ]
    assert unread == "fields that nothing reads: lang (1)"
    assert isinstance(found["lengths"], dict)
    assert sum(found["lengths"].values()) == 38 + 2 * 12 + 3 * 8


def test_every_bad_row_is_told_by_its_kind(check, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    user, said = '{"role": "user", "content": "a"}', '{"role": "assistant", "content": "b"}'
    lines = [
        f'{{"messages": [{user}, {said}]}}',
        f'{{"messages": [{user}]}}',
        "{",
        f'{{"messages": [{user}, {said}], "tools": "["}}',
        f'{{"messages": [{user}, {said}], "weight": "1"}}',
        f'{{"messages": [{{"role": "king"}}, {said}]}}',
        '{"text": "x"}',
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    result = check(tmp_path / "rows.jsonl", "--json")
    found: Any = report(result)
    kinds = ["empty", "json", "tools", "weight", "message", "form"]
    assert [(one["line"], one["kind"]) for one in found["bad"]] == [(at + 2, kind) for at, kind in enumerate(kinds)]
    told = check(tmp_path / "rows.jsonl").stdout
    assert "weight: 1 bad" in told
    assert f"{tmp_path}/rows.jsonl, line 5: weight is '1': write a finite number" in told
    assert "7 rows, 6 bad, 0 dropped, 0 cut" in told


@pytest.mark.parametrize(
    ("recipe", "name", "words", "bad"),
    [
        ("dpo", "preferences-of-the-hub.jsonl", [], 0),
        ("orpo", "preferences-of-the-vendor.jsonl", [], 0),
        ("rl", "rl-nested-truth.jsonl", [], 0),
        ("rl", "rl-nested-truth.jsonl", ["--ground-truth-key", "answer"], 1),
        ("sft", "weights.jsonl", [], 1),
    ],
)
def test_rows_are_judged_as_the_recipe_reads_them(check, recipe: str, name: str, words: list[str], bad: int) -> None:  # type: ignore[no-untyped-def]
    result = check(DATA / name, "--recipe", recipe, "--json", *words)
    assert (result.exit_code, len(report(result)["bad"])) == (min(bad, 1), bad)  # type: ignore[arg-type]


def test_a_row_is_shown_as_it_will_be_sent(check) -> None:  # type: ignore[no-untyped-def]
    result = check(DATA / "two-assistant-turns.jsonl", "--show", "1")
    assert result.exit_code == 0
    assert "<|im_start|>assistant\n<think>\n\n</think>\n\nCertainly.<|im_end|>\n<|im_start|>assistant" in result.stdout


@pytest.mark.parametrize("words", [["nothing.jsonl"], [DATA / "stop.jsonl", "--recipe", "ppo"]])
def test_what_cannot_be_read_or_is_not_known_has_a_status_of_its_own(check, words: list[object]) -> None:  # type: ignore[no-untyped-def]
    assert check(*words).exit_code == 2


def test_the_tokenizer_is_found_although_the_hub_library_was_imported_before(check) -> None:  # type: ignore[no-untyped-def]
    from huggingface_hub import constants

    before = constants.HF_HUB_CACHE
    assert report(check(DATA / "harbour-59.jsonl", "--json"))["rows"] == 59
    assert before == constants.HF_HUB_CACHE


def test_a_prompt_leaves_room_for_an_answer_as_in_a_run(check, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    row = {"messages": [{"role": "user", "content": "fog " * 60}], "ground_truth": "a"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    asked = [tmp_path / "rows.jsonl", "--recipe", "rl", "--json"]
    tokens: Any = report(check(*asked))["tokens"]
    for room, dropped in ((16, 0), (17, 1)):
        words = ["--max-seq-len", tokens + 16, "--max-completion-tokens", room]
        assert report(check(*asked, *words))["dropped"] == dropped
    assert check(*asked, "--max-seq-len", 64).exit_code == 2
