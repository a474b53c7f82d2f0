"""Rank and mode are fixed when the job is created."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "C10"
TITLE = "rank of client, job and checkpoint differ: refused, at creation or at load"


def reproduce(stage: Stage) -> Report:
    stage.job("full")
    mode = refusal(stage.service("full").create_training_client, base_model=BASE, lora_rank=2)
    claim("without LoRA config" in str(mode), f"refused with {mode}")
    small = stage.client("rank-2", rank=2)
    train(small, 0)
    small.save_state("step-1").result()
    large = stage.client("rank-4", rank=4)
    rank = refusal(lambda: large.load_state("cross_job://rank-2/step-1").result())
    claim("LoRA rank 2" in str(rank), f"refused with {rank}")
    same = stage.client("rank-2-again", rank=2)
    same.load_state("cross_job://rank-2/step-1").result()
    claim(stage.weights(same) == stage.weights(small), "equal ranks should load")
    return Report(
        sees=[f"a LoRA client on a full-parameter job: {str(mode)[:180]}", f"rank 2 into rank 4: {str(rank)[:140]}"],
        exchanges=stage.exchanges("load_weights")[:1],
        right=["one rank for job, client and checkpoint: rank 2 into rank 2 loads"],
    )
