"""A cursor file that is torn, empty, or holds something else."""

import json
from pathlib import Path
from typing import Any

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "C20"
TITLE = "a damaged dataloader.json counts as 0 rows, or ends in an error about something else"
_DAMAGED = {
    "truncated": '{"step-1": 8',
    "empty": "",
    "null": '{"step-1": null}',
    "list": "[8]",
    "text": '{"step-1": "4.5"}',
}


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    checkpoints = stage.checkpoints(client)
    checkpoints.save("step-1", data_consumed=8)
    file = checkpoints.cursors.path
    naive: dict[str, Any] = {}
    ours = {}
    for kind, text in _DAMAGED.items():
        file.write_text(text)
        try:
            naive[kind] = _naive_cursor(file, "step-1")
        except (TypeError, AttributeError, ValueError) as error:
            naive[kind] = type(error).__name__
        ours[kind] = str(refusal(stage.checkpoints(stage.client()).resume))
    expected = {"truncated": 0, "empty": 0, "null": "TypeError", "list": "AttributeError", "text": "ValueError"}
    claim(naive == expected, f"naive code reads {naive}")
    claim(all("is damaged" in said for said in ours.values()), f"our client says {ours}")
    return Report(
        sees=[f"{kind} file: {found}" for kind, found in naive.items()],
        exchanges=[],
        right=[f"one typed loader that fails closed: {ours['truncated'][-160:]}"],
    )


def _naive_cursor(file: Path, name: str) -> int:
    try:
        known = json.loads(file.read_text())
    except json.JSONDecodeError:
        return 0
    return int(known.get(name, 0))
