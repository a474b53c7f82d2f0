"""Settings of sampling act: the distribution that is drawn from is that of transformers' own logits processors."""

import json
import math
from typing import Any

import pytest
import torch
import transformers
from transformers import LogitsProcessor

from emulator.backend import BackendError, GenerateRequest, Generation
from emulator.core.answer_format import Json
from ftsim.compute.sampler.grammar import closed
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.compute.sampler.sampling import Settings, choose
from ftsim.compute.sampler.shaping import Shaper

SIZE, SEED = 101, 5
CUTS: dict[str, Any] = {
    "min_p": transformers.MinPLogitsWarper,
    "typical_p": transformers.TypicalLogitsWarper,
    "top_p": transformers.TopPLogitsWarper,
    "top_k": transformers.TopKLogitsWarper,
    "temperature": transformers.TemperatureLogitsWarper,
}
OFF: dict[str, float] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}


def drawn_from(logits: torch.Tensor, asked: list[dict[str, float]]) -> torch.Tensor:
    """The log-probability (B, V) with which each token is drawn, found by drawing at 20,000 places."""
    settings = Settings(
        *(
            torch.tensor([{**OFF, **one}[name] for one in asked])
            for name in ("temperature", "top_p", "top_k", "min_p", "typical_p")
        )
    )
    found = torch.full(logits.shape, -math.inf)
    for at in range(20000):
        choice = choose(logits, settings, torch.full((len(logits),), (at + 0.5) / 20000, dtype=torch.float64))
        found[torch.arange(len(logits)), choice.tokens] = choice.sampling_logprobs
    return found


def by_transformers(logits: torch.Tensor, asked: dict[str, float]) -> torch.Tensor:
    """The same through the library's processors, in the order of its `generate`."""
    chain: list[LogitsProcessor] = [CUTS[name](value) for name in OFF if (value := asked.get(name)) is not None]
    ids = torch.zeros((1, 1), dtype=torch.long)
    for processor in chain:
        logits = processor(ids, logits)
    return torch.log_softmax(logits, -1)


def test_cuts_are_those_of_transformers_alone_and_together() -> None:
    torch.manual_seed(SEED)
    asked: list[dict[str, float]] = [
        {},
        {"min_p": 0.1},
        {"typical_p": 0.5},
        {"min_p": 0.05, "typical_p": 0.8},
        {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.9},
        {"top_k": 5, "typical_p": 0.3},
        {"temperature": 2.0, "min_p": 0.3},
    ]
    logits = 3 * torch.randn(len(asked), SIZE)
    found = drawn_from(logits, asked)
    for row, one in enumerate(asked):
        wanted = by_transformers(logits[row : row + 1], one)[0]
        likely = wanted > math.log(1e-4)  # rarer ones may lie between two places
        assert torch.allclose(found[row][likely], wanted[likely], atol=1e-5)
        assert bool((wanted[found[row] > -math.inf] > -math.inf).all()), one


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    torch.manual_seed(SEED)
    logits, prompt, drawn = torch.randn(SIZE), [3, 7, 3], [7, 11, 40]
    shaper = Shaper(GenerateRequest(prompt, repetition_penalty=1.4), None)
    for token in drawn:
        shaper.take(token)
    wanted = transformers.RepetitionPenaltyLogitsProcessor(1.4)(torch.tensor([prompt + drawn]), logits[None].clone())
    assert torch.allclose(shaper.apply(logits), wanted[0])


def test_a_bias_is_that_of_transformers() -> None:
    torch.manual_seed(SEED)
    logits, bias = torch.randn(SIZE), {3: 2.5, 50: -100.0}
    library = transformers.SequenceBiasLogitsProcessor([[[token], value] for token, value in bias.items()])
    wanted = library(torch.tensor([[1, 2]]), logits[None].clone())[0]
    assert torch.allclose(Shaper(GenerateRequest([1, 2], logit_bias=bias), None).apply(logits), wanted)


def test_frequency_and_presence_count_what_was_drawn_and_not_the_prompt() -> None:
    logits = torch.zeros(SIZE)
    shaper = Shaper(GenerateRequest([3, 3], frequency_penalty=0.5, presence_penalty=0.25), None)
    for token in (7, 7, 9):
        shaper.take(token)
    shaped = shaper.apply(logits)
    assert {at: value for at, value in enumerate(shaped.tolist()) if value} == {7: -1.25, 9: -0.75}
    assert not logits.any()


def ids(generation: Generation) -> list[int]:
    return [token.token_id for token in generation.tokens]


def generate(replica: TorchReplica, **settings: Any) -> Generation:
    request = GenerateRequest(replica.encode("Nora said"), **{"max_tokens": 24, "seed": SEED, **settings})
    return replica.generate(request).result()


def test_a_bias_forces_and_forbids(shared: TorchReplica) -> None:
    forced = generate(shared, logit_bias={42: 200.0}, max_tokens=4)
    assert ids(forced) == [42] * 4
    assert all(token.logprob < -1 and token.sampling_logprob == 0 for token in forced.tokens)
    plain = ids(generate(shared, temperature=0.0, ignore_eos=True))
    free = generate(shared, temperature=0.0, ignore_eos=True, logit_bias={plain[0]: -200.0})
    assert plain[0] not in ids(free)
    with pytest.raises(BackendError, match="logit_bias names token ids outside"):
        generate(shared, logit_bias={5000: 1.0})


def test_penalties_end_repetition(shared: TorchReplica) -> None:
    again = {"temperature": 0.0, "ignore_eos": True, "logit_bias": {42: 30.0}, "max_tokens": 12}
    assert set(ids(generate(shared, **again))) == {42}
    for penalty in ({"frequency_penalty": 2.0}, {"repetition_penalty": 2.0}):
        biased = again | {"logit_bias": {42: 3.0}} | penalty
        assert len(set(ids(generate(shared, **biased)))) > 3


def test_rows_with_settings_do_not_move_those_without(shared: TorchReplica) -> None:
    alone = generate(shared)
    asked = GenerateRequest(shared.encode("Nora said"), max_tokens=24, seed=SEED)
    other = GenerateRequest(shared.encode("Nora said"), max_tokens=24, seed=SEED, min_p=0.1, presence_penalty=1.0)
    _, among = [future.result() for future in (shared.generate(other), shared.generate(asked))]
    assert ids(among) == ids(alone)
    assert [token.sampling_logprob for token in among.tokens] == pytest.approx(
        [token.sampling_logprob for token in alone.tokens], abs=1e-6
    )


def test_a_stop_token_ends_the_text_before_it(shared: TorchReplica) -> None:
    plain = generate(shared, ignore_eos=True)
    stop = ids(plain)[5]
    first = ids(plain).index(stop)
    told: list[str] = []
    request = GenerateRequest(shared.encode("Nora said"), max_tokens=24, seed=SEED, ignore_eos=True, stop_tokens=[stop])
    ended = shared.generate(request, lambda tokens, text: told.append(text)).result()
    assert (ids(ended), ended.finish_reason) == (ids(plain)[: first + 1], "stop")
    assert ended.text == "".join(told) == shared.decode(ids(ended)[:-1])


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_a_schema_is_followed(shared: TorchReplica, temperature: float) -> None:
    answers = [
        generate(shared, format=[Json(PERSON)], max_tokens=60, seed=seed, temperature=temperature) for seed in range(4)
    ]
    for answer in answers:
        said = json.loads(answer.text)
        assert (set(said), type(said["age"]), answer.finish_reason) == ({"name", "age"}, int, "stop")
        assert len(said["name"]) <= 8
        assert all(math.isfinite(token.logprob) for token in answer.tokens)


OPEN = {key: value for key, value in PERSON.items() if key != "additionalProperties"}
NESTED = {"type": "object", "properties": {"who": {"$ref": "#/$defs/P"}}, "required": ["who"], "$defs": {"P": OPEN}}


def test_what_a_schema_does_not_name_is_left_out(shared: TorchReplica) -> None:
    listed = {"type": "array", "items": {"anyOf": [OPEN, {"type": "null"}]}, "minItems": 1, "maxItems": 1}
    for schema, least in ((NESTED, {"who": {"name", "age"}}), (listed, None)):
        answer = generate(shared, format=[Json(schema)], max_tokens=80, temperature=1.0)
        said = json.loads(answer.text)
        found = said["who"] if least else said[0]
        assert answer.finish_reason == "stop"
        assert found is None or set(found) == {"name", "age"}


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        {**OPEN, "additionalProperties": {"type": "integer"}},
        {**OPEN, "required": ["other"]},
        {**OPEN, "minProperties": 3},
        {"allOf": [OPEN, {"properties": {"other": {"type": "null"}}}]},
        {"oneOf": [OPEN, {"properties": {"other": {"type": "null"}}}]},
        {"properties": {"other": {"type": "null"}}, "$ref": "#/$defs/P", "$defs": {"P": OPEN}},
        {"anyOf": [{"required": ["name"]}, {"required": ["age"]}], **OPEN},
        {"enum": [{"properties": {"a": 1}}]},
        {"type": "object"},
    ],
)
def test_a_schema_that_says_something_of_other_properties_or_needs_them_is_left_as_it_is(
    schema: dict[str, Any],
) -> None:
    assert closed(schema) == schema


def test_a_marker_around_a_format_is_its_own_token(shared: TorchReplica) -> None:
    form = ["<tool_call>\n", Json(PERSON), "\n</tool_call>"]
    answer = generate(shared, format=form, max_tokens=80)
    first, last = shared.encode("<tool_call>"), shared.encode("</tool_call>")
    spoken = ids(answer)
    assert spoken[:1] == first
    assert last[0] in spoken[-2:]
    assert json.loads(answer.text.removeprefix("<tool_call>").removesuffix("</tool_call>"))["age"] < 100


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "nope"}, "Invalid type"),
        ({"type": "string", "pattern": "("}, "regex"),
        ({"$ref": "https://example.com/x"}, "not present"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused(shared: TorchReplica, schema: dict[str, Any], says: str) -> None:
    with pytest.raises(BackendError, match=f"cannot be followed exactly: .*{says}"):
        generate(shared, format=[Json(schema)])


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
def test_a_draw_is_where_the_running_sum_passes_its_number_and_never_a_token_without_probability(size: int) -> None:
    torch.manual_seed(SEED)
    places = [0.0, 2**-53, 0.1, 0.5, 0.9, 1 - 2**-53]
    logits = (4 * torch.randn(len(places), size)).double()
    logits[:, 1::3] = -math.inf
    uniforms = torch.tensor(places, dtype=torch.float64)
    one, none = torch.ones(len(places)), torch.zeros(len(places))
    plain = Settings(one, one, none, none, one)
    found = choose(logits, plain, uniforms).tokens
    steps = logits.softmax(-1).cumsum(-1)
    wanted = torch.searchsorted(steps, uniforms[:, None] * steps[:, -1:], right=True)[:, 0]
    assert found[1:-1].tolist() == wanted[1:-1].tolist()
    assert bool(torch.isfinite(logits.gather(1, found[:, None])).all())
    assert found[0] == 0
