"""Promote a checkpoint of a trainer job to a model, by hand.

promote_checkpoint.py --job-id JOB --output-model-id MODEL --base-model BASE [--checkpoint-name NAME]
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ftsim.training import sdk
from ftsim.training.checkpoints.promotion import promote
from ftsim.training.checkpoints.rows import Row, read_rows
from ftsim.training.checks import check_output_model_id
from ftsim.training.errors import CheckpointError, ConfigError

REFUSALS = (ConfigError, CheckpointError, RuntimeError, ValueError)
"""Errors of the script and of the vendor's client for what cannot be done."""


def choose(rows: list[Row], name: str | None) -> Row:
    """The newest promotable row, or the one `name` means: its full id, or an unambiguous name without the suffix."""
    promotable = [row for row in rows if row.promotable]
    listing = ", ".join(row.id for row in promotable) or "none"
    if name is None:
        if not promotable:
            raise CheckpointError(f"the job has no promotable checkpoint; its rows are: {_describe(rows)}")
        return promotable[0]
    exact = [row for row in rows if row.id == name]
    found = [row for row in exact if row.promotable] or [row for row in promotable if row.is_save_of(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(f"{name} is ambiguous, give one in full: {', '.join(row.id for row in found)}")
    reason = f"is {exact[0].type}, which cannot be promoted" if exact else "is not a checkpoint of this job"
    raise CheckpointError(f"{name} {reason}; promotable: {listing}")


def _describe(rows: list[Row]) -> str:
    return ", ".join(f"{row.id} ({row.type})" for row in rows) or "none"


def carry_out(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Promote what the arguments say, and tell of it; returns row and model, raises one of REFUSALS."""
    parser = argparse.ArgumentParser(prog="promote_checkpoint.py", description="Promote a checkpoint to a model.")
    parser.add_argument("--job-id", required=True, help="trainer job")
    parser.add_argument("--output-model-id", required=True, help="id of the model to make")
    parser.add_argument("--base-model", required=True, help="resource name of the model the job trained")
    parser.add_argument("--checkpoint-name", help="checkpoint to promote; the newest promotable one by default")
    options = parser.parse_args(arguments)
    check_output_model_id(options.output_model_id)
    client = sdk.FireworksClient(api_key=sdk.api_key(), base_url=sdk.base_url())
    # The list path wants the short id, people often have the full name.
    job_id = options.job_id.rstrip("/").rsplit("/", 1)[-1]
    row = choose(read_rows(client.list_checkpoints(job_id)), options.checkpoint_name)
    say(f"promoting {row.name} to {options.output_model_id}")
    model = promote(client, row, options.output_model_id, options.base_model)
    say(f"{model.get('name', options.output_model_id)}: {model.get('kind', 'model')}, {model.get('state', 'READY')}")
    return {"checkpoint": row.name, "model": model}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    try:
        carry_out(arguments)
    except REFUSALS as error:
        print(f"promote_checkpoint: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
