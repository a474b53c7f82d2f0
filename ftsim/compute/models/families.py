"""Tokenizers by family: which markers a model's tokenizer has as single tokens, and which of them begin, end and stop.

All families share one vocabulary; a family's markers fill its last 26 places, in the order written here. Three places
have the same meaning everywhere: the first ends a text, the second begins a turn, the third ends one. Ids never change:
a marker that comes later takes a place that is still unused. Names of markers are those of the families' own
tokenizers; the chat templates, in `ftsim/compute/assets/templates`, have their structure and words of our own.
"""

import re
from dataclasses import dataclass, field, replace
from functools import cache

from ftsim.compute.assets import FOLDER
from ftsim.compute.models import markers

PLACES = len(markers.SPECIAL_TOKENS) + len(markers.MARKUP_TOKENS)


@dataclass(frozen=True)
class Family:
    """One family's tokenizer. `special` tokens are skipped when a text is read without them, `markup` is visible."""

    name: str
    special: tuple[str, ...]
    markup: tuple[str, ...] = ()
    eos: str = ""
    """"" for the third special token."""
    bos: str | None = None
    pad: str = ""
    """"" for the first special token."""
    stops: tuple[str, ...] = ()
    """What ends an answer besides `eos`."""
    begins: tuple[str, ...] = ()
    """What `encode` puts before a text unless it is told not to."""
    template: str = ""
    """File of the chat template without its suffix; "" for the family's name."""
    style: str = ""
    """A variable of the template: what differs between families that share one."""
    image: str = ""
    """What stands in a prompt for an image; "" for a family that sees none."""
    tokens: tuple[str, ...] = field(init=False)
    """Every marker in the order of the ids."""

    def __post_init__(self) -> None:
        named = self.special + self.markup
        if len(named) > PLACES or len(set(named)) < len(named):
            raise ValueError(f"{self.name} has {len(named)} markers for {PLACES} places, or one of them twice")
        rest = tuple(f"<|unused_{at}|>" for at in range(PLACES - len(named)))
        object.__setattr__(self, "tokens", self.special + rest + self.markup)

    @property
    def end(self) -> str:
        """The token that ends a turn and a text: the tokenizer's `eos_token`."""
        return self.eos or self.special[2]

    @property
    def padding(self) -> str:
        return self.pad or self.special[0]

    @property
    def rows(self) -> str:
        """Under which name the rows of its markers are learned: families with the same markers share them.

        Families of Qwen3's markers have their own where the prompt opens a thought, which must be closed.
        """
        first = next(one for one in FAMILIES.values() if one.tokens == self.tokens)
        opens = first.name == "qwen3" and (self.style == "thinking" or self.name.startswith("qwen3."))
        return "qwen3.5" if opens else first.name

    @property
    def ends(self) -> tuple[str, ...]:
        """Every token at which an answer ends."""
        return tuple(dict.fromkeys((self.end, *self.stops)))


_QWEN3 = Family("qwen3", *markers.QWEN, stops=("<|endoftext|>",), image=markers.QWEN_IMAGE)
_DEEPSEEK = Family(
    "deepseek-v3",
    markers.DEEPSEEK,
    markers.DEEPSEEK_TOOLS,
    bos="<｜begin▁of▁sentence｜>",
    begins=("<｜begin▁of▁sentence｜>",),
    template="deepseek-v3",
)
_KIMI = Family(
    "kimi-k2", markers.KIMI, markers.KIMI_TOOLS, bos="[BOS]", pad="[PAD]", stops=("[EOS]",), template="kimi-k2"
)
_GLM = Family(
    "glm-5",
    markers.GLM,
    markers.GLM_TOOLS,
    eos="<|endoftext|>",
    stops=("<|user|>", "<|observation|>"),
    begins=("[gMASK]", "<sop>"),
    template="glm-5",
)
_NEMOTRON = Family(
    "nemotron3",
    markers.NEMOTRON,
    (*markers.CALLS, *markers.THINK),
    bos="<s>",
    stops=("</s>",),
    template="nemotron3",
    image="<img><image></img>",
)
_LLAMA3 = Family(
    "llama3",
    markers.LLAMA3,
    bos="<|begin_of_text|>",
    pad="<|finetune_right_pad_id|>",
    stops=("<|eom_id|>", "<|end_of_text|>"),
    begins=("<|begin_of_text|>",),
)
_GEMMA3 = Family(
    "gemma3",
    markers.GEMMA3,
    bos="<bos>",
    pad="<pad>",
    eos="<eos>",
    stops=("<end_of_turn>",),
    begins=("<bos>",),
    image="<start_of_image>",
)
_GEMMA4 = replace(
    _GEMMA3,
    name="gemma4",
    special=markers.GEMMA4,
    markup=markers.GEMMA4_TOOLS,
    stops=("<turn|>",),
    image="<|image|>",
)
_MINIMAX = Family(
    "minimax",
    markers.MINIMAX,
    ("<minimax:tool_call>", "</minimax:tool_call>", *markers.THINK),
    bos="]~b[",
    image="]<]start of image[>[]<]image[>[]<]end of image[>[",
)
_ALL = (
    _QWEN3,
    replace(_QWEN3, name="qwen3-instruct", template="qwen3-plain"),
    replace(_QWEN3, name="qwen3-thinking", template="qwen3-plain", style="thinking"),
    replace(_QWEN3, name="qwen3.5"),
    replace(_QWEN3, name="qwen3.8", template="qwen3.5", style="effort"),
    _DEEPSEEK,
    replace(_DEEPSEEK, name="deepseek-r1", style="thinks"),
    replace(_DEEPSEEK, name="deepseek-v3.1", style="may think"),
    replace(_DEEPSEEK, name="deepseek-v4", template="deepseek-v4"),
    replace(_KIMI, name="kimi-k2-instruct", style="plain"),
    _KIMI,
    replace(_KIMI, name="kimi-k2.5", style="opens", image=markers.KIMI_IMAGE),
    replace(_GLM, name="glm-4", template="glm-4"),
    _GLM,
    replace(_GLM, name="glm-5.3", style="effort"),
    _NEMOTRON,
    replace(_NEMOTRON, name="nemotron3-ultra", style="ultra"),
    _LLAMA3,
    _GEMMA3,
    _GEMMA4,
    Family("gpt-oss", markers.HARMONY, bos="<|startoftext|>", stops=("<|endoftext|>", "<|call|>")),
    Family("mistral", markers.MISTRAL, bos="<s>", begins=("<s>",), image="[IMG]"),
    _MINIMAX,
)
FAMILIES = {family.name: family for family in _ALL}

_RULES = tuple(
    (re.compile(start), FAMILIES[name])
    for start, name in (
        ("qwen3-embedding", "qwen3"),
        ("qwen3-.*thinking", "qwen3-thinking"),
        ("qwen3-.*(instruct|coder)|qwen3-vl|qwen2|qwen-v2|muse-glimmer|rolm-ocr", "qwen3-instruct"),
        ("qwen3p[567]", "qwen3.5"),
        ("qwen3p", "qwen3.8"),
        ("deepseek-r1", "deepseek-r1"),
        ("deepseek-(v3(-|$)|coder|prover)", "deepseek-v3"),
        ("deepseek-v3", "deepseek-v3.1"),
        ("deepseek-v", "deepseek-v4"),
        ("kimi-k2-thinking", "kimi-k2"),
        ("kimi-k2(-|$)", "kimi-k2-instruct"),
        ("kimi-", "kimi-k2.5"),
        ("glm-4", "glm-4"),
        ("glm-5(-|$|p[12])", "glm-5"),
        ("glm-", "glm-5.3"),
        ("nemotron-(ultra|3-ultra|lightning)|nemotron.*3p5", "nemotron3-ultra"),
        ("nemotron", "nemotron3"),
        ("llama-|firefunction|cogito-.*llama", "llama3"),
        ("gemma-3", "gemma3"),
        ("gemma-", "gemma4"),
        ("gpt-oss|fare-", "gpt-oss"),
        ("mistral|ministral", "mistral"),
        ("minimax", "minimax"),
    )
)
"""The first that a model's id begins with counts; every other id has the tokenizer of Qwen3."""


def family_of(model: str) -> Family:
    """The family of a base model, by resource name or id."""
    short = model.rpartition("/")[2]
    return next((family for rule, family in _RULES if rule.match(short)), FAMILIES["qwen3"])


@cache
def chat_template(name: str) -> str:
    """The source of a family's chat template, one text without includes."""
    family = FAMILIES[name]
    if name == "qwen3":
        return (FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    folder = FOLDER / "templates"
    head = f"{{%- set image = {family.image!r} -%}}\n{{%- set style = {family.style!r} -%}}\n"
    parts = [(folder / f"{part}.jinja").read_text(encoding="utf-8") for part in ("parts", family.template or name)]
    return head + "".join(parts)
