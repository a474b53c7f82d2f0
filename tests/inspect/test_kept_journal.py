"""A journal that an earlier version wrote and `fixtures/journals` keeps: read, and answered today as it was then.

`ftsim run --light fixtures/examples/sdk_alone.py`, then `ftsim journal --save FILE`, made it. Where an answer changes
on purpose, make it anew and say in the changelog what changed.
"""

import json
from pathlib import Path

from emulator.journal import file as journal_file
from emulator.light import LightBackend
from ftsim.inspect.replay import replay

KEPT = Path(__file__).parents[2] / "fixtures" / "journals" / "sdk_alone_light.jsonl"


def test_a_kept_journal_is_answered_as_it_was() -> None:
    saved = journal_file.read(KEPT.read_bytes().splitlines())
    asked = {one.endpoint for one in saved.exchanges}
    assert asked >= {"create_job", "forward_backward", "promote", "list_checkpoints"}
    found = replay(saved, LightBackend())
    assert found.identical, found
    assert found.compared == len(saved.exchanges)


def test_an_answer_that_was_another_is_noticed() -> None:
    head, *lines = KEPT.read_bytes().splitlines()
    entries = [json.loads(line) for line in lines]
    listed = next(one for one in entries if one.get("path", "").endswith("/checkpoints") and one["status"] == 200)
    listed["response"] = listed["response"].replace('"promotable":true', '"promotable":false', 1)
    changed = [head, *(json.dumps(one).encode() for one in entries)]
    found = replay(journal_file.read(changed), LightBackend())
    assert not found.identical
    assert any("promotable" in difference.field for difference in found.differences), found
