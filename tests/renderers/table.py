"""The differences between the cookbook's renderers and the chat templates: each one named, with its release.

`python -m tests.renderers.table` writes them into docs/tokenizers.md.
"""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tokenizers.md"
HEADING = "## Where renderers of tinker-cookbook differ\n"
RELEASES = ("0.4.3", "0.6.1")

PLAIN = ("answer", "answer after a system message", "second answer")
THOUGHTFUL = ("answer with a thought", "second answer, with thoughts")
CALLS = ("call", "two calls after words")
PROMPTS = ("prompt", "prompt after a system message", "prompt of a third turn", "prompt after a thought")
RESULTS = ("prompt after a result", "answer after two results", "answer after a thoughtful call")
NAMES = (*PROMPTS, *PLAIN, *THOUGHTFUL, *CALLS, *RESULTS)
ANSWERS = tuple(name for name in NAMES if not name.startswith("prompt"))
NO_SYSTEM = tuple(name for name in NAMES if name not in (*PROMPTS[1:3], PLAIN[1]))
BARE_CALL = ("call", "prompt after a result", "answer after a thoughtful call")
REFUSED = (*THOUGHTFUL, "answer after a thoughtful call")

HOW = {
    "words": "a sentence of the renderer stands where the template has one of our words; every other token is equal",
    "split": "the same text, one token written as two",
    "end": "one more token at the end",
    "text": "other text",
    "refuses": "the renderer refuses the conversation",
}


@dataclass(frozen=True)
class Row:
    """One difference: `renderers` is a pattern of whole names, `how` one of `HOW`."""

    releases: tuple[str, ...]
    renderers: str
    cases: tuple[str, ...]
    how: str
    why: str


BOTH, OLD, NEW = RELEASES, RELEASES[:1], RELEASES[1:]
ROWS = (
    Row(
        BOTH, "llama3", ("prompt after a thought", *REFUSED), "refuses",
        "it renders text alone; the template leaves thoughts out",
    ),
    Row(
        BOTH, "llama3", (*CALLS, *RESULTS[:2]), "text",
        "it leaves calls out and writes the role tool; the template writes calls as JSON and the role ipython",
    ),
    Row(
        BOTH, "gpt_oss_no_sysprompt", NAMES, "text",
        "it writes no system message and keeps the thoughts of earlier turns; the template always writes one",
    ),
    Row(
        BOTH, "gpt_oss_medium_reasoning", ("prompt after a thought", "second answer, with thoughts"), "words + text",
        "it keeps the thoughts of earlier turns; the template shows them only after the last question",
    ),
    Row(BOTH, "gpt_oss_medium_reasoning", NAMES, "words", "the system message, which also has today's date there"),
    Row(
        BOTH, "deepseekv3|deepseekv3_thinking", BARE_CALL, "text",
        "it ends a call without words by no token, and shows the thoughts around calls",
    ),
    Row(
        OLD, "deepseekv3_thinking", (*PLAIN, "two calls after words"), "text",
        "its answer without a thought has no empty one, though its prompt opens one",
    ),
    Row(
        NEW, "deepseekv4_1|deepseekv4_1_(low|max)_reasoning|deepseekv4_1_preserve_thinking", NAMES, "words",
        "the sentence about the effort of reasoning",
    ),
    Row(NEW, "kimi_k2[56]_disable_thinking", REFUSED, "refuses", "thinking is off, and the answer thinks"),
    Row(BOTH, "kimi_k2.*", NO_SYSTEM, "words", "the system message that is written where there is none"),
    Row(
        NEW, "(qwen3|qwen3_5|qwen3_8|nemotron3|nemotron3_ultra)_disable_thinking", REFUSED, "refuses",
        "thinking is off, and the answer thinks",
    ),
    Row(
        OLD, "nemotron3.*", ("answer after two results",), "text",
        "it writes a turn for each result; the template one for both",
    ),
    Row(
        BOTH, "qwen3|qwen3_disable_thinking|qwen3_instruct|qwen3_vl_instruct", ("answer after two results",), "text",
        "it writes a turn for each result; the template one for both",
    ),
    Row(
        OLD, "qwen3_5|qwen3_5_disable_thinking", ("answer after two results",), "text",
        "it writes a turn for each result; the template one for both",
    ),
    Row(
        OLD, "qwen3", (*PLAIN, *THOUGHTFUL, *CALLS, *RESULTS), "text",
        "it writes no empty thought, no newlines around a thought, and one before a call",
    ),
    Row(
        OLD, "qwen3_disable_thinking", (*THOUGHTFUL, *BARE_CALL), "text",
        "it writes the thought although thinking is off, no newlines around it, and one before a call",
    ),
    Row(
        OLD, "qwen3_instruct|qwen3_5|qwen3_5_disable_thinking", BARE_CALL, "text",
        "it writes a newline before a call without words, and leaves out the thought before a call",
    ),
    Row(
        BOTH, "qwen3_vl_instruct", BARE_CALL, "text",
        "it writes a newline before a call without words",
    ),
    Row(
        NEW, "qwen3|qwen3_5", ("answer after a thoughtful call",), "text",
        "it leaves out the thought before a call, which the template keeps after the last question",
    ),
    Row(
        NEW, "qwen3_5|qwen3_5_preserve_thinking|qwen3_8_medium_reasoning",
        (*PLAIN, *CALLS, "answer after two results"), "split",
        "the example begins with the tokens of the prompt, so the two newlines of an empty thought are two tokens",
    ),
    Row(NEW, "qwen3_8_(xhigh|low)_reasoning", NAMES, "words", "the sentence about the effort of reasoning"),
    Row(
        NEW, "glm5_3_(max|high|low)_reasoning", ANSWERS, "end",
        "it ends an answer with the marker of who speaks next; the template writes that with the next message",
    ),
)  # fmt: skip
"""The first row that fits counts; what no row names is equal, token by token."""


def expected(release: str, renderer: str, case: str) -> str:
    """Look up the difference of this renderer of this release from the template in this case, "" for none."""
    for row in ROWS:
        if release in row.releases and case in row.cases and re.fullmatch(row.renderers, renderer):
            return row.how
    return ""


def section() -> str:
    """The table as the page shows it."""
    lines = [HEADING, "| release | renderer | conversation | how | why |", "|---|---|---|---|---|"]
    for row in ROWS:
        names = row.renderers.replace("|", "\\|")
        cases = "all" if row.cases == NAMES else "every answer" if row.cases == ANSWERS else "; ".join(row.cases)
        lines.append(f"| {', '.join(row.releases)} | `{names}` | {cases} | {row.how} | {row.why} |")
    lines += ["", *(f"*{how}*: {what}." for how, what in HOW.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    before, _, _ = PAGE.read_text("utf-8").partition(HEADING)
    PAGE.write_text(before + section(), encoding="utf-8")


if __name__ == "__main__":
    main()
