"""`python -m ftsim.process.serve_runs FOLDER`: what `ftsim run` starts where no option says how the emulator is to be.

It is `ftsim serve` without the library that reads command lines, which is a sixth of what is imported there.
"""

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.server import Emulator


def main(state_dir: Path) -> int:
    """Serve until the last program has gone; returns the exit status."""
    gc.disable()  # importing makes objects that all stay: looking for garbage meanwhile is a tenth of the start
    from ftsim.process.serve import serve

    key = os.environ.get("FTSIM_API_KEY") or None
    try:
        return serve(state_dir=state_dir, port=0, api_key=key, warm=True, until_deserted=True, announce=_up)
    finally:
        gc.enable()


def _up(emulator: "Emulator") -> None:
    gc.freeze()
    gc.enable()
    print(f"ftsim: serves at {emulator.url}", flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
