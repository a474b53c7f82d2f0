"""The id exists: the deployment behind it is handed back, whatever it serves."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import BASE, Stage

ID = "E20"
TITLE = "an existing deployment of another base model is returned as it is"
UPSTREAM = "fireworks-ai 1.2.28"
OTHER = "accounts/fireworks/models/qwen3-4b"


def reproduce(stage: Stage) -> Report:
    from fireworks.training.sdk.managed import _deployment_shape_conflict

    serving.deploy(stage, None, base_model=OTHER)
    wanted = serving.config(stage, None)
    got = stage.deployments.create_or_get(wanted)
    still_upstream(UPSTREAM, got.base_model == OTHER, f"asked for {BASE}, got {got.base_model}")
    claim(not stage.exchanges("hot_load"), "nobody should have noticed yet")
    late = refusal(stage.deployments.hotload, serving.DEPLOYMENT, BASE, "whatever")
    said = stage.exchanges("hot_load")[-1].answer["message"]
    shapes = [
        _deployment_shape_conflict(f"{serving.SHAPE}/versions/1", other)
        for other in (f"{serving.SHAPE}/versions/2", "accounts/fireworks/deploymentShapes/other/versions/1")
    ]
    still_upstream(UPSTREAM, shapes == [False, True], f"the managed path compares shapes only: {shapes}")
    compared = refusal(_compare, stage, wanted)
    stage.deployments.delete(serving.DEPLOYMENT)
    claim(stage.deployments.create_or_get(wanted).base_model == BASE, "made anew it should serve the right model")
    return Report(
        sees=[
            f"create_or_get for {BASE} returns a deployment of {got.base_model}",
            f"the first load: {said}",
            f"{late}",
        ],
        exchanges=stage.exchanges("get_deployment")[1:2],
        right=[f"compares what it got with what it asked for: {compared}"],
    )


def _compare(stage: Stage, wanted: object) -> None:
    """What our own recipes do with a deployment that they did not make."""
    from ftsim.training.errors import TrainerError

    got = stage.deployments.create_or_get(wanted)
    if got.base_model != BASE:
        raise TrainerError(f"deployment {got.deployment_id} serves {got.base_model}, not {BASE}: name another one")
