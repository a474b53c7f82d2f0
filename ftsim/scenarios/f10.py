"""A second session on a trainer with one place throws the first one's model out."""

from concurrent.futures import ThreadPoolExecutor

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, batch, train

ID = "F10"
TITLE = "a second create_session evicts the first client's model, and its next save hangs"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("sessions.create", "destructive")
    first = stage.client(rank=4)
    train(first, 0)
    stage.client(rank=4)  # somebody else, or a reference model, opens a session of its own
    told = refusal(first.save_weights_for_sampler_ext, "step-1")
    claim("No session found for model_id" in str(told), str(told))
    pool = ThreadPoolExecutor(1)
    with stage.quirks.set("futures.never_resolve", True, endpoint="save_weights_for_sampler"):
        pending = pool.submit(first.save_weights_for_sampler_ext, "step-1-again")
        hang = refusal(pending.result, timeout=0.4)
    claim(isinstance(hang, TimeoutError), f"{hang!r}")
    pool.shutdown(wait=False)
    service = stage.service()
    policy = service.create_training_client(base_model=BASE, lora_rank=4)
    reference = service.create_base_training_client(BASE)
    reference.forward(batch(), "cross_entropy").result()
    train(policy, 0)
    saved = policy.save_weights_for_sampler_ext("step-1").snapshot_name
    claim([row.id for row in stage.truth("job-1")] == [saved], f"{stage.truth('job-1')}")
    return Report(
        sees=[f"the reason, in the server's logs: {running.first_line(told)}",
              "the client's save has no result, for ever"],
        exchanges=stage.exchanges("create_session", "save_weights_for_sampler")[:3],
        right=[f"one service client per trainer, policy and reference in one session: {saved} is saved",
               f"and a timeout around every save: {type(hang).__name__}"],
    )  # fmt: skip
