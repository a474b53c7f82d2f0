"""A training session is no source job: what continues a job's checkpoint on a dedicated trainer fails on the pool."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "C5"
TITLE = "a pooled trainer refuses cross_job://"


def reproduce(stage: Stage) -> Report:
    stage.client("source", rank=4).save_state("step-1").result()
    first = stage.serverless()
    before = first.create_lora_training_client(BASE, rank=4)
    train(before, 1)
    saved = before.save_state("step-1").result().path
    client = stage.serverless().create_lora_training_client(BASE, rank=4)
    fresh = stage.weights(client)
    of_job = refusal(lambda: client.load_state("cross_job://source/step-1").result())
    claim("a session is no job" in str(of_job), str(of_job))
    of_session = refusal(lambda: client.load_state(f"cross_job://{first.training_session_id}/step-1").result())
    claim("a session is no job" in str(of_session), str(of_session))
    colon = stage.ask_pool(client, "load_weights", seq_id=3, path=f"{first.training_session_id}:step-1")
    claim(colon["category"] == "user" and "cannot load" in colon["error"], f"{colon}")
    claim(stage.weights(client) == fresh, "a refused load changed the weights")
    client = stage.serverless().create_lora_training_client(BASE, rank=4)
    client.load_state_with_optimizer(saved).result()
    claim(stage.weights(client) == stage.weights(before), f"{saved} should be what was saved")
    client.save_state("step-2").result()
    client.load_state_with_optimizer("step-2").result()
    return Report(
        sees=[running.first_line(of_job), f"and of a session's id: {str(colon['error'])[:200]}"],
        exchanges=stage.exchanges("load_weights")[:2],
        right=[f"names another run's checkpoint by its run, {saved}, and this run's by its bare name"],
    )
