"""A trainer holds a few adapters, and closed clients go on to hold theirs."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "F11"
TITLE = "maximum of 2 concurrent sessions reached"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("sessions.max_gpu", 2)
    first, second = stage.client(rank=4), stage.client(rank=4)
    error = refusal(stage.client, rank=4)
    claim("maximum of 2 concurrent sessions reached (gpu=2, cpu=0)" in str(error), str(error))
    first.holder.close()
    still = refusal(stage.client, rank=4)
    claim("maximum of 2" in str(still), f"closing without unloading freed a place: {still}")
    second.unload_model().result()
    third = stage.client(rank=4)
    train(third, 0)
    claim(running.steps(stage, third) == 1, "the third client should train")
    return Report(
        sees=[running.first_line(error), "closing a client frees nothing"],
        exchanges=stage.exchanges("create_model")[2:3],
        right=["unloads its model when it is done (unload_model), and the next client fits in"],
    )
