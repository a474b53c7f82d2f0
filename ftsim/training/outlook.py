"""The outlook of a run, told before it does anything: no service is asked, no trainer made, nothing written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ftsim.training.checkpoints.cursors import Cursors
from ftsim.training.checkpoints.identity import check_identity, identity_of
from ftsim.training.checkpoints.rows import step_name
from ftsim.training.config import RunConfig
from ftsim.training.data.batches import steps_done
from ftsim.training.loop import Recipe, Say, plan_of, refuse_idle_steps

T = TypeVar("T")
C = TypeVar("C", bound=RunConfig)


@dataclass(frozen=True)
class Outlook:
    """The rows of a run, its steps, and the names of the checkpoints that are still to come."""

    rows: int
    dropped: int
    steps: int
    done: int
    """Steps that the newest checkpoint of the run holds."""
    saves: Sequence[str]
    """Resumable checkpoints."""
    weights: str | None
    """Beginning of the name of the weights that can be promoted; None for a run that saves none at its end."""


def outlook(config: C, recipe: Recipe[C, T], max_seq_len: int, say: Say) -> Outlook:
    """Read the data and work out the plan as `run` does; raises what `run` raises for either."""
    data = recipe.load(config, max_seq_len, say)
    plan = plan_of(config, data)
    refuse_idle_steps(config, len(plan))
    recorded = Cursors(config.log_path).recorded()
    identity = identity_of(config, data.digest, data.held_out_digest, len(data.train))
    for line in check_identity(config, identity, begun=bool(recorded), planned=plan[-1].data_consumed):
        say(line)
    done = steps_done(plan, list(recorded.values())[-1]) if recorded else 0
    phase = config.phase(recipe.name)
    return Outlook(
        rows=len(data.train),
        dropped=list(data.usable).count(False),
        steps=len(plan),
        done=done,
        saves=[step_name(step, phase) for step in config.saved_steps(len(plan)) if step > done],
        weights=step_name(len(plan), phase) if config.save_final_checkpoint else None,
    )
