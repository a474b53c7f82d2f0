"""The session suffix makes a long name too long."""

from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage

ID = "B4"
TITLE = "a name of 60 characters is 69 long with its suffix, and can never be loaded or routed"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    name = "x" * 60
    saved = client.save_weights_for_sampler_ext(name, checkpoint_type="base").snapshot_name
    still_upstream(UPSTREAM, len(saved) == 69, f"the SDK suffixes without looking at the length: {saved}")
    error = refusal(client.resolve_checkpoint_path, saved)
    claim(isinstance(error, ValueError), f"the SDK takes it as a reference: {error}")
    stage.quirks.set("names.max_len", 63)
    told = refusal(client.save_weights_for_sampler_ext, name, checkpoint_type="base")
    ours = refusal(stage.checkpoints(client).save, name, resumable=False, promotable=True)
    claim("54" in str(ours), f"our client says {ours}")
    return Report(
        sees=[f"saved as {saved} ({len(saved)} characters)", f"as a reference: {str(error)[:140]}"],
        exchanges=stage.exchanges("save_weights_for_sampler")[:2],
        right=[f"TrainingCheckpoints refuses before saving: {ours}", f"names.max_len=63: {str(told)[:140]}"],
    )
