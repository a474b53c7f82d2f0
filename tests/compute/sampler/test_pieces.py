"""A long prompt is computed in pieces, with the numbers of the whole, while others take their steps."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from emulator.backend import BackendError, GenerateRequest
from ftsim.compute.sampler import pieces
from ftsim.compute.sampler.forward import Forward
from ftsim.compute.sampler.pieces import Begun
from ftsim.compute.sampler.replica import TorchReplica
from tests.compute.sampler.conftest import QWEN

PROMPT = tuple(torch.randint(5, 1900, (1300,), generator=torch.Generator().manual_seed(2)).tolist())
LONG = GenerateRequest(PROMPT, 6, seed=3)


@pytest.fixture
def replica(bases: Callable[[str], Path]) -> Iterator[TorchReplica]:
    made = TorchReplica(bases(QWEN), max_context_length=4096)
    yield made
    made.close()


def told(replica: TorchReplica, request: GenerateRequest = LONG) -> list[tuple[int, float]]:
    tokens = replica.generate(request).result(60).tokens
    return [(token.token_id, round(token.logprob, 6)) for token in tokens]


def test_it_says_what_the_whole_says(replica: TorchReplica, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    advance = Begun.advance

    def noted(begun: Begun, forward: Forward) -> Tensor | None:
        found.append(begun.batch.columns)
        return advance(begun, forward)

    monkeypatch.setattr(Begun, "advance", noted)
    in_pieces = told(replica)
    assert found[:2] == [0, pieces.MOST]
    taken = len(found)
    assert taken >= 3
    monkeypatch.setattr(pieces, "LONG", 1 << 20)
    assert told(replica) == in_pieces
    assert len(found) == taken


def test_siblings_of_a_long_prompt_share_it(replica: TorchReplica) -> None:
    alone = told(replica)
    futures = [replica.generate(LONG) for _ in range(3)]
    assert all([token.token_id for token in one.result(60).tokens] == [first for first, _ in alone] for one in futures)


def test_others_take_a_step_between_two_pieces(replica: TorchReplica, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    tokens: list[Any] = []
    advance = Begun.advance

    def noted(begun: Begun, forward: Forward) -> Tensor | None:
        counts.append(len(tokens))
        return advance(begun, forward)

    monkeypatch.setattr(Begun, "advance", noted)
    other = GenerateRequest((5, 6, 7), 2000, seed=1, ignore_eos=True)
    running = replica.generate(other, lambda new, text: tokens.extend(new))
    long = replica.generate(LONG)
    long.result(60)
    running.cancel()
    assert counts == list(range(counts[0], counts[0] + len(counts)))


def test_what_fails_in_a_piece_is_answered(replica: TorchReplica, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(Forward, "extend", broken)
        with pytest.raises(BackendError, match="no memory"):
            told(replica)
    assert told(replica)


@pytest.mark.parametrize("more", [{"echo": True}, {"echo_last": 3}])
def test_what_wants_the_prompts_positions_gets_them_at_once(
    replica: TorchReplica, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    monkeypatch.delattr(Begun, "advance")
    made = replica.generate(GenerateRequest(PROMPT, 1, seed=3, **more)).result(60)
    assert len(made.prompt_tokens) == more.get("echo_last", len(PROMPT))
