"""Programs end with numbers that are right, under `ftsim run` and without a connection that leaves the machine."""

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ftsim.process.environment import PACKAGE_ROOT
from ftsim.testing.tiny import tiny_model

HERE = Path(__file__).parent
MODELS = "accounts/fireworks/models/"


def run(
    state: Path, program: str, *args: str, options: tuple[str, ...] = (), patience_s: float = 240
) -> dict[str, Any]:
    """The last line of a program, which ends within `patience_s`; `options` are those of `ftsim run`."""
    command = [sys.executable, "-m", "ftsim", "run", "--state-dir", str(state), *options, str(HERE / program), *args]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(PACKAGE_ROOT)}, capture_output=True, text=True, timeout=patience_s
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize(("base", "replay"), [("qwen3-4b", False), ("qwen3-30b-a3b", True)])
def test_reinforcement_learning_with_a_reference_model(tmp_path: Path, base: str, replay: bool) -> None:
    told = run(tmp_path / "state", "rl_reference.py", MODELS + base, "4")
    assert told["replay"] is replay
    assert told["routed"] == (told["samples"] if replay else 0)
    assert told["rewards"][-1] > told["rewards"][0] + 0.2
    assert told["distance"] < 1e-5 if replay else told["distance"] < 1e-4


@pytest.mark.slow
def test_reinforcement_learning_that_samples_ahead(tmp_path: Path) -> None:
    told = run(tmp_path / "state", "async_rl.py", MODELS + "qwen3-4b", "5")
    assert told["rewards"][-1] > told["rewards"][0] + 0.2
    assert told["lags"] == [0, 1, 1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dpo", "orpo"])
def test_preferences_are_learned(tmp_path: Path, kind: str) -> None:
    told = run(tmp_path / "state", "preferences.py", kind, MODELS + "qwen3-4b", "6")
    assert told["losses"][-1] < told["losses"][0] * 0.8
    assert told["margins"][-1] > told["margins"][0] + 0.5
    if kind == "dpo":
        assert told["losses"][0] == pytest.approx(math.log(2), abs=1e-4), "the policy begins as its reference"


@pytest.mark.slow
def test_a_student_comes_nearer_to_its_teacher(tmp_path: Path) -> None:
    told = run(tmp_path / "state", "distillation.py", MODELS + "qwen3-4b", "10")
    assert told["reverse_kl"][0] > 0
    assert told["reverse_kl"][-1] < told["reverse_kl"][0] * 0.7


@pytest.mark.slow
def test_a_framework_trains_a_model_of_its_own_name(tmp_path: Path) -> None:
    name = "accounts/mine/models/own"
    options = ("--model", f"{name}={tiny_model(tmp_path / 'own')}")
    told = run(tmp_path / "state", "framework.py", name, "6", options=options)
    assert told["losses"][-1] < told["losses"][0] * 0.3
    assert told["resumed"] == told["losses"]
    assert told["after"] == told["row"] != told["before"]


@pytest.mark.slow
@pytest.mark.parametrize("compute", ["float32", "bfloat16,checkpointing", "checkpointing,compile"])
def test_a_run_with_alpha_64_goes_on_after_a_resume(tmp_path: Path, compute: str) -> None:
    told = run(tmp_path / "state", "alpha_resume.py", MODELS + "qwen3-4b", "4", options=("--compute", compute))
    assert told["losses"][-1] < told["losses"][0] * 0.7
    assert told["difference"] == 0


FAMILIES = (
    "qwen3-4b=Qwen/Qwen3-4B",
    "qwen3-4b-instruct-2507=Qwen/Qwen3-4B-Instruct-2507",
    "qwen3p5-9b=Qwen/Qwen3.5-9B",
    "qwen3p8-27b=Qwen/Qwen3.8-27B",
    "deepseek-v3p1=deepseek-ai/DeepSeek-V3.1",
    "deepseek-v4p1-flash=deepseek-ai/DeepSeek-V4.1-Flash",
    "kimi-k2-thinking=moonshotai/Kimi-K2-Thinking",
    "kimi-k2p6=moonshotai/Kimi-K2.6",
    "glm-5p1=zai-org/GLM-5.1",
    "glm-5p3=zai-org/GLM-5.3",
    "gpt-oss-20b=openai/gpt-oss-20b",
    "llama-v3p1-8b-instruct=meta-llama/Llama-3.1-8B-Instruct",
    "gemma-4-31b-it=google/gemma-4-31B-it",
    "minimax-m3=MiniMaxAI/MiniMax-M3",
    "mistral-small-24b-instruct-2501=mistralai/Mistral-Small-24B-Instruct-2501",
    "nemotron-3-ultra-bf16=nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
)
"""Base model = name of its tokenizer, one or two of each family."""


@pytest.mark.slow
@pytest.mark.parametrize("half", [FAMILIES[:8], FAMILIES[8:]])  # the pool takes eight runs at a time
def test_every_family_is_trained_in_its_own_form(tmp_path: Path, half: tuple[str, ...]) -> None:
    told = run(tmp_path / "state", "supervised_families.py", "8", *half)
    assert len(told) == len(half)
    for name, about in told.items():
        assert about["losses"][-1] < about["losses"][0] * 0.8, name


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tinker") is None, reason="the SDK brings its own types: tox -e sdk-110a64,sdk-1224")
def test_plain_tinker_trains_saves_and_goes_on(tmp_path: Path) -> None:
    told = run(tmp_path / "state", "plain_tinker.py", MODELS + "qwen3-4b", "6")
    assert told["losses"][-1] < told["losses"][0] * 0.3
    assert told["difference"] == 0
    assert told["path"].endswith("/end")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tinker") is None, reason="the SDK brings its own types: tox -e tinker")
def test_a_program_of_tinkers_own_finds_all_it_asks_for(tmp_path: Path) -> None:
    told = run(tmp_path / "state", "native_tinker.py", "Qwen/Qwen3-4B", "12", options=("--tinker",))
    assert told["losses"][-1] < told["losses"][0] * 0.1
    assert told["difference"] == 0
    assert told["scored"] < 1e-4
    assert told["unscored"] is None
    assert told["sampled"] == [told["expected"]] * 2
    assert (told["listed"], told["left"]) == (["weights/half", "sampler_weights/half"], ["weights/half"])
    assert told["runs"] == 2


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tinker_cookbook") is None, reason="needs tinker's cookbook: tox -e cookbook")
def test_the_loops_of_tinkers_cookbook_train_resume_and_reinforce(tmp_path: Path) -> None:
    told = run(tmp_path / "state", "cookbook.py", "Qwen/Qwen3-8B", str(tmp_path / "runs"), options=("--tinker",))
    whole, resumed = told["whole"], told["resumed"]
    assert [round(done * 12) for done, _ in whole] == [*range(1, 13)]
    assert whole[-1][1] < whole[0][1] * 0.2
    assert [round(done * 12) for done, _ in resumed] == [*range(1, 8), *range(5, 13)]
    assert resumed[:7] == whole[:7]
    assert resumed[7][1] < whole[4][1] * 0.8, "the loop saves behind the step from which it goes on: docs/tinker.md"
    assert resumed[-1][1] < whole[0][1] * 0.2
    assert told["rewards"][-1] > told["rewards"][0] + 0.4


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tinker_cookbook") is None, reason="needs tinker's cookbook: tox -e cookbook")
def test_tinkers_cookbook_exports_what_it_trained(tmp_path: Path) -> None:
    base = ("Qwen/Qwen3-8B", MODELS + "qwen3-8b")
    told = run(tmp_path / "state", "cookbook_export.py", *base, str(tmp_path / "runs"), options=("--tinker",))
    assert told["files"] == ["adapter_config.json", "adapter_model.safetensors"]
    assert told["merged"] < 1e-4 > told["peft"]
    assert told["untrained"] > 0.01
    external = told["external"]
    assert external["files"] == ["adapter_config.json.age", "adapter_model.safetensors.age"]
    assert external["equal"]
    assert external["listed"] == ["external_weights/plain", "external_weights/sealed"]
    assert external["types"] == ["external"]
    assert "Sampler checkpoints cannot be downloaded" in told["refused"][0]
    assert "not found" in told["refused"][1]
    assert told["left"] == [], "the export that a download makes is deleted"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("openai") is None, reason="needs the package openai: tox -e programs")
def test_the_client_of_openai_chats(tmp_path: Path) -> None:
    told = run(tmp_path / "state", "openai_client.py", MODELS + "qwen3-4b")
    assert told["said"] == told["streamed"] == "5"
    assert told["tokens"] == 2
    assert told["embedded"] == [2, True, 1.0]
    assert told["responded"] == ["5"] * 3
    assert told["counted"] == [2, 2]
    assert told["called"] == "add"
    assert json.loads(told["arguments"])["a"] in (2, 3)
