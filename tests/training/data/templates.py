"""Chat templates of the kinds in use, for ftsim's tokenizer, and conversations to render with them."""

import copy
import functools
from typing import Any, NamedTuple

from hypothesis import strategies as st

_TURN = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
_CALL = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
_CALLS = (
    '{% for c in m.tool_calls or [] %}{{ \'<tool_call>\n{"name": "\' + c.function.name + \'", "arguments": \' }}'
    "{{ c.function.arguments | tojson }}{{ '}\n</tool_call>' }}{% endfor %}"
)


class Kind(NamedTuple):
    """A template; `end` is what it writes after a turn."""

    template: str
    """None is ftsim's own."""
    end: str = "<|im_end|>"
    thinks: bool = False
    calls: bool = False


TEMPLATES = {
    "ftsim's own": Kind("", thinks=True, calls=True),
    "turns that extend each other": Kind("{% for m in messages %}" + _TURN + "{% endfor %}" + _CALL),
    "thoughts of the last turn alone": Kind(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' and loop.last and m.reasoning_content %}"
        "{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}{{ m.content }}"
        + _CALLS
        + "{{ '<|im_end|>\n' }}{% endfor %}"
        + _CALL,
        thinks=True,
        calls=True,
    ),
    "system turns merged": Kind(
        "{% set system = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | join('\n') %}"
        "{% if system %}{{ '<|im_start|>system\n' + system + '<|im_end|>\n' }}{% endif %}"
        "{% for m in messages if m.role != 'system' %}" + _TURN + "{% endfor %}" + _CALL,
    ),
    "trimmed": Kind(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}{% endfor %}"
        + _CALL,
    ),
    "begun by a token": Kind("{{ '<|fim_pad|>' }}{% for m in messages %}" + _TURN + "{% endfor %}" + _CALL),
    "ended by another token": Kind(
        "{% for m in messages %}{{ '<|box_start|>' + m.role + '\n\n' + m.content + '<|box_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|box_start|>assistant\n\n' }}{% endif %}",
        "<|box_end|>",
    ),
    "a space before what is said": Kind(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '<|quad_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}",
        "<|quad_end|>",
    ),
}


def with_template(tokenizer: Any, name: str) -> Any:
    """The tokenizer with this template."""
    return _made(tokenizer, name)


@functools.cache
def _made(tokenizer: Any, name: str) -> Any:
    made = copy.deepcopy(tokenizer)
    made.chat_template = TEMPLATES[name].template or tokenizer.chat_template
    return made


words = st.lists(
    st.sampled_from(["fog", " at", " noon", "\n", " ", "é", "港", "7", '{"a"', "assistant", "user\n", "\n\n"]),
    max_size=6,
).map("".join)
tricky = st.one_of(words, st.sampled_from(["<|im_end|>", "<|im_start|>assistant\n", "</think>", "<think>x</think>y"]))


def _assistant(kind: Kind) -> st.SearchStrategy[dict[str, Any]]:
    more: dict[str, st.SearchStrategy[Any]] = {}
    if kind.thinks:
        more["reasoning_content"] = words
    if kind.calls:
        call = st.fixed_dictionaries({"name": st.just("tide"), "arguments": st.dictionaries(st.just("hour"), words)})
        more["tool_calls"] = st.lists(st.fixed_dictionaries({"function": call}), max_size=2)
    return st.fixed_dictionaries({"role": st.just("assistant"), "content": tricky}, optional=more)


def conversations(kind: Kind) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Conversations in any order of speakers, with something of the assistant's."""
    others = st.fixed_dictionaries({"role": st.sampled_from(["user", "user", "system", "tool"]), "content": tricky})
    turn = st.one_of(others, _assistant(kind))
    return st.lists(turn, min_size=1, max_size=6).filter(lambda turns: any(one["role"] == "assistant" for one in turns))


def questions_and_answers(*, thinks: bool) -> st.SearchStrategy[list[dict[str, Any]]]:
    """A user and an assistant in turn, whom a system message may precede; the last answer may have a thought."""
    text = words.map(lambda said: f"fog{said}at noon")

    def talk(said: tuple[str, list[tuple[str, str]], str]) -> list[dict[str, Any]]:
        system, pairs, thought = said
        turns = [{"role": "system", "content": system}] if system else []
        for asked, answered in pairs:
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        if thinks and thought:
            turns[-1]["reasoning_content"] = thought
        return turns

    pairs = st.lists(st.tuples(text, text), min_size=1, max_size=3)
    return st.tuples(st.one_of(st.just(""), text), pairs, st.one_of(st.just(""), text)).map(talk)
