"""Sampling gives what the model's own forward says: in every family, past every window, alone and in company."""

import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from emulator.backend import GenerateRequest, Generation
from ftsim.compute.checkpoints.source import open_model
from ftsim.compute.sampler.forward import Forward
from ftsim.compute.sampler.precision import widen
from ftsim.compute.sampler.replica import TorchReplica
from tests.zoo import folders

WINDOWED = ("qwen3_window", "mistral", "gpt_oss", "mixtral", "llama4")
AFTER_THE_HEAD = ("cohere", "cohere2", "granite", "gemma2")
OTHER_NORMS = ("qwen3_5", "qwen3_next", "gemma2", "gemma3", "minimax")
STATES = ("bamba",)
REQUESTS = [
    GenerateRequest([5 + 37 * row + at for at in range(2 + 11 * row)], max_tokens=64, ignore_eos=True, seed=row)
    for row in range(4)
]


def drawn(generation: Generation) -> list[tuple[int, float]]:
    return [(token.token_id, token.logprob) for token in generation.tokens]


@pytest.mark.parametrize("name", sorted({*WINDOWED, *AFTER_THE_HEAD, *OTHER_NORMS, *STATES}))
def test_sampled_logprobs_are_those_of_the_models_own_forward(name: str, tmp_path: Path) -> None:
    folder = folders.write(name, tmp_path / name)
    replica = TorchReplica(folder)
    first = replica.generate(REQUESTS[0])
    time.sleep(0.02)  # the others join while it runs
    crowd = [first.result(60), *(future.result(60) for future in map(replica.generate, REQUESTS[1:]))]
    alone = [replica.generate(request).result(60) for request in REQUESTS[:2]]
    replica.close()
    assert [drawn(one) for one in alone] == [drawn(one) for one in crowd[:2]]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for request, result in zip(REQUESTS, crowd, strict=True):
        ids = [token.token_id for token in result.tokens]
        with torch.inference_mode():
            logits = model(torch.tensor([[*request.prompt, *ids]]), use_cache=False).logits[0]
        wanted = torch.log_softmax(logits, -1)[len(request.prompt) - 1 : -1].gather(1, torch.tensor(ids)[:, None])
        found = torch.tensor([token.logprob for token in result.tokens])
        torch.testing.assert_close(found, wanted[:, 0], rtol=0, atol=1e-4)


def test_an_echo_longer_than_the_logits_that_are_held_at_once_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = TorchReplica(folders.write("gemma2", tmp_path / "gemma2"))
    request = GenerateRequest(list(range(5, 45)), max_tokens=2, echo=True, top_logprobs=2, seed=0)
    whole = replica.generate(request).result(60)
    monkeypatch.setattr("ftsim.compute.sampler.forward._LOGITS_BYTES", 8 * 2048 * 7)
    parts = replica.generate(request).result(60)
    replica.close()
    assert [token.token_id for token in parts.prompt_tokens] == list(request.prompt)
    assert [token.logprob for token in parts.prompt_tokens] == pytest.approx(
        [token.logprob for token in whole.prompt_tokens], abs=1e-6
    )
    assert drawn(parts) == drawn(whole)


@pytest.mark.parametrize(("name", "kept"), [("nemotron_h", False), ("granite_hybrid", True), ("bamba", True)])
def test_states_are_kept_between_tokens_only_where_they_give_the_logits_of_the_forward(
    name: str, kept: bool, tmp_path: Path
) -> None:
    """Nemotron-H's may be right for two tokens and wrong from the third on; Bamba's are where positions are given."""
    forward = Forward(widen(open_model(folders.write(name, tmp_path / name), torch.float32)))
    with torch.inference_mode():
        batch, _ = forward.prefill([[1, 2, 3, 4]])
    assert (batch.cache is not None) is kept


def test_a_family_that_cannot_be_batched_is_served_row_by_row_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replica = TorchReplica(folders.write("minimax", tmp_path / "minimax"))
    futures = [replica.generate(request) for request in REQUESTS]
    assert all(len(future.result(60).tokens) == 64 for future in futures)
    replica.close()
    assert "minimax is computed anew for every token" in caplog.text
    assert "minimax is served one row at a time" in caplog.text
