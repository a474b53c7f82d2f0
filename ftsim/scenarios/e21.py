"""A deployment serves and never says READY."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage

ID = "E21"
TITLE = "the deployment stays CREATING for ever and serves all the same"


def reproduce(stage: Stage) -> Report:
    stage.job()
    stage.quirks.set("deployments.stuck_creating", True)
    model = serving.deploy(stage)
    states = []
    for _ in range(10):
        states.append(stage.deployments.get(serving.DEPLOYMENT).state)
        stage.time.sleep(360)
    claim(set(states) == {"CREATING"}, f"within an hour: {states}")
    slept = stage.time.slept
    with serving.patient(stage):
        info = stage.deployments.wait_for_ready(serving.DEPLOYMENT, timeout_s=600)
    probe = stage.exchanges("completions")
    claim(info.state == "READY" and stage.time.slept == slept, f"{info}")
    claim([exchange.status for exchange in probe] == [200], "the SDK should have probed once")
    return Report(
        sees=[f"GET deployment, an hour long: {states[0]}"],
        exchanges=[*stage.exchanges("get_deployment")[-1:], *probe],
        right=[f"asks {model} for a few tokens and goes on when it answers: {probe[0].status}"],
    )
