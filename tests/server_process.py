"""An emulator over the torch-free backend as a process: `python -m tests.server_process STATE_DIR [PORT]`."""

import subprocess
import sys
import threading
from pathlib import Path

from emulator.server import Emulator
from tests.doubles import DictBackend


def start(state_dir: Path, port: int = 0) -> tuple["subprocess.Popen[str]", str]:
    """Start one and wait for its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server_process", str(state_dir), str(port)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with Emulator(
        DictBackend(folder / "backend"), state_dir=folder, api_key="fw-ftsim-local", port=int(sys.argv[2])
    ) as emulator:
        print(emulator.url, flush=True)
        threading.Event().wait()
