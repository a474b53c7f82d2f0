"""A folder's chat template is rendered as transformers renders it, within bounds of time and memory."""

from collections.abc import Iterator
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from emulator.backend import BackendError
from emulator.core.limits import MIB
from ftsim.compute.models import tokenizer
from ftsim.compute.sampler.templates import ChatTemplates

CALL: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [{"a": 1}]}
SAID: list[dict[str, Any]] = [{"role": "user", "content": "Grüß <b> 'Gott'"}, CALL]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
FOREIGN = """{{ eos_token }}{%- for message in messages %}
{% if loop.index > 9 %}{% break %}{% endif %}[{{ message.role }}] {{ message.content }} {{ message | tojson }}
{%- endfor %}{{ tools | tojson(indent=2) }}{% if add_generation_prompt %}[answer {{ mood }}]{% endif %}"""
LONG = "{% for a in range(n) %}{% for b in range(n) %}{% endfor %}{% endfor %}done"
WIDE = "{{ 'ab' * n }}"


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.load(), eos_token="<|im_end|>")


@pytest.fixture(scope="module")
def foreign(words: PreTrainedTokenizerFast) -> Iterator[ChatTemplates]:
    opened = ChatTemplates(words, 10_000, seconds=0.3, memory=16 * MIB)
    yield opened
    opened.close()


def test_it_is_what_transformers_makes_of_it(words: PreTrainedTokenizerFast, foreign: ChatTemplates) -> None:
    words.chat_template = FOREIGN
    more: dict[str, Any] = {"mood": "kind", "add_generation_prompt": True, "tokenize": False}
    for tools in ([], [TOOL]):
        expected = words.apply_chat_template(SAID, tools=tools or None, **more)
        assert foreign.render(SAID, tools, {"mood": "kind"}) == expected
    assert "[answer kind]" in expected


@pytest.mark.parametrize(
    ("template", "said", "why"),
    [
        ("{{ raise_exception('no ' ~ messages[0].role) }}", SAID, "refuses these messages: no user"),
        ("{{ messages.append(1) }}", SAID, "refuses these messages: .*unsafe"),
        ("{% for %}", SAID, "refuses these messages"),
        (FOREIGN, [], "at least one message"),
        (WIDE, SAID, "makes 40000 characters of these messages, and the context could hold 10000"),
    ],
)
def test_a_refusal_is_a_sentence(
    words: PreTrainedTokenizerFast, foreign: ChatTemplates, template: str, said: list[dict[str, Any]], why: str
) -> None:
    words.chat_template = template
    with pytest.raises(BackendError, match=why):
        foreign.render(said, [], {"n": 20_000})


def test_a_template_may_not_take_much_memory(words: PreTrainedTokenizerFast, foreign: ChatTemplates) -> None:
    words.chat_template = WIDE
    with pytest.raises(BackendError, match=r"needs more memory than it may take|may take 16,777,216 bytes"):
        foreign.render(SAID, [], {"n": 16 * MIB})


def test_a_template_may_not_compute_for_long(words: PreTrainedTokenizerFast, foreign: ChatTemplates) -> None:
    """Whoever comes next finds a new process."""
    words.chat_template = LONG
    with pytest.raises(BackendError, match=r"it computes for more than 0\.3 s"):
        foreign.render(SAID, [], {"n": 9000})
    assert foreign.render(SAID, [], {"n": 10}) == "done"
