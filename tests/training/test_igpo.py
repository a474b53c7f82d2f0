"""The IGPO recipe from end to end: several turns, paid for what they find out, killed anywhere it ends the same."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emulator.server import Emulator
from ftsim.training.errors import ConfigError, DataError
from ftsim.training.recipes import igpo_loop
from ftsim.training.sampling.environments import Reply
from ftsim.training.trainers import connect
from tests.training.rl_runs import STEPS, check_interruptions, configure, remains, steps
from tests.training.runs import kill_after, run_to_end


@pytest.fixture
def configured(tmp_path: Path, tokenizer_folder: Path) -> Any:
    return partial(configure, igpo_loop, tmp_path, tokenizer_folder)


@pytest.mark.parametrize(
    ("lora_rank", "count"), [(8, 1), *(pytest.param(rank, 10, marks=pytest.mark.slow) for rank in (8, 0))]
)
def test_a_run_interrupted_anywhere_ends_like_one_that_was_not(
    emulator: Emulator, configured: Any, lora_rank: int, count: int
) -> None:
    left = check_interruptions(
        emulator, igpo_loop, partial(configured, lora_rank=lora_rank), count, seed=lora_rank + count
    )
    assert [entry["step"] for entry in left["metrics"]] == [1, 2, 3, 4, 5, 6]
    assert left["cursor"] == 18


@pytest.mark.slow
def test_a_killed_process_is_continued(emulator: Emulator, configured: Any) -> None:
    quiet, killed = configured("quiet", lora_rank=8), configured("killed", lora_rank=8)
    igpo_loop.main(quiet)
    assert kill_after(killed, emulator, 3) < STEPS
    run_to_end(killed, emulator)
    assert remains(emulator, igpo_loop, killed) == remains(emulator, igpo_loop, quiet)
    assert not list(emulator.world.deployments)


@pytest.mark.parametrize(("lora_rank", "kind"), [(8, "HF_PEFT_ADDON"), (0, "HF_BASE_MODEL")])
def test_a_run_promotes_and_leaves_nothing_behind(
    emulator: Emulator, configured: Any, lora_rank: int, kind: str
) -> None:
    config = configured(lora_rank=lora_rank, epochs=1, output_model_id="tuned", information_gain="logprob")
    result = igpo_loop.main(config)
    assert (result["model"] or {})["kind"] == kind
    assert all(1 <= entry["turns"] <= 3 for entry in steps(config))
    assert any(entry["gain"] for entry in steps(config))
    assert connect().get(result["job_id"])["state"] == "JOB_STATE_CANCELLED"
    assert not list(emulator.world.deployments)


def test_a_fork_brings_its_own_environment(emulator: Emulator, configured: Any) -> None:
    heard: list[Sequence[str]] = []

    def stubborn(row: Mapping[str, Any], said: Sequence[str]) -> Reply:
        heard.append(said)
        return Reply("And then?", reward=1.0)

    config = configured(epochs=1, max_turns=2)
    igpo_loop.main(config, environment=stubborn)
    assert {len(said) for said in heard} == {1, 2}
    assert all((entry["turns"], entry["reward"]) == (2, 2) for entry in steps(config))


def test_an_environment_that_pays_no_number_ends_the_run_before_anything_is_trained(
    emulator: Emulator, configured: Any
) -> None:
    with pytest.raises(DataError, match=r"line \d: it was rewarded with nan"):
        igpo_loop.main(configured(), environment=lambda row, said: Reply(None, math.nan))
    assert not emulator.journal.of("optim_step")


def test_an_episode_ends_where_the_context_does(emulator: Emulator, configured: Any) -> None:
    def talkative(row: Mapping[str, Any], said: Sequence[str]) -> Reply:
        return Reply("word " * 60)

    config = configured(epochs=1, max_turns=3)
    igpo_loop.main(config, environment=talkative)
    assert all(entry["turns"] < 3 for entry in steps(config))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"information_gain": "surprise"}, "information_gain 'surprise' is not one of"),
        ({"max_turns": 0}, "max_turns must be at least 1"),
        ({"discount": 1.5}, "discount must lie between 0 and 1"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused(configured: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(**settings)


def test_an_answer_template_that_does_not_fit_the_rows_is_named(emulator: Emulator, configured: Any) -> None:
    with pytest.raises(ConfigError, match=r"answer_template '\{colour\}' does not fit .*line 1"):
        igpo_loop.main(configured(answer_template="{colour}"))
    assert not list(emulator.world.deployments)
