"""Names that end like a session suffix lose their end to code that strips suffixes."""

import re

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, short

ID = "A11"
TITLE = "a suffix stripper eats the end of user names, and a save is skipped as already there"
_NAMES = ("eval-20260401", "run-deadbeef", "step-12345678")


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    checkpoints.save("eval-20260331", resumable=False, promotable=True)
    stripped = [_stripped(name) for name in _NAMES]
    claim(stripped == ["eval", "run", "step"], f"stripped to {stripped}")
    row = short(stage.manager.list_checkpoints("job-1")[0]["name"])
    claim(_stripped(_stripped(row)) == _stripped("eval-20260401"), f"{row} and eval-20260401 do not collapse")
    for name in _NAMES:
        checkpoints.save(name, resumable=False, promotable=True)
    listed = [found.id for found in stage.truth("job-1")]
    claim(listed[1:] == [f"{name}-{client.session_id}" for name in _NAMES], f"the rows are {listed}")
    return Report(
        sees=[f"{', '.join(_NAMES)} become {', '.join(stripped)}", f"{row} passes for 'eval': the save is skipped"],
        exchanges=stage.exchanges("save_weights_for_sampler")[1:2],
        right=[f"TrainingCheckpoints strips only its own session's suffix, and saves all of them: {listed[1:]}"],
    )


def _stripped(name: str) -> str:
    return re.sub(r"-[0-9a-f]{8}$", "", name)
