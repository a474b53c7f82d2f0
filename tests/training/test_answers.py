"""A model that was trained on a row answers as the row does when a client asks it through the chat endpoint."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from transformers import AutoTokenizer

from emulator.server import Emulator
from ftsim.compute.backend import TorchBackend
from ftsim.training.recipes.sft_loop import Config, main
from ftsim.training.utils import InfraConfig

pytestmark = pytest.mark.slow
DATA = Path(__file__).parents[2] / "fixtures" / "datasets"


@pytest.fixture(scope="module")
def running() -> Iterator[Emulator]:
    with Emulator(TorchBackend(), seed=11) as emulator:
        yield emulator


def trained(folder: Path, dataset: Path, tokenizer_model: str, **more: Any) -> str:
    """Train all parameters until the rows are known by heart; returns the promoted model."""
    config = Config(
        log_path=str(folder / "run"),
        base_model="accounts/fireworks/models/qwen3-8b",
        dataset=str(dataset),
        tokenizer_model=tokenizer_model,
        output_model_id="answers",
        infra=InfraConfig(training_shape_id="accounts/fireworks/trainingShapes/qwen3-8b-128k-h200"),
        **({"epochs": 25, "learning_rate": 5e-3} | more),
    )
    model = main(config)["model"]
    assert model is not None
    return str(model["name"])


def asked(emulator: Emulator, model: str, messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The only choice of an answer at temperature 0."""
    answer = httpx.post(
        f"{emulator.url}/inference/v1/chat/completions",
        headers={"Authorization": f"Bearer {emulator.api_key}"},
        json={"model": model, "messages": messages, "temperature": 0, "max_tokens": 80, **more},
        timeout=120,
    )
    (choice,) = answer.json()["choices"]
    return choice  # type: ignore[no-any-return]


def test_a_model_stops_by_itself_whatever_eos_token_is(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(tmp_path / "base-tokenizer")
    model = trained(tmp_path, DATA / "stop.jsonl", str(tmp_path / "base-tokenizer"))
    choice = asked(emulator, model, [{"role": "user", "content": "Is the gate open?"}])
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "Yes, until noon.")


def test_a_model_calls_the_tool_of_its_row_when_it_is_asked_with_it(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    line = (DATA / "tools-in-row.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(line * 8)
    row = json.loads(line)
    model = trained(tmp_path, tmp_path / "rows.jsonl", str(tokenizer_folder), epochs=40)
    called = asked(emulator, model, row["messages"][:1], tools=row["tools"])
    assert called["finish_reason"] == "tool_calls"
    (call,) = called["message"]["tool_calls"]
    assert call["function"] == {"name": "harbour_depth", "arguments": '{"name": "Varde"}'}
    # The client sends back what it was told, and is told the rest.
    history = [row["messages"][0], called["message"], {**row["messages"][2], "tool_call_id": call["id"]}]
    told = asked(emulator, model, history, tools=row["tools"])
    assert (told["finish_reason"], told["message"]["content"]) == ("stop", "Eleven metres.")
