"""The checkpoints of all runs of a pooled session are in one list, each named after its run."""

import shutil

from emulator.backend import SavedState
from emulator.entities import Session
from emulator.platform.checkpoints import Origin
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, short, train

ID = "A13"
TITLE = "a pooled session lists the checkpoints of every run: another run's is promoted"
_MINE, _OTHER = "run-" + "1" * 32, "run-" + "2" * 32


def reproduce(stage: Stage) -> Report:
    session = _session(stage)
    client = stage.client()
    for run in (_MINE, _OTHER):
        train(client, 0)
        client.save_weights_for_sampler_ext("step-5", checkpoint_type="base")
        _move(stage, session, f"{run}-step-5")
        client = stage.client()
    rows = stage.manager.list_training_session_checkpoints(session)
    names = [short(row["name"]) for row in rows]
    claim(names == [f"{_MINE}-step-5", f"{_OTHER}-step-5"], f"the rows are {names}")
    exact = [name for name in names if name == "step-5"]
    loose = [name for name in names if name.endswith("step-5")]
    claim(not exact and loose[-1].startswith(_OTHER), f"naive matching finds {exact} or {loose}")
    mine = [row["name"] for row in rows if short(row["name"]).startswith(f"{_MINE}-")]
    stage.manager.promote_session_checkpoint(mine[-1], "mine", BASE)
    made = stage.emulator.world.models.get(f"accounts/{stage.account}/models/mine")
    claim(made and short(made.source_checkpoint) == f"{_MINE}-step-5", f"promoted {made}")
    return Report(
        sees=[
            f"the session lists {', '.join(names)}",
            "a comparison with 'step-5' finds nothing; the newest that ends so is another run's",
        ],
        exchanges=[entry for entry in stage.exchanges() if "trainingSessions" in entry.path],
        right=["filter by the own run's id first, then by name: the own row is promoted"],
    )


def _session(stage: Stage) -> str:
    """A session of the pool, which lists what its runs save."""
    world = stage.emulator.world
    now = world.clock.now()
    with world.change():
        return world.sessions.put(Session(stage.account, "pool-1", "", now, now)).name


def _move(stage: Stage, session: str, name: str) -> None:
    """List a copy of the job's newest sampler weights as a row of the session."""
    platform = stage.emulator.platform
    row, staged = stage.truth("job-1")[-1], platform.blobs.stage()
    shutil.copytree(platform.blobs.path(row.blob), staged, dirs_exist_ok=True)
    platform.checkpoints.save(Origin(session, BASE, 0, "", "base"), name, staged, SavedState(row.step))
