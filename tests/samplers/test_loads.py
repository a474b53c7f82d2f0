"""Hot loads, whichever sampler serves: full weights, deltas, adapters, another model, what fails."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from emulator.backend import BackendError, GenerateRequest, Replica
from ftsim.compute.quiet import quiet
from ftsim.compute.vllm.replica import VllmReplica
from tests.compute.sampler.trained import Training, sampled_as_trained
from tests.samplers.conftest import CONTEXT, Make

CLOSE = 2e-4
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def greedy(replica: Replica, count: int = 8) -> list[tuple[int, float]]:
    request = GenerateRequest(replica.encode("Nora said"), max_tokens=count, temperature=0, ignore_eos=True)
    return [(token.token_id, token.logprob) for token in replica.generate(request).result(60).tokens]


def by_transformers(model: Any, prompt: Sequence[int], count: int = 8) -> list[tuple[int, float]]:
    """Greedy tokens and their log-probabilities, by whole forwards."""
    tokens, found = list(prompt), []
    with torch.inference_mode():
        for _ in range(count):
            row = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0, -1], -1)
            tokens.append(int(row.argmax()))
            found.append((tokens[-1], float(row.max())))
    return found


def same(found: list[tuple[int, float]], expected: list[tuple[int, float]]) -> bool:
    return [token for token, _ in found] == [token for token, _ in expected] and all(
        abs(one - other) < CLOSE for (_, one), (_, other) in zip(found, expected, strict=True)
    )


def opened(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_weights_and_deltas_that_are_loaded_answer_from_the_next_request_on(
    make: Make, base: Path, tmp_path: Path
) -> None:
    replica, training = make(base), Training(base)
    training.step()
    replica.load_base(training.save(tmp_path / "s0"), "s0")
    assert sampled_as_trained(training, replica) < CLOSE
    for index in range(1, 4):
        training.step()
        assert sampled_as_trained(training, replica) > 10 * CLOSE
        replica.apply_delta(training.save(tmp_path / f"s{index}", kind="delta"), f"s{index}")
        assert sampled_as_trained(training, replica) < CLOSE
    before = replica.fingerprint()
    replica.load_base(training.save(tmp_path / "whole"), "whole")
    assert replica.fingerprint() == before
    training.step()
    training.save(tmp_path / "s4", kind="delta")
    training.step()
    with pytest.raises(BackendError, match=r"[Cc]hecksum"):
        replica.apply_delta(training.save(tmp_path / "s5", kind="delta"), "s5")
    assert replica.fingerprint() == before


def test_adapters_follow_each_other_and_a_base_takes_the_last_one_off(make: Make, base: Path, tmp_path: Path) -> None:
    replica, training = make(base), Training(base, lora_rank=4)
    bare, plain = replica.fingerprint(), greedy(replica)
    for index in range(4):
        training.step()
        replica.load_adapter(training.save(tmp_path / f"a{index}"), "adapter")  # one name for all of them (E37)
        assert sampled_as_trained(training, replica) < CLOSE
    assert replica.fingerprint() != bare
    replica.load_base(base, "base")
    assert replica.fingerprint() == bare
    assert same(greedy(replica), plain)
    assert sampled_as_trained(training, replica) > 10 * CLOSE


FORMS: dict[str, dict[str, Any]] = {
    "all": {},
    "one module": {"target_modules": ["q_proj"]},
    "rank-stabilised": {"use_rslora": True, "r": 12},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 64}},
    "output layer": {"target_modules": ["q_proj", "lm_head"]},
}


def adapter(folder: Path, base: Path, **settings: Any) -> Path:
    """An adapter that peft makes, with random weights on both sides."""
    torch.manual_seed(1)
    asked = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "init_lora_weights": False, **settings}
    with quiet():
        get_peft_model(opened(base), LoraConfig(task_type="CAUSAL_LM", **asked)).save_pretrained(folder)
    return folder


def test_adapters_of_peft_answer_as_peft_does_and_take_nothing_with_them(
    make: Make, base: Path, tmp_path: Path
) -> None:
    replica = make(base)
    prompt, plain = replica.encode("Nora said"), greedy(replica)
    for name, form in FORMS.items():
        folder = adapter(tmp_path / name.replace(" ", "-"), base, **form)
        replica.load_adapter(folder, name)
        with quiet():
            expected = by_transformers(PeftModel.from_pretrained(opened(base), folder), prompt)
        assert not same(expected, plain)
        assert same(greedy(replica), expected), name
    replica.load_base(base, "base")
    assert same(greedy(replica), plain)


def _of_another_layer(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name.replace("layers.1.", "layers.9."): one for name, one in tensors.items()},
        folder / "adapter_model.safetensors",
    )


def _without_a_half(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file(dict(sorted(load_file(file).items())[:-1]), file)


@pytest.mark.parametrize("spoil", [_of_another_layer, _without_a_half])
def test_an_adapter_that_does_not_fit_is_refused_and_changes_nothing(
    make: Make, base: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    replica, folder = make(base), adapter(tmp_path / "a", base)
    plain, before = greedy(replica), replica.fingerprint()
    spoil(folder)
    with pytest.raises(BackendError, match="the adapter does not fit this model"):
        replica.load_adapter(folder, "a")
    assert replica.fingerprint() == before
    assert same(greedy(replica), plain)


def test_weights_that_lack_a_tensor_are_refused_and_another_model_is_served(
    make: Make, base: Path, build: Callable[..., Path], tmp_path: Path
) -> None:
    replica = make(base)
    plain, before = greedy(replica), replica.fingerprint()
    torn = Path(shutil.copytree(base, tmp_path / "torn"))
    tensors = load_file(base / "model.safetensors")
    save_file(dict(sorted(tensors.items())[1:]), torn / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError):
        replica.load_base(torn, "torn")
    assert replica.fingerprint() == before
    assert same(greedy(replica), plain)
    deeper = build(seed=2, num_hidden_layers=3, tie_word_embeddings=True)
    replica.load_base(deeper, "deeper")
    assert same(greedy(replica), by_transformers(opened(deeper), replica.encode("Nora said")))


@pytest.mark.parametrize("transition", ["ASYNC", "SYNC"])
def test_a_load_comes_between_two_steps_of_a_running_request_or_after_it(
    make: Make, base: Path, tmp_path: Path, transition: Any
) -> None:
    flat = Path(shutil.copytree(base, tmp_path / "flat"))
    zeros = {name: torch.zeros_like(value) for name, value in load_file(base / "model.safetensors").items()}
    save_file(zeros, flat / "model.safetensors", metadata={"format": "pt"})
    uniform = -torch.tensor(2048.0).log().item()
    replica = make(base)
    began: set[int] = set()
    futures = [
        replica.generate(
            GenerateRequest(replica.encode("The cat"), max_tokens=120, ignore_eos=True, seed=seed),
            lambda *_, seed=seed: began.add(seed),
        )
        for seed in range(32)
    ]
    until = time.monotonic() + 60
    while len(began) < 32 and time.monotonic() < until:  # what has not begun is served by the new weights
        time.sleep(0.001)
    replica.load_base(flat, "flat", transition)
    ended = [future.result(60).tokens[-1].logprob == pytest.approx(uniform, abs=1e-4) for future in futures]
    assert transition == "ASYNC" or not any(ended)
    assert began
    assert all(len(future.result().tokens) == 120 for future in futures)
    assert [value for _, value in greedy(replica)] == pytest.approx([uniform] * 8, abs=1e-4)


def test_a_replica_that_is_closed_refuses(make: Make, base: Path) -> None:
    replica = make(base)
    replica.close()
    with pytest.raises(BackendError, match="shut down"):
        replica.generate(GenerateRequest([1]))
    with pytest.raises(BackendError, match="shut down"):
        replica.load_base(base, "late")


@pytest.mark.vllm
def test_a_model_that_the_engine_cannot_compute_is_refused_when_it_opens(build: Callable[..., Path]) -> None:
    with pytest.raises(BackendError, match=r"vLLM cannot serve this model: .*head_dim=16"):
        VllmReplica(build(head_dim=16), max_context_length=CONTEXT)


@pytest.mark.vllm
def test_an_engine_that_is_killed_fails_what_it_has_and_says_so(base: Path) -> None:
    replica = VllmReplica(base, max_context_length=CONTEXT)
    process = replica._engine._process._process
    process.kill()
    process.wait()
    with pytest.raises(BackendError, match=r"vLLM ended: status -9") as caught:
        replica.generate(GenerateRequest([1, 2, 3], max_tokens=100)).result(60)
    assert caught.value.category == "server"
    replica.close()


@pytest.mark.vllm
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_other_families_answer_as_transformers_does_and_their_adapters_as_peft(
    family: str, build: Callable[..., Path], tmp_path: Path
) -> None:
    folder = build(family, seed=3)
    replica = VllmReplica(folder, max_context_length=CONTEXT)
    prompt = replica.encode("Nora said")
    assert same(greedy(replica), by_transformers(opened(folder), prompt))
    other = build(family, seed=4)
    replica.load_base(other, "other")
    assert same(greedy(replica), by_transformers(opened(other), prompt))
    lora = adapter(tmp_path / "a", other)
    replica.load_adapter(lora, "a")
    with quiet():
        expected = by_transformers(PeftModel.from_pretrained(opened(other), lora), prompt)
    assert same(greedy(replica), expected)
    replica.close()


def test_a_folder_says_what_it_is(base: Path) -> None:
    """So that these tests are of what they say: a head of 32, plain and untied."""
    config = json.loads((base / "config.json").read_text())
    assert (config["head_dim"], config["tie_word_embeddings"]) == (32, False)
