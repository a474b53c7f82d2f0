"""An agent of several turns trains through the SDK's exact-token sidecar: what is trained is what was sampled."""

import json
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.journal import file
from emulator.journal.journal import Exchange
from tests.programs.test_programs import MODELS, run

STEPS, EPISODES, TURNS = 3, 12, 10
NEW = all(find_spec(f"fireworks.training.sdk.{name}") for name in ("tito", "types"))
REFUSALS = ("--quirk", "inference.capacity=4", "--quirk", "http.fail=503@endpoint=completions,times=3")


@pytest.mark.slow
@pytest.mark.skipif(not NEW, reason="this release has no sidecar, or no types of its own")
def test_an_agent_learns_from_the_very_tokens_it_sampled(tmp_path: Path) -> None:
    state = tmp_path / "state"
    arguments = (MODELS + "qwen3-4b-instruct-2507", "Qwen/Qwen3-4B-Instruct-2507", str(STEPS))
    told = run(state, "agent.py", *arguments, options=REFUSALS, patience_s=480)
    assert told["rewards"][-1] > told["rewards"][0] + 2, "of ten turns"
    assert told["calls"][0] > 0.7
    assert told["distance"] < 1e-3
    assert told["dispositions"].count("append") >= TURNS // 2, "histories rendered anew are the tokens sampled, too"
    sampled, trained = journalled(state)
    assert len(sampled) >= STEPS * EPISODES
    assert sum(len(turns) for turns in sampled) == STEPS * EPISODES * TURNS
    assert sorted(map(expected, sampled)) == sorted(trained)
    slowed(told)


def slowed(told: dict[str, Any]) -> None:
    """The window shrank when requests were refused, and every turn was answered all the same."""
    assert {tuple(one) for one in told["attempts"]} == {
        ("succeeded", 200),
        ("retryable_error", 429),
        ("retryable_error", 503),
    }
    first = told["load"][0]
    assert first["congestion_responses"] > 3
    assert min(one["window_after"] for one in told["load"]) <= EPISODES // 2
    assert all(one["requests"] >= EPISODES * TURNS for one in told["load"])


Turn = tuple[list[int], list[int], list[float], str]
"""Prompt, completion, the log-probabilities with which it was sampled, and why it ended."""
Trained = tuple[list[int], list[float]]
"""The tokens of a sequence, and the log-probabilities that they were trained with: 0 where they were not."""


def journalled(state: Path) -> tuple[list[list[Turn]], list[Trained]]:
    """Read what the emulator noted: turns that were sampled, segment by segment, and sequences that were trained."""
    (path,) = until_left(state / "journals")
    with path.open("rb") as lines:
        exchanges = file.read(lines).exchanges
    episodes: dict[str, list[Turn]] = {}
    trained: list[Trained] = []
    for one in exchanges:
        if one.endpoint == "completions" and one.status == 200:
            episodes.setdefault(one.json["prompt_cache_key"], []).append(sampled_in(one))
        elif one.endpoint.endswith("forward_backward") and "importance_sampling" in one.request.decode():
            trained += map(trained_in, one.json["forward_backward_input"]["data"])
    played = list(episodes.values())[: STEPS * EPISODES]  # the last episode is not trained
    return [segment for turns in played for segment in segments(turns)], trained


def until_left(folder: Path) -> list[Path]:
    """The journals of an emulator that ends."""
    for _ in range(600):
        if found := sorted(folder.glob("*.jsonl")):
            return found
        time.sleep(0.1)
    raise AssertionError("no journal was left within a minute")


def sampled_in(exchange: Exchange) -> Turn:
    chunks = [json.loads(line[6:]) for line in exchange.response.decode().splitlines() if line.startswith("data: {")]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    rows = [row["sampling_logprob"] for one in choices if one["logprobs"] for row in one["logprobs"]["content"]]
    last = choices[-1]
    return exchange.json["prompt"], last["raw_output"]["completion_token_ids"], rows, last["finish_reason"]


def segments(turns: Sequence[Turn]) -> list[list[Turn]]:
    """Turns each of which goes on from all tokens of the one before, which the limit has not cut."""
    found: list[list[Turn]] = []
    for turn in turns:
        last = found[-1][-1] if found else turn
        before = last[0] + last[1]
        if last[3] == "stop" and turn[0][: len(before)] == before:
            found[-1].append(turn)
        else:
            found.append([turn])
    return found


def expected(segment: Sequence[Turn]) -> Trained:
    last, said, _, _ = segment[-1]
    tokens, logprobs = last + said, [0.0] * (len(last) + len(said))
    for prompt, completion, rows, _ in segment:
        assert tokens[len(prompt) : len(prompt) + len(completion)] == completion
        logprobs[len(prompt) : len(prompt) + len(completion)] = rows
    return tokens, as_sent(logprobs)


def trained_in(datum: dict[str, Any]) -> Trained:
    (chunk,) = datum["model_input"]["chunks"]
    targets, logprobs = (datum["loss_fn_inputs"][name]["data"] for name in ("target_tokens", "logprobs"))
    assert chunk["tokens"][1:] == targets[:-1]
    return [chunk["tokens"][0], *targets], as_sent([0.0, *logprobs])


def as_sent(values: Sequence[float]) -> list[float]:
    """Rounded to float32, the type of the datum's tensor."""
    return [float(value) for value in np.asarray(values, np.float32)]
