"""Vectors of prompts are those of the served weights, in every family, beside generations and after loads."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from emulator.backend import BackendError, GenerateRequest
from ftsim.compute.quiet import quiet
from ftsim.compute.sampler.forward import Forward
from ftsim.compute.sampler.replica import TorchReplica
from tests.compute.sampler.conftest import FAMILIES, QWEN
from tests.compute.sampler.trained import Training
from tests.zoo import folders

OTHERS = ("bamba", "cohere2", "gemma3", "gpt_oss", "granite", "llama4", "minimax", "mistral", "qwen3_5", "qwen3_next")
PROMPT = [5 + 7 * at % 90 for at in range(40)]


def right(folder: Path, tokens: Sequence[int]) -> torch.Tensor:
    """The mean of what transformers gives its output layer, of length 1."""
    with quiet(), torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        given: list[torch.Tensor] = []
        model.get_output_embeddings().register_forward_pre_hook(lambda _, args: given.append(args[0]))
        model(input_ids=torch.tensor([list(tokens)]), use_cache=False)
    made: torch.Tensor = torch.nn.functional.normalize(given[0][0].double().mean(dim=0), dim=0)
    return made


def off(found: Sequence[float], expected: torch.Tensor) -> float:
    return float((torch.tensor(found, dtype=torch.float64) - expected).abs().max())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_shipped_model_embeds_as_transformers_does(name: str, bases: Callable[[str], Path]) -> None:
    replica = TorchReplica(bases(name))
    found = replica.embed(PROMPT).result(60)
    replica.close()
    assert off(found, right(bases(name), PROMPT)) < 1e-5


@pytest.mark.parametrize("name", OTHERS)
def test_a_family_of_transformers_embeds_as_it_does_there(name: str, tmp_path: Path) -> None:
    replica = TorchReplica(folders.write(name, tmp_path / name))
    try:
        found = replica.embed(PROMPT).result(60)
    finally:
        replica.close()
    assert off(found, right(tmp_path / name, PROMPT)) < 1e-5


def test_what_is_loaded_embeds_and_a_delta_changes_the_vector(
    own: TorchReplica, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    before = own.embed(PROMPT).result(60)
    training = Training(bases(QWEN))
    training.step()
    own.load_base(training.save(tmp_path / "s0", "s0"), "s0")
    assert off(own.embed(PROMPT).result(60), right(tmp_path / "s0", PROMPT)) < 1e-5
    training.step()
    own.apply_delta(training.save(tmp_path / "s1", "s1", "delta"), "s1")
    whole = training.save(tmp_path / "whole", "whole")
    after = own.embed(PROMPT).result(60)
    assert off(after, right(whole, PROMPT)) < 1e-5
    assert after != before


def test_a_generation_and_a_vector_leave_no_trace_on_each_other(own: TorchReplica) -> None:
    request = GenerateRequest(PROMPT, max_tokens=60, seed=2, ignore_eos=True)
    alone, vector = own.generate(request).result(60), own.embed(PROMPT).result(60)
    begun = threading.Event()
    running = own.generate(request, lambda tokens, text: begun.set())
    assert begun.wait(20)
    assert own.embed(PROMPT).result(60) == vector
    assert running.result(60).tokens == alone.tokens


def test_what_does_not_fit_is_refused_and_what_fails_is_told_alone(
    own: TorchReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    for prompt, said in (
        ([], "empty"),
        ([1] * 513, "The prompt is too long: 513, model maximum context length: 512"),
        ([-1], "token ids outside"),
    ):
        with pytest.raises(BackendError, match=said):
            own.embed(prompt)
    states = Forward.states
    for broken, said in ((lambda *_: 1 / 0, "the embedding failed"), (lambda *_: torch.zeros(2, 3), "no direction")):
        monkeypatch.setattr(Forward, "states", broken)
        with pytest.raises(BackendError, match=said):
            own.embed([1]).result(60)
    monkeypatch.setattr(Forward, "states", states)
    assert own.embed([1]).result(60)


def test_a_closed_replica_refuses_and_fails_what_waits(
    bases: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = TorchReplica(bases(QWEN))
    reached, go, states = threading.Event(), threading.Event(), Forward.states

    def held(forward: Forward, prompt: Sequence[int]) -> torch.Tensor:
        reached.set()
        assert go.wait(20)
        return states(forward, prompt)

    monkeypatch.setattr(Forward, "states", held)
    first, cancelled, second = (replica.embed([1, 2]) for _ in range(3))
    assert reached.wait(20)
    assert cancelled.cancel()
    closing = threading.Thread(target=replica.close)
    closing.start()
    while not replica._sampler._closed:
        pass
    go.set()
    closing.join(20)
    assert first.result(20)
    with pytest.raises(BackendError, match="shut down"):
        second.result(20)
    with pytest.raises(BackendError, match="shut down"):
        replica.embed([1])
