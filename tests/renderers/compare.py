"""Says in which way what a renderer builds differs from what the chat template renders."""

import json
import re
from typing import Any

from tinker_cookbook.renderers import gpt_oss, kimi_k2

from tests.renderers.cases import VARIABLES, Case, Message

try:
    from tinker_cookbook.renderers import deepseek_v4_1, qwen3_8
except ImportError:  # of an earlier release
    EFFORTS: list[str] = []
    BUDGET = None
else:
    EFFORTS = [text for text in qwen3_8.REASONING_EFFORT_INSTRUCTIONS.values() if text]
    first, last = deepseek_v4_1._EFFORT_TEMPLATE.split("{budget}")
    BUDGET = re.compile(re.escape(first) + r"(\d+)" + re.escape(last))

OURS = (
    "Think at length: weigh the alternatives, and check the answer before it is given.",
    "Think for a moment only, then answer.",
)
CHANNELS = "Reasoning: medium\n\n# Channels: analysis, commentary, final"


def rendered(renderer: Any, case: Case) -> list[int]:
    """Token ids of the prompt or of the example."""
    messages = [dict(message) for message in case.messages]
    if case.prompt:
        return list(renderer.build_generation_prompt(messages).to_ints())
    return list(renderer.build_supervised_example(messages)[0].to_ints())


def templated(renderer: Any, name: str, tokenizer: Any, case: Case) -> list[int]:
    """Token ids that `apply_chat_template` gives to the same messages."""
    messages = [_for_template(renderer.to_openai_message(dict(message))) for message in case.messages]
    ids = tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=case.prompt, return_dict=False, **VARIABLES.get(name, {})
    )
    return list(ids)


def _for_template(message: Message) -> Message:
    """A message with objects for arguments, as templates take them."""
    for call in message.get("tool_calls", []):
        if isinstance(call["function"]["arguments"], str):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return message


def difference(tokenizer: Any, built: list[int], template: list[int]) -> str:
    """Name the difference of the two, "" when there is none.

    A newline that the template writes after the last turn is no part of it. `end` is a token that only the renderer
    writes, last; `words` a sentence for which the template has its own; `split` the same text in other tokens; `text`
    anything else.
    """
    found = []
    newline = tokenizer.encode("\n", add_special_tokens=False)
    template = template[:-1] if template[-1:] == newline and built[-1:] != newline else template
    if built != template and built[:-1] == template:
        return "end"
    if built != template and _our_words(text := tokenizer.decode(built)) != text:
        found.append("words")
        built = tokenizer.encode(_our_words(text), add_special_tokens=False)
        template = tokenizer.encode(tokenizer.decode(template), add_special_tokens=False)
    if built != template:
        same = tokenizer.decode(built) == tokenizer.decode(template)
        found.append("split" if same else "text")
    return " + ".join(found)


def _our_words(text: str) -> str:
    """The text with the cookbook's sentences put in our templates' words."""
    for theirs, ours in zip(EFFORTS, OURS, strict=False):
        text = text.replace(theirs, ours)
    if BUDGET is not None:
        text = BUDGET.sub(r"Effort of the reasoning: \1 of 100\n\n", text)
    text = text.replace(kimi_k2.KimiK2Renderer.DEFAULT_SYSTEM_PROMPT, "You are a helpful assistant.")
    date = r"\d{4}-\d\d-\d\d"
    about = re.escape(gpt_oss.GptOssRenderer.system_prompt_content)
    about = about.replace(re.escape("{current_date}"), date).replace(re.escape("{reasoning_effort}"), "medium")
    return re.sub(about, CHANNELS, text)
