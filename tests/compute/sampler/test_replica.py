"""A replica serves base weights, deltas, adapters; what a failed load leaves; requests in flight during a load."""

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from emulator.backend import BackendError, GenerateRequest
from ftsim.compute.sampler.forward import Forward
from ftsim.compute.sampler.replica import TorchReplica
from tests.compute.sampler.conftest import QWEN
from tests.compute.sampler.trained import Training, sampled_as_trained

LONG = 1000
"""Tokens of an answer that is still being made when weights have been read, on any machine."""


def test_a_chain_of_deltas_reproduces_the_trained_weights_bit_for_bit(
    own: TorchReplica, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    training = Training(bases(QWEN))
    training.step()
    own.load_base(training.save(tmp_path / "s0", "s0"), "s0")
    for index in range(1, 31):
        training.step()
        own.apply_delta(training.save(tmp_path / f"s{index}", f"s{index}", "delta"), f"s{index}")
    assert sampled_as_trained(training, own) < 1e-4
    before = own.fingerprint()
    own.load_base(training.save(tmp_path / "whole", "whole"), "whole")
    assert own.fingerprint() == before


def test_a_delta_against_other_weights_is_refused_and_nothing_changes(
    own: TorchReplica, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    training = Training(bases(QWEN))
    base = training.save(tmp_path / "s0", "s0")
    training.step()
    training.save(tmp_path / "s1", "s1", "delta")
    training.step()
    skipping = training.save(tmp_path / "s2", "s2", "delta")
    own.load_base(base, "s0")
    before, prompt = own.fingerprint(), own.encode("The cat")
    answer = own.generate(GenerateRequest(prompt, seed=1)).result().text
    with pytest.raises(BackendError, match=r"[Cc]hecksum"):
        own.apply_delta(skipping, "s2")
    assert own.fingerprint() == before
    assert own.generate(GenerateRequest(prompt, seed=1)).result().text == answer


def test_a_failed_delta_in_place_spoils_the_weights_until_a_base_comes(
    own: TorchReplica, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    training = Training(bases(QWEN))
    base = training.save(tmp_path / "s0", "s0")
    training.step()
    training.save(tmp_path / "s1", "s1", "delta")
    training.step()
    skipping = training.save(tmp_path / "s2", "s2", "delta")
    own.load_base(base, "s0")
    before = own.fingerprint()
    with pytest.raises(BackendError):
        own.apply_delta(skipping, "s2", in_place=True)
    assert own.fingerprint() != before
    own.load_base(base, "s0")
    assert own.fingerprint() == before


def test_an_adapter_serves_the_trained_policy_and_a_base_takes_it_off(
    own: TorchReplica, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    training = Training(bases(QWEN), lora_rank=4)
    for _ in range(3):
        training.step()
    bare = own.fingerprint()
    own.load_adapter(training.save(tmp_path / "a", "a"), "a")
    assert own.fingerprint() != bare
    assert sampled_as_trained(training, own) < 1e-4
    own.load_base(bases(QWEN), "base")
    assert own.fingerprint() == bare
    assert sampled_as_trained(training, own) > 1e-2


def test_an_adapter_goes_on_top_of_the_deltas_that_came_before(
    own: TorchReplica, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    """The weights held after a delta live in memory; whatever needs them as files gets the newest ones."""
    training, adapting = Training(bases(QWEN)), Training(bases(QWEN), lora_rank=4)
    own.load_base(training.save(tmp_path / "s0", "s0"), "s0")
    training.step()
    own.apply_delta(training.save(tmp_path / "s1", "s1", "delta"), "s1")
    adapting.step()
    adapter = adapting.save(tmp_path / "a", "a")
    own.load_adapter(adapter, "a")
    after_delta = own.fingerprint()
    own.load_base(training.save(tmp_path / "whole", "whole"), "whole")
    own.load_adapter(adapter, "a")
    assert own.fingerprint() == after_delta


def _torn(folder: Path, base: Path) -> Path:
    shutil.copytree(base, folder)
    (folder / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:1000])
    return folder


def _smaller(folder: Path, base: Path) -> Path:
    shutil.copytree(base, folder)
    tensors = load_file(base / "model.safetensors")
    save_file(dict(list(tensors.items())[1:]), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("spoil", [_torn, _smaller])
def test_weights_that_do_not_open_leave_what_was_served(
    own: TorchReplica, bases: Callable[[str], Path], tmp_path: Path, spoil: Callable[[Path, Path], Path]
) -> None:
    before = own.fingerprint()
    with pytest.raises(BackendError):
        own.load_base(spoil(tmp_path / "bad", bases(QWEN)), "bad")
    with pytest.raises(BackendError):
        own.load_adapter(tmp_path / "bad", "bad")
    assert own.fingerprint() == before
    assert own.generate(GenerateRequest(own.encode("The cat"), max_tokens=3)).result().tokens


def _zeroed(folder: Path, base: Path) -> Path:
    """Weights under which every next token is as likely as any other."""
    shutil.copytree(base, folder)
    tensors = {name: torch.zeros_like(value) for name, value in load_file(base / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_async_swaps_under_a_running_request_and_sync_lets_it_finish(
    bases: Callable[[str], Path], tmp_path: Path
) -> None:
    flat = _zeroed(tmp_path / "flat", bases(QWEN))
    uniform = -torch.tensor(2048.0).log().item()
    for transition, mixed in (("ASYNC", True), ("SYNC", False)):
        replica = TorchReplica(bases(QWEN), max_context_length=2048)
        future = replica.generate(GenerateRequest(replica.encode("The cat"), max_tokens=LONG, ignore_eos=True))
        while not replica._sampler._running:
            time.sleep(0.001)
        replica.load_base(flat, "flat", transition)  # type: ignore[arg-type]
        assert future.done() is not mixed
        later = [token.logprob == pytest.approx(uniform, abs=1e-4) for token in future.result().tokens]
        assert (not later[0], later[-1]) == (True, mixed)
        after = replica.generate(GenerateRequest(replica.encode("The cat"), max_tokens=4)).result()
        assert [token.logprob for token in after.tokens] == pytest.approx([uniform] * len(after.tokens), abs=1e-4)
        replica.close()


def test_a_delta_comes_between_two_steps_of_a_running_request_or_after_it(
    bases: Callable[[str], Path], tmp_path: Path
) -> None:
    for transition, mixed in (("ASYNC", True), ("SYNC", False)):
        training, replica = Training(bases(QWEN)), TorchReplica(bases(QWEN), max_context_length=2048)
        replica.load_base(training.save(tmp_path / f"{transition}-0", "s0"), "s0")
        training.step()
        delta = training.save(tmp_path / f"{transition}-1", "s1", "delta")
        future = replica.generate(GenerateRequest(replica.encode("The cat"), max_tokens=LONG, ignore_eos=True))
        while not replica._sampler._running:
            time.sleep(0.001)
        replica.apply_delta(delta, "s1", transition)  # type: ignore[arg-type]
        assert future.done() is not mixed
        assert len(future.result().tokens) == LONG
        assert sampled_as_trained(training, replica) < 1e-4
        replica.close()


def test_a_closed_replica_refuses_and_fails_what_runs(bases: Callable[[str], Path]) -> None:
    replica = TorchReplica(bases(QWEN), max_context_length=4096)
    future = replica.generate(GenerateRequest(replica.encode("The cat"), max_tokens=4000, ignore_eos=True))
    replica.close()
    with pytest.raises(BackendError, match="shut down"):
        future.result()
    with pytest.raises(BackendError, match="shut down"):
        replica.generate(GenerateRequest([1]))
    with pytest.raises(BackendError, match="shut down"):
        replica.load_base(bases(QWEN), "late")


def test_a_replica_that_is_closed_during_a_load_keeps_its_files_until_the_load_ends(
    bases: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = TorchReplica(bases(QWEN))
    opened, reached, go = replica._open, threading.Event(), threading.Event()

    def held_open(folder: Path) -> object:
        reached.set()
        assert go.wait(20)
        return opened(folder)

    monkeypatch.setattr(replica, "_open", held_open)
    with ThreadPoolExecutor(2) as pool:
        loading = pool.submit(replica.load_base, bases(QWEN), "late")
        assert reached.wait(20)
        closing = pool.submit(replica.close)
        with pytest.raises(TimeoutError):
            closing.result(0.2)
        go.set()
        with pytest.raises(BackendError, match="shut down"):
            loading.result(20)
        closing.result(20)
    assert not Path(replica._place.name).exists()


def test_a_disk_that_takes_no_weights_is_an_error_of_the_load(own: TorchReplica, bases: Callable[[str], Path]) -> None:
    own._place.cleanup()
    with pytest.raises(BackendError, match="cannot be stored"):
        own.load_base(bases(QWEN), "late")


def test_a_delta_folder_of_other_shards_is_refused(
    own: TorchReplica, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    training = Training(bases(QWEN))
    own.load_base(training.save(tmp_path / "s0", "s0"), "s0")
    folder = training.save(tmp_path / "s1", "s1", "delta")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    with pytest.raises(BackendError, match="weight files"):
        own.apply_delta(folder, "s1")


def test_a_prefill_that_fails_answers_its_requests_and_the_next_ones_are_served(
    own: TorchReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefill, broken = Forward.prefill, iter([True])

    def once_broken(*args: Any) -> Any:
        if next(broken, False):
            raise RuntimeError("out of memory")
        return prefill(*args)

    monkeypatch.setattr(Forward, "prefill", once_broken)
    request = GenerateRequest(own.encode("Nora said"), max_tokens=4, seed=1)
    with pytest.raises(BackendError, match="generation failed: out of memory"):
        own.generate(request).result(timeout=30)
    assert len(own.generate(request).result(timeout=30).tokens) == 4


def test_a_request_that_is_cancelled_leaves_the_batch_or_never_joins_it(own: TorchReplica) -> None:
    told: list[int] = []
    running = own.generate(
        GenerateRequest(own.encode("The cat"), max_tokens=500, ignore_eos=True),
        lambda tokens, _: told.append(len(tokens)),
    )
    while not told:
        time.sleep(0.001)
    assert running.cancel()
    while own._sampler._running:
        time.sleep(0.001)
    assert len(told) < 400
    beside = own.generate(GenerateRequest(own.encode("The cat"), max_tokens=500, ignore_eos=True))
    while not own._sampler._running:
        time.sleep(0.001)
    with own._sampler._changed:
        late = own._sampler._waiting
        waiting = own.generate(GenerateRequest(own.encode("Nora said"), max_tokens=4), lambda tokens, _: told.clear())
        assert len(late) == 1
        assert waiting.cancel()
    beside.cancel()
    assert own.generate(GenerateRequest(own.encode("The cat"), max_tokens=4)).result(30).tokens
    assert told
