"""The rows of a run and their order, noted in its `log_path`, so that it goes on with the same ones."""

import json
from pathlib import Path

from ftsim.training.checkpoints.cursors import replace_file
from ftsim.training.config import RunConfig
from ftsim.training.data.files import digest_of
from ftsim.training.errors import CheckpointError

FILE_NAME = "rows.json"


def check_rows(config: RunConfig, done: int) -> None:
    """Refuse to go on after `done` steps with other rows, or another order of them, than the run began with.

    The cursor alone would not tell: a step of the new order may end at the same count. Raises `CheckpointError`.
    """
    path = Path(config.log_path) / FILE_NAME
    now = {
        "dataset": digest_of(config.dataset),
        "max_examples": config.max_examples,
        "eval_split": getattr(config, "eval_split", None),
        "seed": config.seed,
        "group_by_length": getattr(config, "group_by_length", False) or None,
    }
    try:
        began = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        began = None
    if done and isinstance(began, dict):
        changed = [name for name, value in now.items() if began.get(name) != value]
        if changed:
            raise CheckpointError(
                f"{', '.join(changed)} changed since {config.log_path} began, so that the rows it has still to see are "
                "not known: restore what changed, or use a new log_path (init_from_checkpoint starts it from the "
                "weights there are)"
            )
    replace_file(path, json.dumps(now, indent=1).encode())
