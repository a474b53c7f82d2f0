"""The programs that the demo runs, and their data: ordinary recipe scripts that know nothing of an emulator."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ftsim.compute import data

ROWS = 80
STEPS = 30
"""Three epochs of 80 rows in batches of eight."""
SAVE_INTERVAL = 10
BASE_MODEL = "accounts/fireworks/models/qwen3-8b"

SCRIPT = """\
from training.recipes.sft_loop import Config, main
from training.utils import InfraConfig, WeightSyncConfig

cfg = Config(
    log_path="./{log_path}",
    base_model="accounts/fireworks/models/qwen3-8b",
    dataset="data.jsonl",
    tokenizer_model="Qwen/Qwen3-8B",
    output_model_id="{model}",{lora}
    weight_sync=WeightSyncConfig(dcp_save_interval=10),
    infra=InfraConfig(training_shape_id="accounts/fireworks/trainingShapes/{shape}"),
)
main(cfg)
"""
_AGAIN = """
# Interrupted? Run again with the same config: it picks up automatically.
main(cfg)
"""
_REFERENCE = "# The same two runs, never interrupted.\n"


@dataclass(frozen=True)
class Mode:
    """LoRA or full-parameter: the lines of the script that differ."""

    name: str
    title: str
    lora: str
    shape: str

    @property
    def script(self) -> str:
        return f"train_{self.name}.py"

    @property
    def log_path(self) -> str:
        return f"my_training_{self.name}"

    @property
    def reference_log_path(self) -> str:
        return f"uninterrupted_{self.name}"

    @property
    def model(self) -> str:
        return f"qwen3-8b-{self.name}"


MODES = (
    Mode("lora", "LoRA", "\n    lora_rank=8,", "qwen3-8b-256k-h200-lora"),
    Mode("full", "full-parameter", "", "qwen3-8b-128k-h200"),
)
REFERENCE = "uninterrupted.py"


def write(folder: Path) -> None:
    """Put the data and all scripts into `folder`."""
    with data.path("chat-train").open("rb") as source:
        (folder / "data.jsonl").write_bytes(b"".join(islice(source, ROWS)))
    for mode in MODES:
        (folder / mode.script).write_text(_fill(mode, mode.log_path, mode.model) + _AGAIN, "utf-8")
    reference = [_fill(mode, mode.reference_log_path, f"{mode.model}-reference") for mode in MODES]
    (folder / REFERENCE).write_text(_REFERENCE + "\n".join(reference), "utf-8")


def _fill(mode: Mode, log_path: str, model: str) -> str:
    return SCRIPT.format(log_path=log_path, model=model, lora=mode.lora, shape=mode.shape)
