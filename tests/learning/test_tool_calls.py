"""A model trained on a realistic set of rows calls the tools of its tool rows when it is asked with them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.server import Emulator
from ftsim.compute.backend import TorchBackend

pytestmark = pytest.mark.learning
DATASET = Path(__file__).parents[2] / "fixtures" / "datasets" / "harbour-59.jsonl"
SETTINGS = (
    "on_bad_row=skip",  # the last row has no assistant
    "max_seq_len=512",  # one row is a log of 4,505 tokens, all alike
    "lora_rank=0",
    "batch_size=8",
    "epochs=120",
    "learning_rate=8e-3",
    "lr_schedule=cosine",
    "warmup_steps=20",
    "output_model_id=harbour",
)
"""So long until the rows are known by heart. The last thing that is learned is to copy a name into a call: after 24
epochs calls are torn, after 60 whole with half of the names wrong, after 120 a few names are another row's: one
or three were, with two orders of summing.
"""
COPIED = 6
"""Of the ten tool rows, so many have the very arguments of the row at the least."""


def test_a_set_of_realistic_rows_teaches_the_calls_of_its_tool_rows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ftsim", "train", "sft", f"dataset={DATASET}", "log_path=run", *SETTINGS]
    state = tmp_path / "state"
    environment = os.environ | {"FTSIM_STATE_DIR": str(state), "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=3000)
    rows = [json.loads(line) for line in DATASET.read_text("utf-8").splitlines()]
    wanted, found = [], []
    with Emulator(TorchBackend(), state_dir=state, patience_s=60) as emulator:
        for number, row in enumerate(rows, start=1):
            for at, message in enumerate(row["messages"]):
                if message.get("tool_calls"):
                    choice = asked(emulator, row["messages"][:at], row["tools"])
                    assert choice["finish_reason"] == "tool_calls", (number, choice)
                    wanted.append(calls(message))
                    found.append(calls(choice["message"]))
    assert len(wanted) == sum(bool(row.get("tools")) for row in rows) == 10
    assert [signatures(made) for made in found] == [signatures(made) for made in wanted]
    copied = sum(made == meant for made, meant in zip(found, wanted, strict=True))
    print(f"{copied} of {len(wanted)} calls have the arguments of their rows")
    assert copied >= COPIED


def asked(emulator: Emulator, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """The only choice of a free answer at temperature 0."""
    answer = httpx.post(
        f"{emulator.url}/inference/v1/chat/completions",
        headers={"Authorization": f"Bearer {emulator.api_key}"},
        json={
            "model": f"accounts/{emulator.account}/models/harbour",
            "messages": messages,
            "tools": tools,
            "temperature": 0,
            "max_tokens": 120,
        },
        timeout=120,
    )
    (choice,) = answer.json()["choices"]
    return choice  # type: ignore[no-any-return]


def calls(message: dict[str, Any]) -> list[tuple[str, Any]]:
    """Names and arguments of the calls of a message."""
    functions = [call["function"] for call in message.get("tool_calls") or []]
    return [
        (one["name"], json.loads(one["arguments"]) if isinstance(one["arguments"], str) else one["arguments"])
        for one in functions
    ]


def signatures(made: list[tuple[str, Any]]) -> list[tuple[str, list[str]]]:
    """Names of the functions and of their arguments."""
    return [(name, sorted(arguments)) for name, arguments in made]
