"""`ftsim train`: from words to a configuration, and from nothing to a promoted model."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.server import Emulator
from emulator.state.server_record import ServerRecord
from ftsim.cli import overrides, train
from ftsim.compute import data
from ftsim.inspect import curves
from ftsim.training import sdk
from ftsim.training.errors import ConfigError
from ftsim.training.recipes import dpo_loop, sft_loop
from ftsim.training.sampling.policy import connect_deployments
from ftsim.training.sampling.rewards import resolve
from ftsim.training.trainers import connect, job_id_for
from tests.conftest import Ftsim

ROOT = Path(__file__).parents[2]


@dataclass
class Inner:
    steps: int = 0
    rate: float = 0.5


@dataclass
class Settings:
    name: str
    count: int | None = 3
    flag: bool = False
    words: list[str] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["name=a"], Settings("a")),
        (["name=7", "count=null"], Settings("7", None)),
        (["name=a=b", "flag=true", "inner.steps=10"], Settings("a=b", flag=True, inner=Inner(10))),
        (["name=a", "inner.rate=1e-4", "inner.steps=2", "inner.steps=3"], Settings("a", inner=Inner(3, 1e-4))),
        (["name=a", "words=[x, y]"], Settings("a", words=["x", "y"])),
    ],
)
def test_words_become_typed_fields(words: list[str], expected: Settings) -> None:
    assert overrides.build(Settings, overrides.read_assignments(words)) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["name"], "'name' is not key=value"),
        (["=3"], "'=3' is not key=value"),
        (["name=a", "conut=3"], "there is no conut; did you mean count?"),
        (["name=a", "inner.stepz=3"], r"there is no inner\.stepz; did you mean inner\.steps\?"),
        (["name=a", "zzz=3"], "there is no zzz; there are name, count, flag, words, inner"),
        (["name=a", "inner=3"], r"inner holds settings of its own: write inner\.NAME=VALUE"),
        (["name=a", "count=many"], "count: 'many' does not fit"),
        (["name=a", "name.x=3"], "name: {'x': '3'} does not fit"),
        (["count=3"], "name is required"),
    ],
)
def test_a_wrong_word_is_named(words: list[str], message: str) -> None:
    with pytest.raises(overrides.OverrideError, match=message):
        overrides.build(Settings, overrides.read_assignments(words))


def test_words_go_before_the_file_and_both_may_nest(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("name: file\ninner:\n  steps: 4\ninner.rate: 1e-3\n")
    tree = overrides.merged(overrides.read_yaml(path), overrides.read_assignments(["inner.steps=5"]))
    assert overrides.build(Settings, tree) == Settings("file", inner=Inner(5, 1e-3))


@pytest.mark.parametrize(("content", "message"), [("[1, 2]", "must hold a mapping"), ("a: [", "is not YAML")])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(overrides.OverrideError, match=message):
        overrides.read_yaml(path)
    with pytest.raises(overrides.OverrideError, match="cannot be read"):
        overrides.read_yaml(tmp_path / "none.yaml")


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return lambda recipe, *words: train.load(recipe, overrides.read_assignments(list(words)))


def test_nothing_given_is_a_run_on_shipped_data(load: Any) -> None:
    config, main = load("sft")
    assert main is sft_loop.main
    assert (config.dataset, config.eval_dataset) == tuple(str(data.path(f"chat-{part}")) for part in ("train", "eval"))
    assert (config.base_model, config.tokenizer_model) == (train.BASE_MODEL, "Qwen/Qwen3-8B")
    assert (config.lora_rank, config.weight_sync.dcp_save_interval, config.log_path) == (8, 10, "runs/sft")
    assert load("sft")[0].output_model_id == config.output_model_id
    assert load("sft", "log_path=other")[0].output_model_id != config.output_model_id


def test_functions_that_settings_name_are_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command lies elsewhere, and Python looks beside the command."""
    (tmp_path / "rewards_of_mine.py").write_text("def price(text, row):\n    return 1.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    found: list[Any] = []
    monkeypatch.setattr(train, "run", lambda config, *_: (resolve(config.reward_fn, "reward_fn"), None))
    monkeypatch.setattr(train, "report", lambda result, *_: found.append(result))
    train.train("rl", ["reward_fn=rewards_of_mine:price"], None, False, tmp_path / "state")
    assert [one.__name__ for one in found] == ["price"]


def test_what_is_given_wins(load: Any, tmp_path: Path) -> None:
    config, _ = load("dpo", "weight_sync.dcp_save_interval=0", "output_model_id=null", "eval_split=0.2", "beta=0.5")
    assert isinstance(config, dpo_loop.Config)
    assert (config.weight_sync.dcp_save_interval, config.output_model_id, config.beta) == (0, None, 0.5)
    assert (config.eval_dataset, config.eval_split) == (None, 0.2)
    own = tmp_path / "own.jsonl"
    own.write_text("{}")
    assert load("sft", f"dataset={own}")[0].eval_dataset is None
    assert load("sft", f"dataset={own}", "eval_dataset=chat-eval")[0].eval_dataset == str(data.path("chat-eval"))


def test_what_a_recipe_refuses_stays_its_own_error(load: Any) -> None:
    with pytest.raises(ConfigError, match="label_smoothing must be below"):
        load("dpo", "label_smoothing=0.9")


@pytest.mark.parametrize(
    ("recipe", "words", "file", "message"),
    [
        ("nothing", [], None, "there is no recipe 'nothing'; there are sft, dpo, orpo"),
        ("sft", ["lerning_rate=3"], None, "sft: there is no lerning_rate; did you mean learning_rate?"),
        ("sft", ["epochs=0"], None, "sft: epochs must be at least 1"),
        ("sft_loop", ["epochs=0"], None, "sft: epochs must be at least 1"),
        ("igpo", ["reward_fn=nowhere"], None, "igpo: reward_fn is not used here"),
        ("sft", [], Path("none.yaml"), "sft: none.yaml cannot be read"),
        ("sft", [], Path("nowhere.yaml"), "sft: log_path: None does not fit"),
    ],
)
def test_a_wrong_command_says_why_and_starts_nothing(
    load: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recipe: str,
    words: list[str],
    file: Path | None,
    message: str,
) -> None:
    (tmp_path / "nowhere.yaml").write_text("log_path:\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        train.train(recipe, words, file, False, tmp_path / "state")
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "state" / "server.json").exists()


def _refused(config: Any) -> Any:
    raise sdk.RequestFailedError("the trainer\nrefuses it", "req-1", "user")


def _missing_job(config: Any) -> Any:
    return connect().get("nojob")


def _missing_deployment(config: Any) -> Any:
    deployments = connect_deployments(connect())
    return deployments.reattach_trainer("none", base_model="b", trainer_job_name="j", timeout_s=1)


def _malformed_shape(config: Any) -> Any:
    return connect().resolve_training_profile("nope")


def _lost_reply(config: Any) -> Any:
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def _mistake(config: Any) -> Any:
    raise RuntimeError("a fault of the program")


@pytest.fixture
def joined(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """`train.run` finds an emulator that runs already."""
    server = ServerRecord(emu.url, os.getpid(), emu.api_key, emu.account)
    monkeypatch.setattr("ftsim.process.run.join_server", lambda *_, **options: (server, None))
    monkeypatch.setattr("ftsim.process.environment.program_environment", lambda *given: emu.env())


@pytest.mark.usefixtures("joined")
@pytest.mark.parametrize(
    ("main", "message"),
    [
        (_refused, "ftsim: the trainer refuses it\n"),
        (_missing_job, "nojob"),
        (_lost_reply, "ftsim: peer closed connection"),
        (_malformed_shape, "'nope' is not a valid training shape"),
        (_missing_deployment, "ftsim: Deployment 'none' does not exist\n"),
    ],
)
def test_what_the_service_refuses_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], main: Any, message: str
) -> None:
    with pytest.raises(SystemExit):
        train.run(None, main, tmp_path)
    said = capsys.readouterr().err
    assert said.startswith("ftsim: ")
    assert said.count("\n") == 1
    assert message in said


def _asks_in_vain(config: Any) -> Any:
    for _ in range(3):
        httpx.post(os.environ["FIREWORKS_BASE_URL"] + "/inference/v1/completions", json=ASKED, headers=_key())
    raise RuntimeError("no rewards")


ASKED = {"model": "accounts/fireworks/models/no-such-model", "prompt": [1, 2]}


def _key() -> dict[str, str]:
    return {"Authorization": f"Bearer {os.environ['FIREWORKS_API_KEY']}"}


@pytest.mark.usefixtures("joined")
def test_what_was_mostly_refused_is_said_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="no rewards"):
        train.run(None, _asks_in_vain, tmp_path)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("ftsim: 3 of 3 completions were refused: ")
    assert "no-such-model" in said


def test_options_that_run_has_reach_the_emulator_of_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ftsim: Ftsim
) -> None:
    given: list[Any] = []

    def interrupted(config: Any, main: Any, root: Path, options: Any) -> None:
        given.append(options.words())
        raise KeyboardInterrupt

    monkeypatch.setattr("ftsim.cli.train.run", interrupted)
    more = tmp_path / "more.toml"
    words = ["--platform", "2026-04", "--model", "own=folder", "--catalogue", str(more)]
    assert ftsim("train", "sft", f"log_path={tmp_path / 'run'}", *words).exit_code == 130
    assert given == [["--model", "own=folder", "--catalogue", str(more), "--platform", "2026-04"]]


@pytest.mark.usefixtures("joined")
def test_a_fault_of_the_program_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a fault of the program"):
        train.run(None, _mistake, tmp_path)


@pytest.mark.slow
def test_one_command_trains_promotes_and_draws_and_a_second_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        done = command(tmp_path, "orpo", "max_examples=24", "weight_sync.dcp_save_interval=2", "--plot")
        assert done.returncode == 0, done.stderr
        assert "INFERENCE_LORA" in done.stdout
        assert "(HF_PEFT_ADDON, READY)" in done.stdout
        assert (tmp_path / "runs" / "orpo" / "curves.png").stat().st_size > 5000
    assert "complete already" in done.stderr


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FTSIM_STATE_DIR": str(folder / "state"), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "ftsim", "train", *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_curves_put_held_out_values_beside_training_ones(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 0, "eval_loss": 3.0}\n{"step": 1, "loss": 2.0, "lr": 0.1, "tokens": 9}\n'
        '{"step": 1, "eval_loss": 2.5}\n{"st'
    )
    entries = curves.read(tmp_path / "metrics.jsonl")
    assert dict(curves.panels(entries)) == {
        "loss": {"held out": [(0, 3.0), (1, 2.5)], "training": [(1, 2.0)]},
        "lr": {"training": [(1, 0.1)]},
    }
    assert curves.draw(entries, tmp_path / "new" / "curves.png", "a run").stat().st_size > 5000
    with pytest.raises(ValueError, match="nothing is logged"):
        curves.draw([], tmp_path / "none.png", "a run")


def test_ctrl_c_says_how_to_go_on(ftsim: Ftsim, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    words = ["train", "sft", f"log_path={tmp_path / 'a run'}"]
    monkeypatch.setattr("ftsim.cli.train.run", interrupted)
    monkeypatch.setattr(sys, "argv", ["ftsim", *words])
    done = ftsim(*words)
    assert done.exit_code == 130
    assert done.stdout == f"job {job_id_for('sft', tmp_path / 'a run')}\n"
    assert done.stderr == f"ftsim: interrupted; to go on: ftsim train sft 'log_path={tmp_path}/a run'\n"
