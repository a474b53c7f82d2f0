"""Two processes read, change and write the cursor file."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage
from ftsim.training.checkpoints.cursors import Cursors

ID = "C21"
TITLE = "two writers of the cursor file: one update is lost, or the other's temporary file is gone"
_WRITERS = 4
_EACH = 4


def reproduce(stage: Stage) -> Report:
    file = stage.folder / "dataloader.json"
    file.write_text("{}")
    mine, theirs = json.loads(file.read_text()), json.loads(file.read_text())
    _naive_write(file, {**mine, "step-1": 8})
    _naive_write(file, {**theirs, "dpo-step-1": 16})
    lost = json.loads(file.read_text())
    claim(lost == {"dpo-step-1": 16}, f"naive writers leave {lost}")
    temporary = Path(f"{file}.tmp")
    temporary.write_text("{}")
    os.replace(temporary, file)
    missing = refusal(os.replace, temporary, file)

    cursors = [Cursors(stage.folder / "shared") for _ in range(_WRITERS)]
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(lambda numbered: _record(*numbered), enumerate(cursors)))
    kept = cursors[0].recorded()
    claim(len(kept) == _WRITERS * _EACH, f"ours keeps {len(kept)} of {_WRITERS * _EACH}")
    return Report(
        sees=[f"both read, both write: {lost} is left", f"both use <path>.tmp: {type(missing).__name__}"],
        exchanges=[],
        right=[f"a lock and a temporary name of its own: {len(kept)} updates of {_WRITERS} writers are all there"],
    )


def _naive_write(file: Path, cursors: dict[str, int]) -> None:
    temporary = Path(f"{file}.tmp")
    temporary.write_text(json.dumps(cursors))
    os.replace(temporary, file)


def _record(number: int, cursors: Cursors) -> None:
    for step in range(_EACH):
        cursors.record({f"run-{number}-step-{step}": step})
