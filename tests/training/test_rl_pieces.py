"""Prompts, rewards, advantages and turns, each by itself."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from ftsim.training.data.conversation import Message
from ftsim.training.data.files import BadRow
from ftsim.training.data.notes import Notes
from ftsim.training.data.turns import Conversation
from ftsim.training.errors import ConfigError, DataError
from ftsim.training.sampling.advantages import Scored, check_loss, discounted, kl_estimate, normalised, policy_data
from ftsim.training.sampling.environments import Reply, search
from ftsim.training.sampling.episodes import Episode, information_gains
from ftsim.training.sampling.rewards import answer_of, exact_match, has_signal, keep_all
from ftsim.training.sampling.rollouts import Group, Prompt, Sample, load_prompts, paid, read_prompt, sampling_seed

ROW = {"ground_truth": "red", "facts": {"box": "red", "key": "blue"}}
PROMPT = Prompt(Conversation("here", [Message(role="user", content="Hm?")]), ROW, (1, 2, 3))


def sample(tokens: list[int], logprobs: list[float]) -> Sample:
    return Sample((1, 2, 3), tokens, logprobs, "", True)


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=20))
def test_normalised_values_have_mean_0_and_deviation_1_or_are_all_0(values: list[int]) -> None:
    found = normalised(values)
    if len(set(values)) > 1:
        assert math.fsum(found) == pytest.approx(0, abs=1e-6)
        assert math.fsum(value**2 for value in found) / len(found) == pytest.approx(1)
        assert sorted(range(len(values)), key=values.__getitem__) == sorted(range(len(values)), key=found.__getitem__)
    else:
        assert found == [0.0] * len(values)


@pytest.mark.parametrize(
    ("discount", "expected"), [(1.0, [6.0, 5.0, 3.0]), (0.5, [2.75, 3.5, 3.0]), (0.0, [1.0, 2.0, 3.0])]
)
def test_a_turn_gets_its_share_of_what_follows(discount: float, expected: list[float]) -> None:
    assert discounted([1.0, 2.0, 3.0], discount) == expected


def test_a_datum_has_its_advantage_on_the_completion_alone() -> None:
    (datum,) = policy_data([Scored(sample([7, 8], [-0.5, -1.0]), 2.0)])
    tensors = {name: list(tensor.data) for name, tensor in datum.loss_fn_inputs.items()}
    assert list(datum.model_input.to_ints()) == [1, 2, 3, 7]
    assert tensors == {
        "target_tokens": [2, 3, 7, 8],
        "logprobs": [0.0, 0.0, -0.5, -1.0],
        "advantages": [0.0, 0.0, 2.0, 2.0],
    }


def test_divergence_from_the_reference_lowers_the_advantage_token_by_token() -> None:
    scored = [Scored(sample([7, 8], [-0.5, -1.0]), 2.0)]
    (datum,) = policy_data(scored, [[-1.5, -1.0]], kl_beta=0.1)
    assert list(datum.loss_fn_inputs["advantages"].data) == pytest.approx([0, 0, 1.9, 2.0])
    assert kl_estimate(scored, [[-1.5, -1.0]]) == pytest.approx(0.5)
    assert kl_estimate([], []) == 0.0


def test_seeds_differ_between_places_and_between_runs() -> None:
    places = [
        (seed, step, row, place) for seed in (0, 1) for step in range(5) for row in range(5) for place in range(4)
    ]
    seeds = {sampling_seed(*place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**48 for seed in seeds)
    assert sampling_seed(0, 1, 2, 3) == sampling_seed(0, 1, 2, 3)


@pytest.mark.parametrize(
    ("completion", "reward"),
    [("red", 1), (" red\n", 1), ("<think>\n\n</think>\n\nred", 1), ("red.", 0), ("", 0), ("<think>red", 0)],
)
def test_only_the_exact_answer_after_the_thought_is_rewarded(completion: str, reward: float) -> None:
    assert exact_match(completion, ROW) == reward


@pytest.mark.parametrize(
    ("truth", "said", "reward"),
    [(4, "4", 1), (4.0, "4", 1), (4.0, "4.0", 1), (4.5, "4.5", 1), (4.5, "4", 0), (" red ", "red", 1)],
)
def test_a_truth_that_is_a_number_is_said_as_one_writes_it(truth: object, said: str, reward: float) -> None:
    assert exact_match(said, {"ground_truth": truth}) == reward


def test_a_row_without_what_is_rewarded_is_refused() -> None:
    with pytest.raises(DataError, match=r"lacks 'ground_truth', by which answers are rewarded; it has \['messages'\]"):
        exact_match("red", {"messages": []})


@pytest.mark.parametrize("reward", [math.nan, math.inf, None, "much"])
def test_a_reward_that_is_no_number_names_its_row(reward: Any) -> None:
    with pytest.raises(DataError, match=rf"p\.jsonl, line 3: it was rewarded with {reward!r}"):
        paid(reward, Prompt(Conversation("p.jsonl, line 3", []), {}))


@pytest.mark.parametrize("value", [math.inf, math.nan, "1", True])
def test_a_setting_of_a_loss_is_a_finite_number(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"loss_config\.ratio_log_cap must be a finite number"):
        check_loss("grpo", {"ratio_log_cap": value})


def test_equal_rewards_are_no_signal() -> None:
    group = Group(PROMPT, [], [1.0, 1.0])
    assert not has_signal(group)
    assert keep_all(group)
    assert has_signal(Group(PROMPT, [], [1.0, 0.0]))
    assert answer_of("a </think> b </think> c") == "c"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"ground_truth": "x"}, "line 1: neither 'messages' nor a 'prompt'"),
        ({"messages": []}, "line 1: messages must be a list with at least one message"),
        ({"messages": [{"role": "king", "content": "x"}]}, "line 1: messages.0.role is 'king': use one of"),
        ({"messages": [{"role": "user", "content": None}]}, r"line 1: messages.0.content is null, not text \(user\)"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "nothing to answer"),
        ({"prompt": "word " * 100}, "no prompt has at most 50 tokens"),
    ],
)
def test_a_row_that_cannot_be_answered_is_named(tmp_path: Path, tokenizer: Any, row: Any, message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=message):
        load_prompts(str(path), tokenizer, 50)


def test_a_prompt_may_be_text_and_one_that_is_too_long_is_kept_without_tokens(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("Copy: fox", "word " * 100)))
    short, long = load_prompts(str(path), tokenizer, 50)
    assert tokenizer.decode(short.tokens).endswith("<|im_start|>assistant\n")
    assert not long.tokens


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("look: box", Reply("The box is red.")),
        ("<think>\n\n</think>\n\nlook: key", Reply("The key is blue.")),
        ("look: lamp", Reply("There is no lamp here.")),
        ("answer: red", Reply(None, 1.0)),
        ("answer: red.", Reply(None, 1.0)),
        ("answer: blue", Reply(None, 0.0)),
        ("I do not know.", Reply("Say 'look: thing' or 'answer: colour'.")),
    ],
)
def test_the_search_environment_answers_every_move(said: str, reply: Reply) -> None:
    assert search(ROW, ["look: key", said]) == reply


@dataclass
class Believer:
    """A client whose model gives every answer token the log-probability -1 / (length of what it has read)."""

    asked: int = 0

    def forward(self, data: list[Any], loss_fn: str) -> Any:
        self.asked += len(data)
        outputs = []
        for datum in data:
            weights = list(datum.loss_fn_inputs["weights"].data)
            read = weights.index(1.0) + 1
            outputs.append({"logprobs": SimpleNamespace(data=[-1 / read] * len(weights))})
        return SimpleNamespace(result=lambda: SimpleNamespace(loss_fn_outputs=outputs))


@pytest.mark.parametrize("kind", ["logprob", "probability"])
def test_a_turn_gains_what_its_reply_adds_to_the_belief_in_the_answer(tokenizer: Any, kind: str) -> None:
    config = SimpleNamespace(answer_template="answer: {ground_truth}", information_gain=kind)
    turns = [Sample((1,) * length, (5,), (0.0,), "", True) for length in (2, 4, 8)]
    whole = Episode(PROMPT, (0, 0, 0), PROMPT.conversation, (), turns)
    short = Episode(PROMPT, (0, 0, 1), PROMPT.conversation, (), turns[:1])
    client: Any = Believer()
    long_gains, short_gains = information_gains(config, client, tokenizer, [whole, short])
    beliefs = [-1 / length if kind == "logprob" else math.exp(-1 / length) for length in (2, 4, 8)]
    assert long_gains == pytest.approx([beliefs[1] - beliefs[0], beliefs[2] - beliefs[1]])
    assert short_gains == []
    assert client.asked == 3  # equal contexts are asked once


def test_rows_of_a_table_and_a_weight_that_does_nothing(tmp_path: Path, tokenizer: Any) -> None:
    asked = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "[1]?"}]
    rows = [
        {"messages": asked, "ground_truth": "x"},
        {"prompt": json.dumps(asked), "ground_truth": "x", "weight": 2},
        {"system": "Be kind.", "prompt": "[1]?", "ground_truth": "x"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes = Notes()
    prompts = load_prompts(str(path), tokenizer, 100, notes=notes)
    assert len({tuple(prompt.tokens) for prompt in prompts}) == 1
    (said,) = notes.lines()
    assert said.startswith("weight acts on the rows of sft, dpo and orpo; ")


def test_truths_that_nobody_says_and_prompts_that_nobody_reads_are_told() -> None:
    asked, notes = [{"role": "user", "content": "2 + 2?"}], Notes()
    for row in ({"messages": asked, "prompt": "3 + 3?", "ground_truth": ["4", "four"]}, {"prompt": str(asked)}):
        try:
            read_prompt(row, "line 1", notes)
        except BadRow as bad:
            notes.add(bad.reason, "line 2")
    assert notes.lines() == [
        "a truth that is a list or an object is never said: it is for a reward_fn of your own (1 times, first line 1)",
        "prompt is a list as Python prints it: write it with json.dumps (1 times, first line 2)",
        "fields that nothing reads: prompt (1)",
    ]
