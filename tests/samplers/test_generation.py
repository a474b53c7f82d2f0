"""A request gets the same, whichever sampler draws it: one set of assertions for both."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from emulator.backend import BackendError, GenerateRequest, Generation, Replica
from tests.samplers.conftest import CONTEXT

CLOSE = 1e-4
"""Bound of a log-probability's error: float32 sums of another order; 1.3e-5 was the largest that was measured."""
PROMPTS = ("The cat", "What is the opposite of hot?", "Nora said", "One, two, three, four, five, six,")


def ids(generation: Generation) -> list[int]:
    return [token.token_id for token in generation.tokens]


def ask(replica: Replica, text: str = "Nora said", **settings: Any) -> Generation:
    request = GenerateRequest(replica.encode(text), **{"max_tokens": 16, "seed": 3, "ignore_eos": True, **settings})
    return replica.generate(request).result(60)


def logprobs(folder: Path, tokens: Sequence[int]) -> torch.Tensor:
    """Log-probabilities (T - 1, V) of a plain forward of transformers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=torch.tensor([list(tokens)])).logits[0, :-1], -1)


def test_greedy_tokens_and_their_logprobs_are_those_of_transformers(served: Replica, base: Path) -> None:
    prompt = served.encode("Nora said")
    result = ask(served, temperature=0, max_tokens=32, top_logprobs=3)
    expected = logprobs(base, [*prompt, *ids(result)])[len(prompt) - 1 :]
    assert ids(result) == expected.argmax(-1).tolist()
    best = expected.topk(3)
    for at, token in enumerate(result.tokens):
        assert token.logprob == pytest.approx(float(expected[at, token.token_id]), abs=CLOSE)
        assert token.sampling_logprob == 0.0
        assert [one for one, _ in token.top] == best.indices[at].tolist()
        assert [value for _, value in token.top] == pytest.approx(best.values[at].tolist(), abs=CLOSE)
    assert result.text == served.decode(ids(result))


def test_echoed_prompts_have_the_logprobs_of_transformers(served: Replica, base: Path) -> None:
    prompt = served.encode("Nora said, It is in the kitchen.")
    full = ask(served, "Nora said, It is in the kitchen.", max_tokens=1, echo=True, top_logprobs=2)
    last = ask(served, "Nora said, It is in the kitchen.", max_tokens=0, echo_last=3)
    rows = logprobs(base, prompt)
    expected = [0.0, *rows.gather(1, torch.tensor(prompt[1:])[:, None])[:, 0].tolist()]
    assert [row.token_id for row in full.prompt_tokens] == prompt
    assert [row.logprob for row in full.prompt_tokens] == pytest.approx(expected, abs=CLOSE)
    assert full.prompt_tokens[0].top == [(prompt[0], 0.0)]
    assert [one for one, _ in full.prompt_tokens[1].top] == rows[0].topk(2).indices.tolist()
    assert (last.finish_reason, ids(last)) == ("length", [])
    assert [row.logprob for row in last.prompt_tokens] == pytest.approx(expected[-3:], abs=CLOSE)


SHAPED: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.7},
    {"top_p": 0.6},
    {"temperature": 1.5, "top_k": 12, "top_p": 0.9},
    {"min_p": 0.2},
    {"temperature": 0.8, "logit_bias": {42: 3.0, 7: -2.0}, "frequency_penalty": 1.5, "presence_penalty": 0.5},
)


CUTS: dict[str, Any] = {
    "temperature": transformers.TemperatureLogitsWarper,
    "top_k": transformers.TopKLogitsWarper,
    "top_p": transformers.TopPLogitsWarper,
    "min_p": transformers.MinPLogitsWarper,
}


def drawn_with(logits: torch.Tensor, asked: dict[str, Any], before: Sequence[int]) -> torch.Tensor:
    """Log-probabilities (V,) of what is drawn from, through the processors of transformers."""
    changed = logits.clone()
    for token, value in asked.get("logit_bias", {}).items():
        changed[token] += value
    for token, count in Counter(before).items():
        changed[token] -= asked.get("frequency_penalty", 0.0) * count + asked.get("presence_penalty", 0.0)
    for name, cut in CUTS.items():
        if name in asked:
            changed = cut(asked[name])(torch.zeros((1, 1), dtype=torch.long), changed[None])[0]
    return torch.log_softmax(changed, -1)


@pytest.mark.parametrize("asked", SHAPED)
def test_a_token_is_drawn_with_the_logprob_that_is_told(served: Replica, base: Path, asked: dict[str, Any]) -> None:
    prompt = served.encode("Nora said")
    result = ask(served, max_tokens=12, **asked)
    raw = logprobs(base, [*prompt, *ids(result)])[len(prompt) - 1 :]
    for at, token in enumerate(result.tokens):
        assert token.logprob == pytest.approx(float(raw[at, token.token_id]), abs=CLOSE)
        expected = drawn_with(raw[at], asked, ids(result)[:at])
        assert token.sampling_logprob == pytest.approx(float(expected[token.token_id]), abs=10 * CLOSE)


def test_frequencies_follow_the_distribution_that_is_told(served: Replica) -> None:
    prompt = served.encode("The")
    futures = [
        served.generate(GenerateRequest(prompt, max_tokens=1, seed=seed, temperature=0.7, top_k=8))
        for seed in range(600)
    ]
    drawn = [future.result(60).tokens[0] for future in futures]
    expected = {token.token_id: math.exp(token.sampling_logprob or 0.0) for token in drawn}
    assert len(expected) <= 8
    for token, probability in expected.items():
        share = sum(one.token_id == token for one in drawn) / len(drawn)
        assert abs(share - probability) < 4 * (probability * (1 - probability) / len(drawn)) ** 0.5


def test_a_request_gets_the_same_tokens_alone_and_in_a_crowd(served: Replica) -> None:
    request = GenerateRequest(served.encode("Nora said"), max_tokens=20, seed=5)
    alone = served.generate(request).result(60)
    crowd = [
        served.generate(GenerateRequest(served.encode(text), max_tokens=9 + seed, seed=seed, top_k=seed))
        for seed, text in enumerate(PROMPTS * 3)
    ]
    among = served.generate(request).result(60)
    assert ids(among) == ids(alone)
    assert all(future.result(60).tokens for future in crowd)


def test_seeds_give_different_samples_and_each_one_again(served: Replica) -> None:
    samples = [ids(ask(served, "The", seed=seed)) for seed in range(6)]
    assert len({tuple(tokens) for tokens in samples}) > 3
    assert [ids(ask(served, "The", seed=seed)) for seed in range(6)] == samples


def test_a_stop_string_ends_the_text_before_it_and_keeps_its_tokens(served: Replica) -> None:
    free = ask(served, temperature=0, max_tokens=40)
    stop = free.text[7:10]
    told: list[str] = []
    request = GenerateRequest(
        served.encode("Nora said"), max_tokens=40, temperature=0, ignore_eos=True, stop=[stop], seed=3
    )
    held = served.generate(request, lambda _, text: told.append(text)).result(60)
    assert (held.finish_reason, held.text) == ("stop", free.text.partition(stop)[0])
    assert ids(held) == ids(free)[: len(held.tokens)]
    assert stop in served.decode(ids(held))
    assert held.text.startswith("".join(told))


def test_a_stop_token_ends_a_row_and_an_end_of_turn_too_unless_it_is_ignored(served: Replica) -> None:
    free = ids(ask(served, temperature=0))
    stopped = ask(served, temperature=0, stop_tokens=[free[5]])
    assert (stopped.finish_reason, ids(stopped)) == ("stop", free[: free.index(free[5]) + 1])
    ended = ask(served, temperature=0, ignore_eos=False, logit_bias={2024: 200.0})
    assert (ended.finish_reason, ids(ended), ended.text) == ("stop", [2024], "")
    assert ids(ask(served, temperature=0, logit_bias={2024: 200.0}, max_tokens=3)) == [2024] * 3


def test_generation_ends_where_the_context_is_full(served: Replica) -> None:
    prompt = (served.encode("The cat") * CONTEXT)[: CONTEXT - 12]
    result = served.generate(GenerateRequest(prompt, max_tokens=32768, ignore_eos=True)).result(60)
    assert (result.finish_reason, len(result.tokens)) == ("length", 12)
    full = served.generate(GenerateRequest([*prompt, *prompt[:12]], max_tokens=5, ignore_eos=True)).result(60)
    assert (full.finish_reason, len(full.tokens)) == ("length", 0)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"prompt": []}, "empty"),
        ({"prompt": [5000]}, "outside"),
        ({"prompt": [-1]}, "outside"),
        ({"prompt": [1] * (CONTEXT + 1)}, "context length"),
        ({"prompt": [1] * 100, "max_tokens": 100, "whole": True}, "context_length_exceeded_behavior"),
        ({"prompt": [1], "logit_bias": {5000: 1.0}}, "logit_bias names token ids outside"),
        ({"prompt": [1], "routing": True}, "include_routing_matrix"),
    ],
)
def test_what_does_not_fit_is_refused_in_the_same_words(served: Replica, asked: dict[str, Any], says: str) -> None:
    with pytest.raises(BackendError, match=says) as caught:
        served.generate(GenerateRequest(**asked))
    assert caught.value.category == "user"


def test_a_request_that_is_cancelled_makes_room(served: Replica) -> None:
    told: list[int] = []
    running = served.generate(
        GenerateRequest(served.encode("The cat"), max_tokens=100, ignore_eos=True), lambda new, _: told.append(len(new))
    )
    assert running.cancel() or running.done()
    assert len(ask(served, max_tokens=4).tokens) == 4
