"""One replica generates: exact log-probabilities, seeds, stops, limits, whatever else is in the batch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from emulator.backend import BackendError, GenerateRequest, Generation
from ftsim.compute.sampler.replica import TorchReplica
from tests.compute.sampler.conftest import FAMILIES

PROMPTS = ("The cat", "What is the opposite of hot?", "Nora said", "One, two, three, four, five, six,")


def ids(generation: Generation) -> list[int]:
    return [token.token_id for token in generation.tokens]


def forward(folder: Path, tokens: Sequence[int]) -> torch.Tensor:
    """Log-probabilities (T - 1, V) of a plain forward pass, no cache."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=torch.tensor([list(tokens)])).logits[0, :-1], -1)


@pytest.mark.parametrize("name", FAMILIES)
def test_logprobs_equal_those_of_a_plain_forward(name: str, bases: Callable[[str], Path]) -> None:
    replica = TorchReplica(bases(name), max_context_length=256)
    requests = [
        GenerateRequest(replica.encode(text), max_tokens=24, seed=seed, temperature=0.8, top_p=0.9, ignore_eos=True)
        for seed, text in enumerate(PROMPTS)
    ]
    results = [future.result() for future in [replica.generate(request) for request in requests]]
    replica.close()
    for request, result in zip(requests, results, strict=True):
        whole = [*request.prompt, *ids(result)]
        expected = forward(bases(name), whole)[len(request.prompt) - 1 :].gather(1, torch.tensor(ids(result))[:, None])
        assert torch.tensor([token.logprob for token in result.tokens]).sub(expected[:, 0]).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"), [(1.0, 1.0, 0), (0.7, 1.0, 0), (1.0, 0.8, 0), (1.3, 0.9, 5)]
)
def test_a_request_gets_the_same_tokens_alone_and_in_a_crowd(
    shared: TorchReplica, temperature: float, top_p: float, top_k: int
) -> None:
    request = GenerateRequest(
        shared.encode("Nora said"), max_tokens=20, seed=5, temperature=temperature, top_p=top_p, top_k=top_k
    )
    alone = shared.generate(request).result()
    crowd = [
        shared.generate(GenerateRequest(shared.encode(text) * 3, max_tokens=9 + seed, seed=seed, top_k=seed))
        for seed, text in enumerate(PROMPTS * 3)
    ]
    among = shared.generate(request).result()
    assert ids(among) == ids(alone)
    assert among.text == alone.text
    for left, right in zip(among.tokens, alone.tokens, strict=True):
        assert left.logprob == pytest.approx(right.logprob, abs=1e-4)
        assert left.sampling_logprob == pytest.approx(right.sampling_logprob, abs=1e-4)
    assert all(future.result().tokens for future in crowd)


def test_seeds_give_different_samples_and_each_one_again(shared: TorchReplica) -> None:
    def sample(seed: int) -> list[int]:
        return ids(shared.generate(GenerateRequest(shared.encode("The"), max_tokens=12, seed=seed)).result())

    samples = [sample(seed) for seed in range(6)]
    assert len({tuple(tokens) for tokens in samples}) > 3
    assert [sample(seed) for seed in range(6)] == samples


def test_temperature_zero_is_the_argmax_of_the_forward(shared: TorchReplica, bases: Callable[[str], Path]) -> None:
    prompt = shared.encode("The cat")
    result = shared.generate(GenerateRequest(prompt, max_tokens=16, temperature=0, ignore_eos=True)).result()
    expected = forward(bases(FAMILIES[0]), [*prompt, *ids(result)])[len(prompt) - 1 :].argmax(-1)
    assert ids(result) == expected.tolist()
    assert {token.sampling_logprob for token in result.tokens} == {0.0}
    assert all(token.logprob < 0 for token in result.tokens)


def test_echoed_rows_are_the_logprobs_of_the_prompt(shared: TorchReplica, bases: Callable[[str], Path]) -> None:
    prompt = shared.encode("Nora said, It is in the kitchen.")
    full = shared.generate(GenerateRequest(prompt, max_tokens=1, echo=True, top_logprobs=3)).result()
    last = shared.generate(GenerateRequest(prompt, max_tokens=1, echo_last=3)).result()
    lp = forward(bases(FAMILIES[0]), prompt)
    expected = [0.0, *lp.gather(1, torch.tensor(prompt[1:])[:, None])[:, 0].tolist()]
    assert [row.token_id for row in full.prompt_tokens] == prompt
    assert [row.logprob for row in full.prompt_tokens] == pytest.approx(expected, abs=1e-4)
    assert [row.logprob for row in last.prompt_tokens] == pytest.approx(expected[-3:], abs=1e-4)
    assert {row.sampling_logprob for row in full.prompt_tokens} == {None}
    best = lp[0].topk(3)
    assert [token for token, _ in full.prompt_tokens[1].top] == best.indices.tolist()
    assert [value for _, value in full.tokens[0].top] == sorted((v for _, v in full.tokens[0].top), reverse=True)


def test_a_stop_string_ends_the_text_before_it_and_keeps_its_tokens(shared: TorchReplica) -> None:
    prompt = shared.encode("The cat")
    free = shared.generate(GenerateRequest(prompt, max_tokens=40, temperature=0, ignore_eos=True)).result()
    stop = free.text[7:10]
    held = shared.generate(GenerateRequest(prompt, max_tokens=40, temperature=0, ignore_eos=True, stop=[stop])).result()
    assert held.finish_reason == "stop"
    assert held.text == free.text.partition(stop)[0]
    assert ids(held) == ids(free)[: len(held.tokens)]
    assert stop in shared.decode(ids(held))


def test_generation_stops_by_itself_at_the_end_of_a_turn(shared: TorchReplica) -> None:
    prompt = shared.render_chat([{"role": "user", "content": "What is the opposite of hot?"}])
    result = shared.generate(GenerateRequest(prompt, max_tokens=32768, temperature=0)).result()
    assert result.finish_reason == "stop"
    assert shared.decode(ids(result)).endswith(("<|im_end|>", "<|endoftext|>"))
    assert not result.text.endswith(">")


def test_generation_stops_by_itself_when_the_context_is_full(shared: TorchReplica) -> None:
    prompt = shared.encode("The cat") * 300
    result = shared.generate(GenerateRequest(prompt[:500], max_tokens=32768, ignore_eos=True)).result()
    assert (result.finish_reason, len(result.tokens)) == ("length", 12)


def test_max_tokens_zero_only_reads_the_prompt(shared: TorchReplica) -> None:
    prompt = shared.encode("The cat")
    result = shared.generate(GenerateRequest(prompt, max_tokens=0, echo=True)).result()
    assert (result.finish_reason, len(result.tokens), len(result.prompt_tokens)) == ("length", 0, len(prompt))


@pytest.mark.parametrize(
    ("prompt", "says"), [([], "empty"), ([5000], "outside"), ([-1], "outside"), ([1] * 513, "context length")]
)
def test_a_prompt_that_does_not_fit_is_refused(shared: TorchReplica, prompt: list[int], says: str) -> None:
    with pytest.raises(BackendError, match=says) as caught:
        shared.generate(GenerateRequest(prompt))
    assert caught.value.category == "user"


def test_empirical_frequencies_follow_the_sampling_distribution(shared: TorchReplica) -> None:
    prompt = shared.encode("The")
    futures = [
        shared.generate(GenerateRequest(prompt, max_tokens=1, seed=seed, temperature=0.7, top_k=8))
        for seed in range(600)
    ]
    drawn = [future.result().tokens[0] for future in futures]
    expected = {token.token_id: torch.tensor(token.sampling_logprob).exp().item() for token in drawn}
    assert len(expected) <= 8
    for token, probability in expected.items():
        share = sum(one.token_id == token for one in drawn) / len(drawn)
        assert abs(share - probability) < 4 * (probability * (1 - probability) / len(drawn)) ** 0.5


def test_tools_that_the_template_leaves_out_are_refused(shared: TorchReplica, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that does not read them would answer as if there were none, and nobody would know why."""
    messages, tools = [{"role": "user", "content": "Use tide."}], [{"type": "function", "function": {"name": "tide"}}]
    assert "tide" in shared.decode(shared.render_chat(messages, tools))
    whole = shared._templates.render
    monkeypatch.setattr(shared._templates, "render", lambda messages, tools, settings: whole(messages, (), settings))
    with pytest.raises(BackendError, match="the model's chat template leaves out the tools of a request: send none"):
        shared.render_chat(messages, tools)
    assert shared.render_chat(messages)
