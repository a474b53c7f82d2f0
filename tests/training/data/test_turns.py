"""A model is trained to say what it is to say, after what it will have read, and nothing else."""

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from transformers import AutoTokenizer

from emulator.http.inference import conversation as served
from emulator.http.inference.message import Message
from ftsim.compute.models import tokenizer as words
from ftsim.compute.models.families import FAMILIES
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.training.data.conversation import read_messages
from ftsim.training.data.turns import Conversation, Example, Turns
from tests.properties import profiles
from tests.training.data.templates import TEMPLATES, Kind, conversations, questions_and_answers, with_template

MANY = 10_000
"""Conversations that the property sees under HYPOTHESIS_PROFILE=ci, over all templates."""
TAGS = ("<think>", "</think>", "<|im_", "<tool_call>")


def asked(history: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[int]:
    """The prompt that the chat endpoint makes of a history."""
    replica = SimpleNamespace(
        _templates=SimpleNamespace(render=lambda messages, tools, settings: rendered(messages, tokenizer)),
        _tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
        _tokens=lambda text, **settings: list(tokenizer.encode(text, **settings)),
    )
    if not history:  # which no client can send
        (text,) = tokenizer.apply_chat_template([[]], tokenize=False, add_generation_prompt=True)
        return list(tokenizer.encode(text, add_special_tokens=False))
    messages = [one.for_template(tokenizer.chat_template) for one in served.read_messages(history)]
    return TorchReplica.render_chat(replica, messages)  # type: ignore[arg-type]


def rendered(messages: Sequence[Mapping[str, Any]], tokenizer: Any) -> str:
    """The template's text, as the process renders it that computes the templates of folders."""
    said = [{key: value for key, value in one.items() if value is not None} for one in messages]
    return str(tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False))


def weighed(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages, each of the assistant's with a weight of its own, by which its tokens are known."""
    return [{**one, "weight": at + 1} if one["role"] == "assistant" else dict(one) for at, one in enumerate(messages)]


def check(examples: Sequence[Example], messages: Sequence[Mapping[str, Any]], tokenizer: Any, kind: Kind) -> None:
    """Every turn is trained once, as one run of tokens, after its own prompt, up to its end; nothing else is."""
    spoken = [at for at, one in enumerate(messages) if one["role"] == "assistant"]
    found: dict[float, tuple[list[int], list[int]]] = {}
    for example in examples:
        assert len(example.tokens) == len(example.weights)
        for weight in dict.fromkeys(weight for weight in example.weights if weight):
            places = [at for at, one in enumerate(example.weights) if one == weight]
            assert places == list(range(places[0], places[-1] + 1)), "a turn is torn"
            assert weight not in found, "a turn is trained twice"
            found[weight] = list(example.tokens[: places[0]]), list(example.tokens[places[0] : places[-1] + 1])
    assert sorted(found) == [at + 1 for at in spoken]
    for at in spoken:
        prompt, said = found[at + 1]
        assert prompt == asked(messages[:at], tokenizer)
        assert tokenizer.decode(said[-1:]) == kind.end
        text = tokenizer.decode(said[:-1])
        answer, heard = messages[at], Message("x")
        heard.add(text)
        heard.end()
        if not any(tag in str(answer) for tag in TAGS):
            whole = heard.whole()
            assert (whole["content"] or "").strip() == answer["content"].strip()
            thought = answer.get("reasoning_content", "").strip()
            assert whole.get("reasoning_content", "").strip() == (thought if kind.thinks else "")
            calls = [call["function"]["name"] for call in whole.get("tool_calls", [])]
            assert calls == [call["function"]["name"] for call in answer.get("tool_calls", []) if kind.calls]


def examples_of(messages: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[Example]:
    return Turns(tokenizer).examples(Conversation("row 1", read_messages(list(messages))))


@pytest.mark.parametrize("name", TEMPLATES)
@profiles.sized(dev=60, ci=MANY // len(TEMPLATES))
@given(data=st.data())
def test_every_turn_is_trained_once_in_the_context_it_has_when_served(tokenizer: Any, name: str, data: Any) -> None:
    kind = TEMPLATES[name]
    made = with_template(tokenizer, name)
    messages = weighed(data.draw(conversations(kind)))
    check(examples_of(messages, made), messages, made, kind)


def searching(messages: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[Example]:
    """A mutant that looks for what was said in the text of the whole conversation."""
    text = tokenizer.apply_chat_template(list(messages), tokenize=False)
    tokens: list[int] = []
    weights: list[float] = []
    done = 0
    for at, one in enumerate(messages):
        if one["role"] == "assistant":
            begins = text.find(one["content"].strip(), done)
            ends = text.find("<|im_end|>", begins) + len("<|im_end|>")
            for piece, weight in ((text[done:begins], 0.0), (text[begins:ends], at + 1.0)):
                ids = tokenizer.encode(piece, add_special_tokens=False)
                tokens += ids
                weights += [weight] * len(ids)
            done = ends
    return [Example(tokens, weights)]


def ended_by_eos(messages: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[Example]:
    """A mutant that ends every turn with eos_token, whatever the template writes."""
    found = []
    for example in examples_of(messages, tokenizer):
        ends = [at for at, weight in enumerate(example.weights) if weight and [*example.weights, 0][at + 1] != weight]
        tokens = [tokenizer.eos_token_id if at in ends else token for at, token in enumerate(example.tokens)]
        found.append(Example(tokens, example.weights))
    return found


def whole_conversation(messages: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[Example]:
    """A mutant that marks the turns in the rendering of the whole conversation."""
    every = list(messages)
    text = tokenizer.apply_chat_template(every, tokenize=False)
    tokens: list[int] = []
    weights: list[float] = []
    before = ""
    for at in range(len(every)):
        after = tokenizer.apply_chat_template(every[: at + 1], tokenize=False)
        ids = tokenizer.encode(text[len(before) : len(after)], add_special_tokens=False)
        tokens += ids
        weights += [at + 1.0 if every[at]["role"] == "assistant" else 0.0] * len(ids)
        before = after
    return [Example(tokens, weights)]


@pytest.mark.parametrize("mutant", [searching, ended_by_eos, whole_conversation])
def test_mutants_are_caught(tokenizer: Any, mutant: Callable[..., list[Example]]) -> None:
    user, answer = {"role": "user", "content": "Is the gate open?"}, {"role": "assistant", "content": "Yes."}
    messages = weighed([user, answer, {"role": "user", "content": "Yes."}, answer | {"reasoning_content": "Hm."}])
    caught = []
    for name, kind in TEMPLATES.items():
        made = with_template(tokenizer, name)
        check(examples_of(messages, made), messages, made, kind)
        try:
            check(mutant(messages, made), messages, made, kind)
        except AssertionError:
            caught.append(name)
    assert caught
    assert any(found_out(mutant, with_template(tokenizer, name), kind) for name, kind in TEMPLATES.items())


def found_out(mutant: Callable[..., list[Example]], tokenizer: Any, kind: Kind) -> bool:
    """Tell whether the property itself finds what is wrong with a mutant."""

    @settings(profiles.PROFILES["mutants"])
    @given(conversations(kind))
    def right(messages: list[dict[str, Any]]) -> None:
        weighted = weighed(messages)
        check(mutant(weighted, tokenizer), weighted, tokenizer, kind)

    try:
        right()
    except AssertionError:
        return True
    return False


def test_turns_stay_in_one_example_as_long_as_they_extend_each_other(tokenizer: Any) -> None:
    messages = [{"role": role, "content": "fog"} for _ in range(3) for role in ("user", "assistant")]
    assert len(examples_of(messages, with_template(tokenizer, "turns that extend each other"))) == 1
    assert len(examples_of(messages, tokenizer)) == 3


def test_a_tokenizer_that_looks_at_the_pieces_beside_one_gets_every_text_whole(tokenizer: Any) -> None:
    class Shifting:
        """Encodes a text with a token of its own before it, as some do with a space."""

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            return [5, *tokenizer.encode(text, add_special_tokens=False)]

    messages = weighed([{"role": "user", "content": "Gate?"}, {"role": "assistant", "content": "Open."}])
    (example,) = Turns(Shifting()).examples(Conversation("row 1", read_messages(messages)))
    assert example.tokens == [
        5,
        *tokenizer.encode("<|im_start|>user\nGate?<|im_end|>\n<|im_start|>assistant\n"),
        *tokenizer.encode("<think>\n\n</think>\n\nOpen.<|im_end|>"),
    ]


@pytest.mark.parametrize("turns", [100, 400])
@pytest.mark.parametrize("name", ["ftsim's own", "turns that extend each other"])
def test_no_more_is_encoded_than_twice_what_is_trained_on(tokenizer: Any, name: str, turns: int) -> None:
    roles = ("user", "assistant") * (turns // 2)
    row = Conversation(
        "row 1", read_messages([{"role": role, "content": f"fog {at}"} for at, role in enumerate(roles)])
    )
    made = Turns(with_template(tokenizer, name))
    examples = made.examples(row)
    assert made.encoded <= 2 * sum(len(one.tokens) for one in examples)
    assert made.encoded <= 3 * max(len(one.tokens) for one in examples)  # linear in the conversation


def test_a_turn_that_is_not_rendered_after_its_prompt_is_refused_by_its_place(tokenizer: Any) -> None:
    row = Conversation(
        "f.jsonl, line 3",
        read_messages([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "thinking": "c"}]),
        settings={"enable_thinking": False},
    )
    with pytest.raises(
        ValueError, match=r"f\.jsonl, line 3: the chat template does not render message 1 after its own"
    ):
        Turns(tokenizer).examples(row)


def test_a_template_that_leaves_the_tools_out_is_told_although_a_message_names_one(tokenizer: Any) -> None:
    row = Conversation(
        "f.jsonl, line 3",
        read_messages([{"role": "user", "content": "Use tide."}, {"role": "assistant", "content": "b"}]),
        tools=[{"type": "function", "function": {"name": "tide"}}],
    )
    turns = Turns(with_template(tokenizer, "turns that extend each other"))
    for read in (turns.examples, turns.prompt_tokens):
        with pytest.raises(ValueError, match=r"^f\.jsonl, line 3: .* leaves out the row's tools"):
            read(row)


@functools.cache
def spoken(name: str) -> Any:
    """The tokenizer of a family."""
    with tempfile.TemporaryDirectory() as place:
        words.write_folder(Path(place), 4096, FAMILIES[name])
        return AutoTokenizer.from_pretrained(place)


@pytest.mark.parametrize("name", FAMILIES)
@profiles.sized(dev=15, ci=200)
@given(data=st.data())
def test_every_familys_template_is_read_turn_by_turn(name: str, data: Any) -> None:
    made = spoken(name)
    plain = "<think>" not in FAMILIES[name].tokens or name in ("qwen3-instruct", "kimi-k2-instruct", "minimax")
    talk = data.draw(questions_and_answers(thinks=not plain))
    messages = weighed(talk)
    found: dict[float, tuple[list[int], list[int]]] = {}
    for example in examples_of(messages, made):
        for weight in {weight for weight in example.weights if weight}:
            places = [at for at, one in enumerate(example.weights) if one == weight]
            assert places == list(range(places[0], places[-1] + 1))
            found[weight] = list(example.tokens[: places[0]]), list(example.tokens[places[0] : places[-1] + 1])
    assert sorted(found) == [at + 1.0 for at, one in enumerate(messages) if one["role"] == "assistant"]
    for at, one in enumerate(messages):
        if one["role"] == "assistant":
            prompt, said = found[at + 1.0]
            prompts = [
                made.apply_chat_template(talk[:at], add_generation_prompt=True, return_dict=False, **switch)
                for switch in ({}, {"enable_thinking": False})
            ]
            assert prompt in prompts
            assert one["content"].strip() in made.decode(said)
            if "<|user|>" not in FAMILIES[name].stops:  # which is written only when the user speaks next
                assert said[-1] in made.convert_tokens_to_ids(list(FAMILIES[name].ends))
