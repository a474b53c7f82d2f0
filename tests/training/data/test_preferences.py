import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ftsim.compute import data
from ftsim.training.data.preferences import as_data, load_preferences
from ftsim.training.errors import DataError
from ftsim.training.losses import dpo_loss, orpo_loss

USER = {"role": "user", "content": "Where is Ada?"}
GOOD = {"role": "assistant", "content": "In the kitchen."}
BAD = {"role": "assistant", "content": "kitchen"}


def load(folder: Path, tokenizer: Any, *rows: Any, length: int = 64, truncate: bool = True) -> Any:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_preferences(str(path), tokenizer, length, truncate=truncate)


def learned(side: Any, tokenizer: Any) -> str:
    """The text of the tokens that carry weight, without the empty reasoning that the chat template adds."""
    (datum,) = side
    inputs = datum.loss_fn_inputs
    pairs = zip(inputs["target_tokens"].data, inputs["weights"].data, strict=True)
    text: str = tokenizer.decode([int(token) for token, weight in pairs if weight])
    return text.replace("<think>\n\n</think>\n\n", "")


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": {"messages": [USER, GOOD]}, "rejected": {"messages": [USER, BAD]}},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "Ada: ", "chosen": "In the kitchen.", "rejected": "kitchen"},
    ],
)
def test_every_form_trains_on_the_answers_alone(tmp_path: Path, tokenizer: Any, row: Any) -> None:
    (pair,) = load(tmp_path, tokenizer, row).pairs
    assert learned(pair.chosen, tokenizer).removesuffix(tokenizer.eos_token) == "In the kitchen."
    assert learned(pair.rejected, tokenizer).removesuffix(tokenizer.eos_token) == "kitchen"
    assert learned(pair.chosen, tokenizer).endswith(tokenizer.eos_token)


def test_turns_both_sides_share_are_the_prompt(tmp_path: Path, tokenizer: Any) -> None:
    shared = [USER, GOOD, {"role": "user", "content": "And Ben?"}]
    row = {"chosen": {"messages": [*shared, BAD]}, "rejected": {"messages": [*shared, GOOD]}}
    (pair,) = load(tmp_path, tokenizer, row).pairs
    assert learned(pair.chosen, tokenizer).removesuffix(tokenizer.eos_token) == "kitchen"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": [USER, GOOD]}, "'rejected' is missing"),
        (
            {"chosen": [USER, GOOD], "rejected": [{"role": "user", "content": "Where?"}, BAD]},
            "the sides differ in message 0, which is the user's: compare answers to one prompt",
        ),
        ({"messages": [USER, GOOD]}, "'chosen' is missing"),
        ({"chosen": [USER, GOOD], "rejected": [USER, GOOD]}, "are the same"),
        ({"chosen": "yes", "rejected": "no"}, "'prompt' must be there, as text or as messages"),
        ({"prompt": "x", "chosen": "", "rejected": "no"}, "must not be empty"),
        ({"prompt": "x", "chosen": "yes", "rejected": [BAD]}, "chosen must be an object with messages"),
        ({"prompt": "x", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, "does not hold the prompt"),
        ({"prompt": 7, "chosen": [GOOD], "rejected": [BAD]}, "prompt must be a list with at least one message"),
        ({"chosen": [USER, GOOD], "rejected": {"text": "no"}}, "rejected must be an object with messages"),
        (
            {"chosen": [USER, GOOD], "rejected": [USER]},
            "rejected after what both have in common: no assistant|no assis",
        ),
        ({"chosen": [USER, {"role": "robot"}], "rejected": [USER, BAD]}, "chosen.1.role is 'robot'"),
        ({"chosen": [USER, GOOD], "rejected": []}, "at least one message"),
        ([], "a JSON object is wanted"),
    ],
)
def test_a_bad_pair_is_named_by_file_line_and_reason(tmp_path: Path, tokenizer: Any, row: Any, reason: str) -> None:
    good = {"chosen": [USER, GOOD], "rejected": [USER, BAD]}
    with pytest.raises(DataError, match=reason) as caught:
        load(tmp_path, tokenizer, good, row)
    assert str(caught.value).startswith(f"{tmp_path / 'pairs.jsonl'}, line 2: ")


def test_a_pair_too_long_is_cut_or_left_out(tmp_path: Path, tokenizer: Any) -> None:
    long = {"role": "assistant", "content": "In the kitchen. " * 20}
    rows = [{"chosen": [USER, long], "rejected": [USER, BAD]}, {"chosen": [USER, GOOD], "rejected": [USER, BAD]}]
    cut = load(tmp_path, tokenizer, *rows)
    assert (cut.truncated, cut.dropped) == (1, 0)
    assert len(cut.pairs[0].chosen[0].loss_fn_inputs["weights"].data) == 64
    dropped = load(tmp_path, tokenizer, *rows, truncate=False)
    assert (dropped.truncated, dropped.dropped, dropped.pairs[0]) == (0, 1, None)


def test_a_pair_cut_to_the_same_tokens_is_left_out(tmp_path: Path, tokenizer: Any) -> None:
    both = [{"role": "assistant", "content": "In the kitchen. " * 20 + end} for end in ("Yes.", "No.")]
    rows = [{"chosen": [USER, side], "rejected": [USER, other]} for side, other in [both]]
    with pytest.raises(DataError, match="no pair has two answers"):
        load(tmp_path, tokenizer, *rows)


@pytest.mark.parametrize(("name", "count"), [("preference-train", 200), ("preference-eval", 40)])
def test_the_shipped_pairs_load_whole(tokenizer: Any, name: str, count: int) -> None:
    loaded = load_preferences(str(data.path(name)), tokenizer, 512, truncate=False)
    assert (len(loaded.pairs), loaded.dropped) == (count, 0)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": USER["content"], "chosen": GOOD["content"], "rejected": BAD["content"]},
        {"prompt": [USER], "chosen": [GOOD], "rejected": BAD},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    ],
)
def test_words_of_the_system_beside_a_pair_begin_its_prompt(tmp_path: Path, tokenizer: Any, row: Any) -> None:
    system = {"role": "system", "content": "Be kind."}
    whole = {"chosen": [system, USER, GOOD], "rejected": [system, USER, BAD]}
    beside, expected = load(tmp_path, tokenizer, {"system": "Be kind.", **row}, whole).pairs
    tokens = [[side[0].model_input.to_ints() for side in (pair.chosen, pair.rejected)] for pair in (beside, expected)]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": USER["content"], "chosen": GOOD["content"], "rejected": BAD["content"]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    ],
)
@pytest.mark.parametrize("weight", [0.25, 3.0, -1.0])
@pytest.mark.parametrize("recipe", ["dpo", "orpo"])
def test_the_weight_of_a_pair_scales_its_loss_and_gradient_once(
    tmp_path: Path, tokenizer: Any, row: Any, weight: float, recipe: str
) -> None:
    found = []
    for pair in load(tmp_path, tokenizer, row, {**row, "weight": weight}).pairs:
        kept = [replace(pair, reference=[-9.0, -4.0])]
        made = (
            dpo_loss(kept, beta=0.3, label_smoothing=0.1, divisor=1)
            if recipe == "dpo"
            else orpo_loss(kept, odds_weight=0.4, divisor=1)
        )
        datums = as_data(kept)
        chance = torch.Generator().manual_seed(5)
        logprobs = [-torch.rand(one.model_input.length, generator=chance).requires_grad_() for one in datums]
        loss, figures = made(datums, logprobs)
        found.append((loss, torch.cat(torch.autograd.grad(loss, logprobs)), figures["margin"]))
    (loss, gradient, margin), (weighted, scaled, same) = found
    assert weighted.item() == pytest.approx(weight * loss.item(), rel=1e-5)
    torch.testing.assert_close(scaled, weight * gradient)
    assert same == pytest.approx(margin)
