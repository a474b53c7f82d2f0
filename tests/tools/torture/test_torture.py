"""A program that survives is told so, and every way of not surviving is caught by name."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ftsim.cli.main import app
from ftsim.tools.torture import Disturbance, Evidence, TortureError, Verdict, compare, plan, torture
from ftsim.tools.torture.evidence import Resumed
from ftsim.tools.torture.run import KILL_PROMOTING, KILL_SAVED, KILL_SAVING
from tests.doubles import DictBackend

PROGRAMS = Path(__file__).parent / "programs.py"
KILLS = [Disturbance(3, "kill"), Disturbance(6, "kill")]


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., Verdict]:
    folder = tmp_path / "folder"
    folder.mkdir()

    def run(kind: str, *disturbances: Disturbance, **options: object) -> Verdict:
        chosen = {"disturbances": disturbances} if disturbances else {}
        return torture(
            [str(PROGRAMS), kind],
            backend=lambda: DictBackend(tmp_path / "base"),
            folder=folder,
            timeout_s=60,
            **chosen,  # type: ignore[arg-type]
            **options,  # type: ignore[arg-type]
        )

    return run


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_careful_program_survives(judge: Callable[..., Verdict], seed: int) -> None:
    verdict = judge("careful", seed=seed, kills=2, failures=4)
    assert verdict.survived, (verdict.problems, verdict.struck)
    assert verdict.steps == 8
    assert verdict.starts >= 2
    assert sum("kill" in line for line in verdict.struck) >= 1


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        pytest.param("naive", "rows more often", marks=pytest.mark.slow),
        pytest.param("leaky", "leaked", marks=pytest.mark.slow),
        ("hasty", "promoted the wrong checkpoint as out: one of 2 steps, not the one of 8 steps"),
    ],
)
def test_what_a_program_gets_wrong_is_named(judge: Callable[..., Verdict], kind: str, problem: str) -> None:
    verdict = judge(kind, *KILLS)
    assert any(problem in found for found in verdict.problems), verdict.problems
    assert verdict.starts == 3


PROBLEMS = {
    "careful": "",
    "listing": "",
    "often": "",
    "twice": "rows more often",
    "weights": "resumed without the optimizer's state: it loaded s",
    "skips": "left out",
    "naive": "rows more often",
    "leaky": "leaked",
    "hasty": "promoted the wrong checkpoint as out",
}
"""The programs, and of the faulty ones what must be said of them."""
ALWAYS = {("weights", 2)}
"""What the default suite tries; with seeds like this it was once taken for a program that survives."""
CASES = [(kind, seed) for seed in range(1, 11) for kind in PROBLEMS]


@pytest.mark.parametrize(
    ("kind", "seed"), [pytest.param(*case, marks=() if case in ALWAYS else pytest.mark.slow) for case in CASES]
)
def test_whatever_the_seed_the_verdict_is_right(judge: Callable[..., Verdict], kind: str, seed: int) -> None:
    verdict = judge(kind, seed=seed, kills=3, failures=0)
    print(
        f"{kind}, seed {seed}: {verdict.alone_s:.1f} s alone, {verdict.disturbed_s:.1f} s disturbed; "
        f"{'; '.join(verdict.problems) or 'survived'}"
    )
    assert verdict.judged
    assert verdict.survived == (not PROBLEMS[kind]), (verdict.problems, verdict.struck)
    assert not PROBLEMS[kind] or any(PROBLEMS[kind] in found for found in verdict.problems), verdict.problems
    if kind == "weights":
        assert any("promoted other weights as out" in found for found in verdict.problems), verdict.problems
    if kind != "leaky":  # which comes back to nothing
        assert verdict.resumed
        assert "came back to s" in verdict.resumed[0]


def test_a_program_that_never_comes_back_to_a_save_is_not_judged(judge: Callable[..., Verdict]) -> None:
    verdict = judge("anew", seed=1, kills=1, failures=0)
    assert verdict.problems == []
    assert not verdict.judged
    assert not verdict.survived


def test_the_kills_that_judge_come_first() -> None:
    for seed in range(10):
        made = plan(seed, 20, kills=4, failures=0, saves=5, promotes=True)
        assert {one.what for one in made} == {"kill", KILL_SAVED, KILL_PROMOTING, KILL_SAVING}
        assert all(one.after_steps < 5 for one in made if one.what == KILL_SAVED)


def test_lost_answers_and_a_preemption_alone_are_survived(judge: Callable[..., Verdict]) -> None:
    verdict = judge(
        "careful",
        Disturbance(2, "http.lose_reply", "after", "optim_step"),
        Disturbance(4, "preempt"),
        Disturbance(7, "http.fail", 503, "retrieve_future"),
    )
    assert verdict.survived, verdict.problems
    assert len(verdict.struck) == 3


def test_a_program_that_fails_by_itself_is_not_judged(tmp_path: Path) -> None:
    with pytest.raises(TortureError, match="left alone, the program ended with"):
        torture(["-m", "no_such_module"], backend=lambda: DictBackend(tmp_path / "b"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "false"], "left alone, the program ended with 1"),
        (["--", "/bin/false"], "left alone, the program ended with 1"),
        (["--", "./exits.sh"], "left alone, the program ended with 7"),
        (["--kills", "1", "--", "no-such-command-here"], "there is no command"),
        (["-m", "no_such_module", "--kills", "3"], "No module named no_such_module"),
    ],
)
def test_the_command_runs_what_it_is_given(
    tmp_path: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exits.sh").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "exits.sh").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["torture", "--folder", str(tmp_path), *words])
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_seed_fixes_what_happens() -> None:
    made = [plan(seed, 20, kills=2, failures=4) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    assert sum(one.what == "kill" for one in made[0]) == 2
    assert all(1 <= one.after_steps < 20 for one in made[0])


A, B, C = ("a",), ("b",), ("c",)


@pytest.mark.parametrize(
    ("rough", "problem"),
    [
        (Evidence({"m": (A, B)}, (A, B)), None),
        (Evidence({"m": (A, B)}, (A,)), "lost 1 optimizer steps"),
        (Evidence({"m": (A, B)}, (A, B, B)), "trained 1 rows more often"),
        (Evidence({"m": (A, B)}, (A, C)), "left out 1 rows"),
        (Evidence({"m": (A, B)}, (B, A)), "in other steps, from step 1"),
        (Evidence({}, (A, B)), "never promoted m"),
        (Evidence({"m": (A,)}, (A, B)), "wrong checkpoint as m"),
        (Evidence({"m": (A, B), "n": ()}, (A, B)), "promoted n, which"),
        (
            Evidence({"m": (A, B)}, (A, B), resumed=[Resumed("j", "s1", 1, False)]),
            "without the optimizer's state: it loaded s1",
        ),
        (Evidence({"m": (A, B)}, (A, B), resumed=[Resumed("j", "s1", 1, True)]), None),
        (
            Evidence({"m": (A, B)}, (A, B), weights={"m": "other"}, resumed=[Resumed("j", "s1", 1, True)]),
            "promoted other weights as m",
        ),
        (Evidence({"m": (A, B)}, (A, B), trainers=["t"]), "leaked 1 trainer, left running: t"),
        (Evidence({"m": (A, B)}, (A, B), deployments=["d"]), "leaked 1 deployment, left running: d"),
        (Evidence({"m": (A, B)}, (A, B), trainers=["t", "u"]), "leaked 2 trainers, left running: t, u"),
    ],
)
def test_the_comparison(rough: Evidence, problem: str | None) -> None:
    found = compare(Evidence({"m": (A, B)}, (A, B)), rough)
    if problem is None:
        assert found == []
    else:
        assert any(problem in one for one in found), found


SFT = """
from training.recipes.sft_loop import Config, main
from training.utils import WeightSyncConfig

main(Config(log_path="./log", base_model="accounts/fireworks/models/qwen3-8b", dataset="data.jsonl",
            tokenizer_model="Qwen/Qwen3-8B", output_model_id="out", lora_rank=8, epochs=1,
            weight_sync=WeightSyncConfig(dcp_save_interval=4)))
"""


@pytest.mark.slow
def test_the_supervised_recipe_survives(tmp_path: Path) -> None:
    from itertools import islice

    from ftsim.compute import data
    from ftsim.compute.backend import TorchBackend

    with data.path("chat-train").open("rb") as rows:
        (tmp_path / "data.jsonl").write_bytes(b"".join(islice(rows, 96)))
    (tmp_path / "train.py").write_text(SFT)
    verdict = torture(
        [str(tmp_path / "train.py")], backend=TorchBackend, folder=tmp_path, seed=1, kills=2, failures=3, timeout_s=300
    )
    assert verdict.survived, (verdict.problems, verdict.struck)
    assert verdict.steps == 12
    assert verdict.starts >= 2
