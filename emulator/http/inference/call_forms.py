"""Forms of tool calls: how each family writes them and its chat template renders them."""

from dataclasses import dataclass

from emulator.http.inference import calls
from emulator.http.inference.call_text import OneByOne, Write, as_json


@dataclass(frozen=True)
class CallForm:
    """The form of a family's calls. `starts` begin one at the start of an answer alone."""

    begins: tuple[str, ...]
    read: calls.Read
    write: Write
    starts: tuple[str, ...] = ()
    needs_tools: bool = False
    """Whether the beginning is such plain text that it begins a call only where there are tools."""


def form_of(template: str) -> CallForm:
    """The form that a chat template renders."""
    return next((form for signs, form in _FAMILIES if all(sign in template for sign in signs)), JSON)


def _one_key_a_line(newline: str) -> OneByOne:
    """Keys and values in tags of their own, with or without a newline between."""
    return OneByOne(
        "<tool_call>{name}",
        f"{newline}</tool_call>",
        f"{newline}<arg_key>{{key}}</arg_key>{newline}<arg_value>",
        "</arg_value>",
        ("</arg_value>", "</tool_call>"),
    )


JSON = CallForm(
    ("<tool_call>",),
    calls.until("</tool_call>", calls.json_call),
    as_json('<tool_call>\n{"name": "{name}", "arguments": ', "}\n</tool_call>"),
)
"""`<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>`: Qwen3's, and that of unknown families."""
_DSML = "｜DSML｜ "
_HARMONY = "<|channel|>commentary to=functions."
_FAMILIES: tuple[tuple[tuple[str, ...], CallForm], ...] = (
    (
        ("｜DSML｜",),
        CallForm(
            (f"<{_DSML}calls>",),
            calls.until(f"</{_DSML}calls>", calls.invokes(_DSML)),
            OneByOne(
                f'<{_DSML}calls>\n<{_DSML}invoke name="{{name}}">',
                f"\n</{_DSML}invoke>\n</{_DSML}calls>",
                f'\n<{_DSML}parameter name="{{key}}" string="{{is_text}}">',
                f"</{_DSML}parameter>",
                (f"</{_DSML}",),
            ),
        ),
    ),
    (
        ("<｜tool▁calls▁begin｜>",),
        CallForm(
            ("<｜tool▁calls▁begin｜>",),
            calls.until("<｜tool▁calls▁end｜>", calls.deepseek),
            as_json(
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{name}<｜tool▁sep｜>",
                "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            ),
        ),
    ),
    (
        ("<|tool_calls_section_begin|>",),
        CallForm(
            ("<|tool_calls_section_begin|>",),
            calls.until("<|tool_calls_section_end|>", calls.kimi),
            as_json(
                "<|tool_calls_section_begin|><|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>",
                "<|tool_call_end|><|tool_calls_section_end|>",
            ),
        ),
    ),
    (
        ("<minimax:tool_call>",),
        CallForm(
            ("<minimax:tool_call>",),
            calls.until("</minimax:tool_call>", calls.invokes("")),
            OneByOne(
                '<minimax:tool_call>\n<invoke name="{name}">\n',
                "</invoke>\n</minimax:tool_call>",
                '<parameter name="{key}">',
                "</parameter>\n",
                ("</parameter>", "</invoke>", "</minimax:tool_call>"),
            ),
        ),
    ),
    (
        ("<|tool_call>call:",),
        CallForm(
            ("<|tool_call>",),
            calls.until("<tool_call|>", calls.gemma),
            as_json("<|tool_call>call:{name}", "<tool_call|>"),
        ),
    ),
    (("[TOOL_CALLS]",), CallForm(("[TOOL_CALLS]",), calls.mistral, as_json("[TOOL_CALLS]{name}[ARGS]", ""))),
    (
        ("<|channel|>", "functions."),
        CallForm(
            ("<|end|><|start|>assistant to=functions.", "<|start|>assistant to=functions.", _HARMONY),
            calls.harmony,
            as_json(" to=functions.{name}<|channel|>commentary <|constrain|>json<|message|>", "<|call|>"),
            starts=(" to=functions.", "to=functions."),
        ),
    ),
    (("</arg_key>\\n",), CallForm(("<tool_call>",), calls.until("</tool_call>", calls.keys), _one_key_a_line("\n"))),
    (("<arg_key>",), CallForm(("<tool_call>",), calls.until("</tool_call>", calls.keys), _one_key_a_line(""))),
    (
        ("<function=",),
        CallForm(
            ("<tool_call>",),
            calls.until("</tool_call>", calls.functions),
            OneByOne(
                "<tool_call>\n<function={name}>\n",
                "</function>\n</tool_call>",
                "<parameter={key}>\n",
                "\n</parameter>\n",
                ("</parameter>", "</tool_call>"),
            ),
        ),
    ),
    (
        ("<|start_header_id|>", '"parameters": '),
        CallForm(
            ("<|python_tag|>" + calls.LLAMA, "\n" + calls.LLAMA),
            calls.llama,
            as_json('{"name": "{name}", "parameters": ', "}"),
            starts=(calls.LLAMA,),
            needs_tools=True,
        ),
    ),
)
"""Forms by what stands in the chat template of a family; the first that fits counts."""
