"""The kind of a promoted model is that of the row, and the newest row of a LoRA job may hold no adapter."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, train

ID = "D14"
TITLE = "the newest promotable row of a LoRA job is a merged one and gives a base model"


def reproduce(stage: Stage) -> Report:
    from ftsim.training.promote_checkpoint import choose

    client = stage.client(rank=4)
    train(client, 0, 1)
    adapter = promoting.sampler(client, "step-2")
    merged = promoting.sampler(client, "step-2-merged", "merged_base")
    rows = promoting.rows(stage)
    newest = choose(rows, None)
    claim(newest.id == merged, f"the newest promotable row is {newest.id}")
    surprise = promoting.promote(stage, newest.id, "newest")
    claim(surprise["kind"] == "HF_BASE_MODEL", f"{merged} became {surprise['kind']}")
    wanted = next(row for row in rows if row.promotable and row.type.endswith("INFERENCE_LORA"))
    model = promoting.promote_rightly(stage, wanted, "mine")
    claim(wanted.id == adapter and model["kind"] == "HF_PEFT_ADDON", f"{wanted.id} became {model['kind']}")
    return Report(
        sees=[f"rows, newest first: {', '.join(f'{row.id} {row.type}' for row in rows)}",
              f"the newest one becomes {surprise['kind']}"],
        exchanges=stage.exchanges("promote")[:1],
        right=[f"chooses by checkpointType, {wanted.type}: {model['kind']} on {model['peftDetails']['baseModel']}",
               f"the job's base model is {BASE}"],
    )  # fmt: skip
