"""Writes emulator/core/catalogue.tsv from a wider table of models and training shapes.

    python -m tests.tools.catalogue TABLE.tsv

The table has a row per training shape, or one of mode `none` per model without a shape, and a column for every fact
that was read; `MODELS` and `SHAPES` are what older programs name and the table leaves out. Of a model without a row of
its own for a fact, the first row that states it counts. What the table does not state is worked out here, once:

- a model is there since April where it was created by then or an older program names it, else since August; a shape
  since August, unless an older program names it; what only autumn's sources name, since November;
- a name on the hub that the table lacks is the one that the model's family writes;
- a trainer of more than 8 accelerators stands on nodes of 8;
- a length that no row states is the one in the shape's id (`-128k-`), else the longest of the model's other shapes.
"""

import csv
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from emulator.core.catalogue import FILE, ShapeFacts, repository

APRIL, AUGUST, NOVEMBER = "2026-04", "2026-08", "2026-11"
LEAST_CONTEXT = 32_768
NODE = 8
MODES = {"full": "POLICY_TRAINER", "lora": "LORA_TRAINER", "forward-only": "FORWARD_ONLY"}
CONTEXTS = {
    **dict.fromkeys(("qwen3-0p6b", "qwen3-1p7b", "qwen3-4b", "qwen3-8b", "qwen3-30b-a3b", "qwen3-235b-a22b"), 40_960),
    "qwen3p5-9b": 262_144,
    "qwen3p6-27b": 262_144,
    "qwen3-embedding-8b": 40_960,
    "kimi-k2-instruct": 131_072,
    "kimi-k2-instruct-0905": 262_144,
    "kimi-k2-thinking": 262_144,
    "kimi-k2p5": 262_144,
    "glm-5": 202_752,
    "deepseek-v3": 131_072,
    "deepseek-v3p1": 163_840,
}
"""What a model serves, where it was read of the model itself; else it is the longest that it is trained with."""
MODELS = {
    "qwen3-embedding-8b": {"params": "7600000000", "hf_tokenizer": "Qwen/Qwen3-Embedding-8B", "arch": "dense"},
    "glm-5": {"params": "744000000000", "arch": "moe"},
}
SHAPES = {
    "ts-qwen3-4b-smoke-v1": ("8192", "NVIDIA_H100_80GB", "1", ""),
    "qwen3-4b-minimum-forward-only": ("32768", "NVIDIA_H200_141GB", "2", ""),
    "qwen3-8b-128k-h200": ("131072", "NVIDIA_H200_141GB", "8", ""),
    "qwen3p5-9b-256k": ("", "", "", "rft-qwen3p5-9b-v2"),
    "qwen3p5-9b-256k-lora": ("", "", "", "rft-qwen3p5-9b-v2"),
    "qwen3-embedding-8b": ("32768", "NVIDIA_H200_141GB", "4", ""),
}
"""Length, accelerator, their number, deployment shape."""
OLDER = {*SHAPES, "qwen3-4b-minimum", "qwen3-4b-minimum-lora", "qwen3-8b-256k-h200-lora"}

HEAD = """Base models and training shapes: facts that were read. Written by tests/tools/catalogue.py.
A date says since which platform a thing is there; a flag with a date (sl@2026-11) is set since then.
Flags: v2 useTrainingV2, rl rlTunable, sl supervisedLoraTunable, sf supervisedFullParameterTunable, rll rlLoraTunable,
rlf rlFullParameterTunable."""
MODEL_FIELDS = (
    "name",
    "since",
    "parameters",
    "context",
    "training context",
    "moe or dense",
    "tokenizer",
    "flags",
    "created",
    "serverless",
    "display name",
)
SHAPE_FIELDS = tuple(field.replace("_", " ") for field in ShapeFacts._fields)

Row = dict[str, str]


def short(name: str) -> str:
    """The id, or the whole name where the account is another than the usual one."""
    return re.sub(r"^accounts/fireworks/(models|trainingShapes|deploymentShapes)/", "", name)


def read(path: Path) -> list[Row]:
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def first(rows: Iterable[Row], key: str) -> str:
    return next((row[key] for row in rows if row.get(key)), "")


def since(row: Row, rows: list[Row]) -> str:
    """The platform on which a model is first there."""
    created = first(rows, "model_created")
    if created:
        return APRIL if created < "2026-05" else AUGUST
    return NOVEMBER if row["group"] == "autumn-2026" else APRIL


def named_length(shape: str) -> int:
    found = re.search(r"-(\d+)k(?:-|$)", shape)
    return {64: 65_536, 65: 65_536, 80: 81_920}.get(size := int(found[1]), size * 1024) if found else 0


def model_row(name: str, rows: list[Row]) -> list[str]:
    lengths = [int(row["max_context"] or 0) for row in rows] + [int(first(rows, "model_train_ctx") or 0)]
    context = CONTEXTS.get(name) or max(*lengths, LEAST_CONTEXT)
    training = first(rows, "model_train_ctx") or str(max(*(int(row["max_context"] or 0) for row in rows), 0) or context)
    flags = " ".join(dict.fromkeys(f"{f}" for row in rows for f in row["model_flags"].split() if f))
    late = {f for row in rows if row["group"] == "autumn-2026" for f in row["model_flags"].split()}
    early = {f for row in rows if row["group"] != "autumn-2026" for f in row["model_flags"].split()}
    flags = " ".join(f"{f}@{NOVEMBER}" if early and f in late - early else f for f in flags.split())
    return [
        "model",
        name,
        since(rows[0], rows),
        first(rows, "params"),
        str(context),
        training,
        "moe" if first(rows, "arch").startswith("moe") else "dense",
        first(rows, "hf_tokenizer") or repository(name),
        flags,
        first(rows, "model_created"),
        "serverless" if first(rows, "serverless") == "yes" else "",
        first(rows, "display_name"),
    ]


def shape_row(row: Row, longest: int) -> list[str]:
    name, base = short(row["shape"]), short(row["model"])
    length, accelerator, count, deployment = SHAPES.get(name, ("", "", "", ""))
    gpus = int(row["gpus_trainer"] or count or 0)
    since_date = APRIL if row["group"] == "older-name" or name in OLDER else AUGUST
    return [
        "shape",
        name,
        NOVEMBER if row["group"] == "autumn-2026" else since_date,
        base,
        MODES.get(row["mode"].rstrip("?"), "POLICY_TRAINER"),
        row["max_context"] or length or str(named_length(name) or longest),
        row["accelerator"] or accelerator,
        str(min(gpus, NODE) or ""),
        str(max(1, gpus // NODE)) if gpus else "",
        row["shape_version"],
        row["deployment_shape"] or deployment,
    ]


def write(table: Path) -> str:
    """Return the text of the file: models in the order of the table, then shapes."""
    by_model: dict[str, list[Row]] = {}
    for row in read(table):
        by_model.setdefault(short(row["model"]), []).append(row)
    keys = next(iter(by_model.values()))[0].keys()
    for name, facts in MODELS.items():
        extra = {**dict.fromkeys(keys, ""), "mode": "none", "group": "older-name", **facts}
        by_model.setdefault(name, []).append(extra)
    models, shapes, seen = [], [], set()
    for name, rows in by_model.items():
        models.append(model_row(name, rows))
        for row in rows:
            if row["shape"] and row["shape"] not in seen:
                seen.add(row["shape"])
                shapes.append(shape_row(row, int(models[-1][4])))
    about = [f"# {line}" if line else "#" for line in HEAD.splitlines()]
    columns = ["# " + "\t".join(("model", *MODEL_FIELDS)), "# " + "\t".join(("shape", *SHAPE_FIELDS))]
    return "\n".join([*about, *columns, *("\t".join(row) for row in (*models, *shapes))]) + "\n"


if __name__ == "__main__":
    FILE.write_text(write(Path(sys.argv[1])), "utf-8")
