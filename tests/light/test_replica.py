"""The light backend draws the same for the same request, and cut as the request asks."""

import dataclasses
import math

import pytest

from emulator.backend import BackendError, GenerateRequest
from emulator.core.answer_format import Json
from emulator.light.replica import FIRST_TOKEN, LightReplica, spoken

PROMPT = [5, 6, 7]
WEIGHTS = [math.log(p) for p in (0.4, 0.3, 0.2, 0.1)]


def test_equal_requests_get_equal_answers_and_other_seeds_others() -> None:
    replica, again = LightReplica(WEIGHTS), LightReplica(WEIGHTS)
    request = GenerateRequest(PROMPT, max_tokens=40, seed=3)
    assert replica.generate(request).result().text == again.generate(request).result().text
    other = GenerateRequest(PROMPT, max_tokens=40, seed=4)
    assert replica.generate(request).result().text != replica.generate(other).result().text


def test_draws_follow_the_weights() -> None:
    drawn = LightReplica(WEIGHTS).answer(GenerateRequest(PROMPT, max_tokens=3000, seed=1)).tokens
    shares = [sum(token.token_id == FIRST_TOKEN + k for token in drawn) / len(drawn) for k in range(4)]
    assert shares == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.03)
    assert drawn[0].logprob == pytest.approx(WEIGHTS[drawn[0].token_id - FIRST_TOKEN])
    assert drawn[0].sampling_logprob == pytest.approx(drawn[0].logprob)


@pytest.mark.parametrize(
    ("settings", "shares"),
    [
        ({"temperature": 0.0}, {0: 1.0}),
        ({"top_k": 2}, {0: 4 / 7, 1: 3 / 7}),
        ({"top_p": 0.6}, {0: 4 / 7, 1: 3 / 7}),
        ({"top_k": 2, "top_p": 0.5}, {0: 1.0}),
        ({"min_p": 0.6}, {0: 4 / 7, 1: 3 / 7}),
        ({"typical_p": 0.29}, {1: 1.0}),
        ({"logit_bias": {FIRST_TOKEN + 3: 100.0}}, {3: 1.0}),
        ({"temperature": 0.5}, {0: 16 / 30, 1: 9 / 30, 2: 4 / 30, 3: 1 / 30}),
    ],
)
def test_settings_cut_the_distribution(settings: dict[str, float], shares: dict[int, float]) -> None:
    request = GenerateRequest(PROMPT, max_tokens=400, seed=2, **settings)  # type: ignore[arg-type]
    for token in LightReplica(WEIGHTS).answer(request).tokens:
        share = shares[token.token_id - FIRST_TOKEN]
        assert token.sampling_logprob == pytest.approx(math.log(share))


def test_a_stop_string_ends_the_text_before_it_and_is_never_told() -> None:
    whole = LightReplica(WEIGHTS).answer(GenerateRequest(PROMPT, max_tokens=60, seed=9))
    stop = whole.text[10:13]
    request = GenerateRequest(PROMPT, max_tokens=60, seed=9, stop=[stop], echo_last=2, top_logprobs=2)
    cut = LightReplica(WEIGHTS).answer(request)
    assert cut.text == whole.text.partition(stop)[0]
    assert cut.finish_reason == "stop"
    assert [token.token_id for token in cut.prompt_tokens] == PROMPT[1:]
    assert {len(token.top) for token in cut.tokens} == {2}
    told = spoken(cut, request.stop)
    assert told[0] == (cut.prompt_tokens, "\x06\x07")
    assert cut.text.startswith("".join(text for _, text in told[1:]))
    assert [token for tokens, _ in told[1:] for token in tokens] == list(cut.tokens)


def test_the_context_limits_what_is_drawn() -> None:
    replica = LightReplica(WEIGHTS, context=8)
    assert len(replica.answer(GenerateRequest(PROMPT, max_tokens=50)).tokens) == 5
    for prompt, whole in (([1] * 9, False), (PROMPT, True), ([], False)):
        with pytest.raises(BackendError, match=r"context length(:| is) 8|the prompt is empty"):
            replica.answer(GenerateRequest(prompt, max_tokens=50, whole=whole))


def test_no_token_makes_text_that_cannot_be_sent() -> None:
    assert LightReplica(WEIGHTS).decode([0xD800, 0x110000, 65]).encode() == "\ufffd\ufffdA".encode()


def test_penalties_lower_what_was_drawn() -> None:
    greedy = GenerateRequest(PROMPT, max_tokens=4, temperature=0.0)
    replica = LightReplica(WEIGHTS)
    assert {token.token_id for token in replica.answer(greedy).tokens} == {FIRST_TOKEN}
    for frequency, presence, repetition in ((2.0, 0.0, 1.0), (0.0, 2.0, 1.0), (0.0, 0.0, 2.0)):
        asked = dataclasses.replace(
            greedy, frequency_penalty=frequency, presence_penalty=presence, repetition_penalty=repetition
        )
        drawn = replica.answer(asked).tokens
        assert len({token.token_id for token in drawn}) > 1


def test_a_stop_token_ends_the_text_before_it() -> None:
    greedy = GenerateRequest(PROMPT, max_tokens=4, temperature=0.0, stop_tokens=[FIRST_TOKEN])
    answer = LightReplica(WEIGHTS).answer(greedy)
    assert (len(answer.tokens), answer.text, answer.finish_reason) == (1, "", "stop")


def test_a_format_is_refused() -> None:
    with pytest.raises(BackendError, match="draws letters and no JSON"):
        LightReplica(WEIGHTS).generate(GenerateRequest(PROMPT, format=[Json({"type": "object"})]))
