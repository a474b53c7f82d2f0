"""Reads the one catalogue of base models and training shapes: what is known of them, since when, and by family.

The table beside this module holds declared facts; tests/tools/catalogue.py writes it. Both packages read it here, so
the platform and what computes agree. A name that the table lacks and that begins like a known family is served as one
of that family; nothing else is. Resource names are those of the account `fireworks` unless they are written in full.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_suffix(".tsv")
PLATFORMS = ("2026-04", "2026-08", "2026-11")
NEWEST = PLATFORMS[-1]
PREFIX = "accounts/fireworks/models/"
OTHERS_CONTEXT = 131_072
"""Tokens that a model is said to serve and train of which only the family is known."""
ACCOUNTS = ("fireworks", "pyroworks")
"""Whose models the table holds: everybody may read them."""
_ID = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_SPARSE = re.compile(r"-a\d+(p\d+)?b(-|$)")
_SIZE = re.compile(r"a?\d+(\.\d+)?b")
_VERSION = re.compile(r"(?<=\d)p(?=\d)")


class ModelFacts(NamedTuple):
    """Holds the table's facts about a base model; lengths in tokens, "" and 0 where nothing was read."""

    name: str
    since: str = PLATFORMS[0]
    parameter_count: int = 0
    context_length: int = 0
    training_context_length: int = 0
    moe: bool = False
    tokenizer: str = ""
    flags: tuple[str, ...] = ()
    created: str = ""
    serverless: bool = False
    display_name: str = ""
    model_type: str = ""
    stand_in: str = ""


class ShapeFacts(NamedTuple):
    """Holds the table's facts about a training shape; `accelerator_count` of one node."""

    name: str
    since: str
    base_model: str
    trainer_mode: str
    max_context_length: int
    accelerator_type: str = ""
    accelerator_count: int = 0
    node_count: int = 0
    version: str = ""
    deployment_shape: str = ""


@dataclass(frozen=True)
class Family:
    """A rule for names that begin alike. `repository` writes the name on the hub, None where that is not known.

    `dense` and `sparse` are (model type, stand-in): the stand-in names the small weights that are shipped.
    """

    start: str
    dense: tuple[str, str]
    sparse: tuple[str, str]
    organisation: str = ""
    moe: bool = False
    as_is: bool = False
    """Whether the hub writes the id as it stands."""
    open: bool = True
    """Whether names that the table lacks are served; older families are complete in it."""


_QWEN3, _QWEN_MOE, _DEEPSEEK, _GLM, _SEES = "qwen3", "qwen3_moe", "deepseek_v3", "glm4_moe", "qwen3_vl"
FAMILIES = (
    Family("qwen3-vl", ("qwen3_vl", _SEES), ("qwen3_vl_moe", _QWEN_MOE), "Qwen"),
    Family("qwen3-", ("qwen3", _QWEN3), ("qwen3_moe", _QWEN_MOE), "Qwen"),
    Family("qwen3", ("qwen3_5", _QWEN3), ("qwen3_5_moe", _QWEN_MOE), "Qwen"),
    Family("kimi-k2p", ("kimi_k25", _DEEPSEEK), ("kimi_k25", _DEEPSEEK), "moonshotai", moe=True),
    Family("kimi-k2", ("kimi_k2", _DEEPSEEK), ("kimi_k2", _DEEPSEEK), "moonshotai", moe=True),
    Family("kimi-k", ("", _DEEPSEEK), ("", _DEEPSEEK), "moonshotai", moe=True),
    Family("deepseek-v3", ("deepseek_v3", _DEEPSEEK), ("deepseek_v3", _DEEPSEEK), "deepseek-ai", moe=True),
    Family("deepseek-v", ("deepseek_v4", _DEEPSEEK), ("deepseek_v4", _DEEPSEEK), "deepseek-ai", moe=True),
    Family("glm-4", ("glm4_moe", _GLM), ("glm4_moe", _GLM), "zai-org", moe=True),
    Family("glm-", ("glm_moe_dsa", _GLM), ("glm_moe_dsa", _GLM), "zai-org", moe=True),
    Family("llama-", ("llama", _QWEN3), ("", _QWEN_MOE)),
    Family("gemma-3", ("gemma3", _QWEN3), ("gemma3", _QWEN_MOE), "google", as_is=True),
    Family("gemma-", ("gemma4", _QWEN3), ("gemma4", _QWEN_MOE), "google"),
    Family("gpt-oss-", ("gpt_oss", _QWEN_MOE), ("gpt_oss", _QWEN_MOE), "openai", moe=True, as_is=True),
    Family("mistral", ("mistral", _QWEN3), ("", _QWEN_MOE)),
    Family("nemotron", ("nemotron_h", _QWEN3), ("nemotron_h", _QWEN_MOE)),
    Family("minimax", ("", _QWEN_MOE), ("", _QWEN_MOE), moe=True),
    Family("muse-glimmer", ("", _QWEN3), ("", _QWEN_MOE)),
    Family("qwen2p5-vl", ("qwen2_5_vl", _QWEN3), ("", _QWEN_MOE), open=False),
    Family("qwen2p5", ("qwen2", _QWEN3), ("", _QWEN_MOE), open=False),
    Family("deepseek-r1", ("", _QWEN3), ("deepseek_v3", _DEEPSEEK), open=False),
)
"""The first that fits counts. Model types are those of the families' own configurations, "" where none is known."""
_ANY = Family("", ("", _QWEN3), ("", _QWEN_MOE), open=False)
_STARTS = [family.start for family in FAMILIES if family.open]
KNOWN = [start for start in _STARTS if not any(start != other and start.startswith(other) for other in _STARTS)]


class Table(NamedTuple):
    """The table in its order, by full resource name."""

    models: dict[str, ModelFacts]
    shapes: dict[str, ShapeFacts]


def platform_of(date: str) -> str:
    """The platform of a date: the newest that is not later, so `2026-09-30` is `2026-08`; raises ValueError."""
    if not re.fullmatch(r"\d{4}-\d{2}(-\d{2})?", date):
        raise ValueError(f"a platform is a date such as {', '.join(PLATFORMS)}, got {date[:40]!r}")
    earlier = [known for known in PLATFORMS if known <= date[:7]]
    if not earlier:
        raise ValueError(f"the oldest platform is {PLATFORMS[0]}: {date} is earlier")
    return earlier[-1]


@cache
def table() -> Table:
    """The whole table, read once; milliseconds."""
    models, shapes = {}, {}
    for line in FILE.read_text("utf-8").splitlines():
        kind, *cells = line.split("\t")
        if kind == "model":
            model = _model(cells)
            models[model.name] = model
        elif kind == "shape":
            shape = _shape(cells)
            shapes[shape.name] = shape
    return Table(models, shapes)


def find(name: str) -> ModelFacts | None:
    """Find the facts about a full model name: its row, or what its family says; None for a name of no known family."""
    if (listed := table().models.get(name)) is not None or not name.startswith(PREFIX):
        return listed
    short = name.removeprefix(PREFIX)
    family = family_of(short)
    if not family.open or not _ID.fullmatch(short):
        return None
    moe = family.moe or _SPARSE.search(short) is not None
    model_type, stand_in = family.sparse if moe else family.dense
    return ModelFacts(
        name,
        context_length=OTHERS_CONTEXT,
        training_context_length=OTHERS_CONTEXT,
        moe=moe,
        tokenizer=repository(short),
        flags=("sl",),
        display_name=short,
        model_type=model_type,
        stand_in=stand_in,
    )


def family_of(short: str) -> Family:
    """The first family whose names begin as this id does."""
    for family in FAMILIES:
        if short.startswith(family.start):
            return family
    return _ANY


def why_unknown(name: str, platform: str = NEWEST) -> str:
    """Say in one sentence why a name is not served, and how to add it."""
    listed = table().models.get(name)
    if listed is not None and listed.since > platform:
        return f"it came after the platform of {platform}: use --platform {listed.since}, or a later one"
    return (
        f"it is neither in the catalogue nor does its id begin like a family that is ({', '.join(KNOWN)}): put weights "
        "behind it (--model NAME=FOLDER), or declare it (--catalogue FILE)"
    )


def repository(short: str) -> str:
    """The name on the hub that a family writes for an id, `qwen3p5-9b` as `Qwen/Qwen3.5-9B`; "" where unknown."""
    family = family_of(short)
    if not family.organisation:
        return ""
    if family.as_is:
        return f"{family.organisation}/{short}"
    lower = family.organisation == "google"
    return f"{family.organisation}/{'-'.join(_word(word, lower) for word in _VERSION.sub('.', short).split('-'))}"


_WORDS = {"glm": "GLM", "fp8": "FP8", "bf16": "BF16", "vl": "VL", "deepseek": "DeepSeek"}


def _word(word: str, lower: bool) -> str:
    """One word of an id as the hub writes it; sizes in capitals, `27b` as `27B`."""
    if _SIZE.fullmatch(word):
        return word.upper()
    return word if lower else _WORDS.get(word, word[:1].upper() + word[1:])


def _model(cells: list[str]) -> ModelFacts:
    name, since, parameters, context, training, moe, tokenizer, flags, created, serverless, display = cells
    family = family_of(name.rpartition("/")[2])
    model_type, stand_in = family.sparse if moe == "moe" else family.dense
    return ModelFacts(
        full(name),
        since,
        int(parameters or 0),
        int(context),
        int(training),
        moe == "moe",
        tokenizer,
        tuple(flags.split()),
        created,
        serverless != "",
        display,
        model_type,
        stand_in,
    )


def _shape(cells: list[str]) -> ShapeFacts:
    name, since, base, mode, context, accelerator, count, nodes, version, deployment = cells
    return ShapeFacts(
        full(name, "trainingShapes"),
        since,
        full(base),
        mode,
        int(context),
        accelerator,
        int(count or 0),
        int(nodes or 0),
        version,
        full(deployment, "deploymentShapes") if deployment else "",
    )


def full(name: str, collection: str = "models") -> str:
    return name if name.startswith("accounts/") else f"accounts/fireworks/{collection}/{name}"
