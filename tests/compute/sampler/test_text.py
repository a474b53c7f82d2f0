"""Text that leaves while it grows: whole characters, nothing of a stop string, in the end all of it (WIRE 3.1)."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from emulator.backend import GeneratedToken, GenerateRequest
from ftsim.compute.models import tokenizer as shipped
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.compute.sampler.text import UNFINISHED, IncrementalText

TOKENIZER = shipped.load()
END = shipped.special_id("<|im_end|>")
SIZE = TOKENIZER.get_vocab_size()
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20) | st.text("aé€😀�", max_size=12)


def decode(tokens: Sequence[int]) -> str:
    return str(TOKENIZER.decode(list(tokens), skip_special_tokens=False))


def encode(text: str) -> list[int]:
    return list(TOKENIZER.encode(text).ids)


def spoken(tokens: Sequence[int], stops: Sequence[str] = ()) -> list[str]:
    speech = IncrementalText(decode, stops, {END})
    return [speech.add(token) for token in tokens]


@given(TEXTS)
def test_no_character_is_split(text: str) -> None:
    tokens = encode(text)
    said = spoken(tokens)
    assert all(UNFINISHED not in piece for piece in said) or UNFINISHED in text
    rest = text.removeprefix("".join(said))
    assert text == "".join(said) + rest
    assert rest in ("", UNFINISHED)


def test_a_character_of_several_tokens_comes_with_its_last_one() -> None:
    tokens = encode("a😀b")
    assert len(tokens) > 4, "the shipped vocabulary is expected to spell an emoji in bytes"
    assert [piece for piece in spoken(tokens) if piece] == ["a", "😀", "b"]


@settings(max_examples=300)
@given(st.lists(st.integers(0, SIZE - 1), max_size=40))
def test_what_was_said_is_a_beginning_of_what_the_tokens_mean_whatever_they_are(tokens: list[int]) -> None:
    said = "".join(spoken(tokens))
    spell = tokens[:-1] if tokens and tokens[-1] == END else tokens
    assert decode(spell).startswith(said)
    assert len(decode(tokens)) - len(said) <= 1 or END in tokens[-2:]


@settings(max_examples=300)
@given(TEXTS | st.text("abc", max_size=30), st.lists(st.text("abcé", min_size=1, max_size=4), min_size=1, max_size=3))
def test_nothing_of_a_stop_string_is_said(text: str, stops: list[str]) -> None:
    tokens = encode(text)
    ends = (at for at in range(1, len(tokens)) if any(stop in decode(tokens[:at]) for stop in stops))
    tokens = tokens[: next(ends, len(tokens))]  # the token that completes a stop string is the last
    text = decode(tokens)
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    whole = text[: min(found, default=len(text))]
    said = "".join(spoken(tokens, stops))
    if found and UNFINISHED not in text:
        assert said == whole
    assert whole.startswith(said)
    assert len(whole) - len(said) <= max(map(len, stops)) or UNFINISHED in text


def test_the_beginning_of_a_stop_string_waits_until_it_is_none() -> None:
    assert spoken(encode("a")) == ["a"]
    said = spoken([encode(letter)[0] for letter in "xabxabcx"], ["abc"])
    assert said == ["x", "", "", "abx", "", "", "", ""]


def test_the_end_of_a_turn_is_text_only_if_something_follows() -> None:
    letter = encode("a")[0]
    assert spoken([letter, END]) == ["a", ""]
    assert spoken([letter, END, letter]) == ["a", "", "<|im_end|>a"]


@pytest.mark.parametrize("temperature", [0.0, 1.8])
@pytest.mark.parametrize("stop", [(), ("e",), ("the", " a", "\n")])
def test_a_replica_tells_its_tokens_in_order_and_text_that_begins_the_result(
    shared: TorchReplica, temperature: float, stop: tuple[str, ...]
) -> None:
    told: list[tuple[list[GeneratedToken], str]] = []
    request = GenerateRequest(
        shared.encode("Nora said"),
        max_tokens=60,
        temperature=temperature,
        seed=7,
        stop=stop,
        echo_last=1,
        top_logprobs=2,
        ignore_eos=True,
    )
    result = shared.generate(request, lambda tokens, text: told.append((list(tokens), text))).result(60)
    (echoed, text), *drawn = told
    assert echoed == list(result.prompt_tokens)
    assert text == shared.decode(request.prompt[-1:])
    assert [token for tokens, _ in drawn for token in tokens] == list(result.tokens)
    assert result.text.startswith("".join(text for _, text in drawn))
    quiet = shared.generate(request).result(60)
    assert (quiet.tokens, quiet.text, quiet.finish_reason) == (result.tokens, result.text, result.finish_reason)
