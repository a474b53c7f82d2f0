"""The checkpoints of all runs of a training session are in one list, each named after its run."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, short, train

ID = "A13"
TITLE = "a pooled session lists the checkpoints of every run: another run's is promoted"


def reproduce(stage: Stage) -> Report:
    service = stage.serverless()
    mine, other = (service.create_lora_training_client(BASE, rank=rank) for rank in (4, 8))
    for client in (mine, other):
        train(client, 0)
        client.save_state("step-5").result()
    saved = mine.save_weights_for_sampler_ext("step-5").snapshot_name
    with stage.quirks.set("sessions.name_style", "colon"):
        other.save_weights_for_sampler_ext("step-5")
    rows = stage.manager.list_training_session_checkpoints(service.training_session_name)
    names = [short(row["name"]) for row in rows]
    claim(names[:2] == [f"{mine.run_id}-step-5", f"{other.run_id}-step-5"], f"the rows are {names}")
    claim(names[3].startswith(f"{other.run_id}:step-5-"), f"an older plane writes a colon: {names}")
    exact = [name for name in names if name == "step-5"]
    loose = [name for row, name in zip(rows, names, strict=True) if row["promotable"] and "step-5" in name]
    claim(not exact and loose[-1].startswith(other.run_id), f"naive matching finds {exact} or {loose}")
    own = [row["name"] for row in rows if row["promotable"] and short(row["name"]).startswith(mine.run_id)]
    stage.manager.promote_session_checkpoint(own[-1], "mine", BASE)
    made = stage.emulator.world.models.get(f"accounts/{stage.account}/models/mine")
    claim(made and short(made.source_checkpoint) == f"{mine.run_id}-{saved}", f"promoted {made}")
    return Report(
        sees=[
            f"the session lists {', '.join(names)}",
            "a comparison with 'step-5' finds nothing; the newest promotable one that has it is another run's",
        ],
        exchanges=stage.exchanges("list_checkpoints", "promote"),
        right=["filter by the own run's id first, then by name: the own row is promoted"],
    )
