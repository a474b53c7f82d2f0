"""Forms of a reference that documents show and that the SDK does not let through."""

from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage

ID = "C2"
TITLE = "gs://, tinker://, absolute and nested references are documented and refused by the SDK"
UPSTREAM = "fireworks-ai 1.2.28"
_DOCUMENTED = ("gs://bucket/job-1/step-1", "tinker://job-1/weights/step-1", "/mnt/step-1", "runs/step-1")


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    errors = {form: refusal(client.load_state, form) for form in _DOCUMENTED}
    refused = all(isinstance(error, ValueError) for error in errors.values())
    still_upstream(UPSTREAM, refused and not stage.exchanges("load_weights"), f"refused by the SDK: {errors}")
    own: list[str] = []
    for style in ("tinker_uri", "gs_uri"):
        with stage.quirks.set("save.path_style", style):
            path = client.save_state(f"step-{len(own)}").result().path
        claim("://" in path, f"the path is {path}")
        own.append(f"{path}: {refusal(client.load_state, path)}")
    stage.checkpoints(client).save("step-7", data_consumed=7)
    resumed = stage.checkpoints(client).resume()
    claim(resumed and resumed.source == "step-7", f"resumed {resumed}")
    client.load_state("cross_job://job-1/step-1").result()
    return Report(
        sees=[
            *(f"load_state({form!r}): {error}" for form, error in errors.items()),
            f"a server's own path cannot be loaded: {own[0]}",
        ],
        exchanges=stage.exchanges("load_weights"),
        right=["bare names, or cross_job://<job>/<name>; TrainingCheckpoints keeps names, not paths"],
    )
