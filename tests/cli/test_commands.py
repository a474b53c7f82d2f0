"""The commands, against a running emulator."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from emulator.platform.deployments.spec import DeploymentSpec
from emulator.server import Emulator
from emulator.state.entities import Job, Session
from ftsim.cli.program import program_begins
from tests.cli.conftest import RUN
from tests.conftest import Ftsim
from tests.doubles import BASE

ROWS = Path(__file__).parents[2] / "fixtures" / "rows"
HEAVY = ("torch", "transformers", "fireworks", "fastapi", "httpx", "rich.table", "sqlalchemy")


def test_the_command_is_light_until_a_command_runs() -> None:
    code = f"import sys, ftsim.cli.main; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_says_the_version_that_is_installed(ftsim: Ftsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", {"ftsim-emulator": "1.2.3"}.__getitem__)
    assert ftsim("--version").stdout == "ftsim 1.2.3\n"


def test_without_an_installation_there_is_no_version_to_say(ftsim: Ftsim, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert ftsim("--version").stdout == "ftsim, from a checkout that is not installed\n"


def test_help_names_every_command(ftsim: Ftsim) -> None:
    text = ftsim("--help").stdout
    for name in ("serve", "run", "demo", "bench", "checkpoints", "explain", "models", "promote"):
        assert f"  {name} " in text


def test_checkpoints_shows_kind_ability_size_parent_and_step(ftsim: Ftsim, on: list[str], job: Job) -> None:
    lines = ftsim("checkpoints", "j1", *on).stdout.splitlines()
    assert lines[0].split() == ["checkpoint", "kind", "resumable", "promotable", "size", "step", "age", "delta", "of"]
    found = {line.split()[0]: line.split() for line in lines[1:]}
    assert found["step-10"][1:4] == ["TRAINING", "yes", "no"]
    assert found["step-10-0a0a0a0a"][1:4] == ["INFERENCE_BASE", "no", "yes"]
    assert found["step-20-0a0a0a0a"][1:4] == ["INFERENCE_ARC_V2", "no", "no"]
    assert found["step-20-0a0a0a0a"][-1] == "step-10-0a0a0a0a"


@pytest.mark.parametrize("name", ["j1", "accounts/acct1/rlorTrainerJobs/j1"])
def test_checkpoints_as_json_has_bytes_and_seconds(
    ftsim: Ftsim, on: list[str], job: Job, emu: Emulator, name: str
) -> None:
    emu.clock.advance(3600)
    listed = json.loads(ftsim("checkpoints", name, "--json", *on).stdout)["checkpoints"]
    assert [row["id"] for row in listed] == ["step-10", "step-10-0a0a0a0a", "step-20-0a0a0a0a"]
    assert [row["step"] for row in listed] == [10, 10, 20]
    sizes = [row.size for row in emu.world.checkpoints.of(job.name)]
    assert [row["size"] for row in listed] == sizes
    assert all(3600 <= row["age_s"] < 3660 for row in listed)


def test_checkpoints_reads_every_page_and_stops_at_an_endless_one(
    ftsim: Ftsim, on: list[str], job: Job, emu: Emulator
) -> None:
    emu.quirks.set("rows.page_size_cap", 2)
    assert len(json.loads(ftsim("checkpoints", "j1", "--json", *on).stdout)["checkpoints"]) == 3
    emu.quirks.set("rows.endless_token", True)
    assert ftsim("checkpoints", "j1", *on).exit_code == 0


def test_checkpoints_tells_what_a_deployment_has_loaded_and_refused(
    ftsim: Ftsim, on: list[str], job: Job, emu: Emulator
) -> None:
    spec = DeploymentSpec(
        BASE,
        enable_hot_load=True,
        hot_load_trainer_job=job.name,
        deployment_shape="accounts/fireworks/deploymentShapes/ds-qwen3-8b",
    )
    emu.platform.deployments.create(emu.account, spec, "d1")
    assert ftsim("checkpoints", "--deployment", "d1", *on).stdout == "d1 has loaded nothing\n"
    for identity in ("step-10-0a0a0a0a", "step-20-0a0a0a0a"):
        emu.platform.hotload.start(emu.account, "d1", BASE, identity, None)
    loaded, refused = ftsim("checkpoints", "--deployment", "d1", *on).stdout.splitlines()[1:]
    assert loaded.split()[:2] == ["step-10-0a0a0a0a", "INFERENCE_BASE"]
    assert "incremental_snapshot_metadata" in refused
    told = json.loads(ftsim("checkpoints", "--deployment", "d1", "--json", *on).stdout)["snapshots"]
    assert [bool(entry["error"]) for entry in told] == [False, True]
    assert "deployment d1 loaded it" in ftsim("explain", "j1:step-10-0a0a0a0a", *on).stdout


def test_explain_prints_a_command_that_can_be_pasted(
    ftsim: Ftsim, on: list[str], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = ftsim("explain", "j1:step-10-0a0a0a0a", "--want", "promote", *on).stdout
    command = "ftsim promote --job-id j1 --checkpoint-name step-10-0a0a0a0a --output-model-id MODEL_ID --base-model "
    assert [line for line in said.splitlines() if "promote --job-id" in line] == [f"  {command}{BASE}"]
    for words in ("j1:step-20-0a0a0a0a", "j1:step-10"):
        lines = [line.strip() for line in ftsim("explain", words, *on).stdout.splitlines()]
        calls = [line for line in lines if line.startswith(("TrainingCheckpoints.", "(in the SDK:", "load "))]
        assert calls
        assert all(line.count("(") == line.count(")") for line in calls)


def test_explain_knows_how_a_row_was_saved(ftsim: Ftsim, on: list[str], job: Job) -> None:
    text = ftsim("explain", "j1:step-20-0a0a0a0a", *on).stdout
    assert 'checkpoint_type="delta"' in text
    assert "be hot-loaded, by a deployment that serves step-10-0a0a0a0a" in text
    assert 'save_weights_for_sampler_ext("step-20", checkpoint_type="base")' in text


@pytest.mark.parametrize(
    "words",
    [
        ["accounts/acct1/rlorTrainerJobs/j1/checkpoints/step-10"],
        ["j1:step-10"],
        ["step-10", "--job", "j1"],
        ["step-10", "--job", "accounts/acct1/rlorTrainerJobs/j1"],
    ],
)
def test_explain_takes_a_row_in_every_form(ftsim: Ftsim, on: list[str], job: Job, words: list[str]) -> None:
    found = json.loads(ftsim("explain", *words, "--want", "promote", "--json", *on).stdout)
    assert found["row"]["kind"] == "TRAINING"
    assert found["row"]["saved_as"] == "state"
    assert [advice["want"] for advice in found["advice"]] == ["promote"]


def test_a_training_sessions_rows_are_listed_whole_and_explained(
    ftsim: Ftsim, on: list[str], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = {line.split()[0]: line.split() for line in ftsim("checkpoints", session.id, *on).stdout.splitlines()[1:]}
    assert rows[f"{RUN}-step-3"][1:4] == ["TRAINING_LORA", "yes", "no"]
    assert rows[f"{RUN}-final-0c0c0c0c"][1:4] == ["INFERENCE_LORA", "no", "yes"]
    monkeypatch.setenv("COLUMNS", "200")
    for words in ([f"{session.id}:{RUN}-final-0c0c0c0c"], [f"{session.name}/checkpoints/{RUN}-final-0c0c0c0c"]):
        text = ftsim("explain", *words, *on).stdout
        assert "promote_session_checkpoint" in text
        assert f"the row belongs to serverless run {RUN}" in text


def test_explain_reads_a_saved_listing(ftsim: Ftsim) -> None:
    done = ftsim("explain", "step-20", "--from", str(ROWS / "two_sessions.json"))
    assert done.exit_code == 0
    assert "step-20-aaaaaaaa  INFERENCE_LORA" in done.stdout


def test_explain_reads_a_listing_from_stdin_and_finds_a_run_scoped_row() -> None:
    name = f"run-{'a' * 32}:final"
    done = subprocess.run(
        [sys.executable, "-m", "ftsim", "explain", name, "--from", "-"],
        input=(ROWS / "serverless.json").read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "promote_session_checkpoint" in done.stdout.replace("\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explain", "step-10", "--from", str(ROWS / "two_sessions.json"), "--job", "other"], "there is no checkpoint"),
        (["explain", "nope", "--from", str(ROWS / "two_sessions.json")], "there are: step-10, step-10-aaaaaaaa"),
        (["explain", "x:y", "--from", "no-such-file.json"], "no-such-file.json"),
        (["explain", "step-10", "--state-dir", "no-such-folder"], "no emulator has used the state folder"),
        (["checkpoints", "--state-dir", "no-such-folder"], "no emulator has used the state folder"),
        (["checkpoints", "j1", "--deployment", "d1"], "give a JOB, or --deployment ID"),
        (["checkpoints", "j1", "--url", "http://127.0.0.1:9"], "no key for http://127.0.0.1:9"),
        (["checkpoints", "j1", "--url", "http://127.0.0.1:9", "--api-key", "k"], "does not answer"),
        (["checkpoints", "j1", "--state-dir", "no-such-folder"], "no emulator has used the state folder"),
        (["serve", "--model", "just-a-name"], "write NAME=FOLDER"),
        (["serve", "--model", "name=no-such-folder"], "has no config.json"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(ftsim: Ftsim, words: list[str], said: str) -> None:
    done = ftsim(*words)
    assert done.exit_code != 0
    assert done.stdout == ""
    assert done.stderr.startswith("ftsim: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_ambiguous_name_is_not_guessed(ftsim: Ftsim, tmp_path: Path) -> None:
    rows = json.loads((ROWS / "two_sessions.json").read_text())["checkpoints"]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([row for row in rows if not row["name"].endswith("/step-10")]))
    done = ftsim("explain", "step-10", "--from", str(file))
    assert "may be any of" in done.stderr


def test_a_refusal_is_said_in_the_services_words(ftsim: Ftsim, emu: Emulator, on: list[str]) -> None:
    done = ftsim("checkpoints", "no-such-job", *on)
    assert done.exit_code == 1
    assert "HTTP 404" in done.stderr
    assert "no-such-job" in done.stderr
    assert "HTTP 401" in ftsim("checkpoints", "j1", "--url", emu.url, "--api-key", "wrong").stderr


@pytest.mark.parametrize(
    ("kind", "row", "files"),
    [
        ("full", "step-10-0a0a0a0a", {"config.json", "model.safetensors"}),
        ("lora", "final-0b0b0b0b", {"adapter_config.json", "adapter_model.safetensors"}),
    ],
)
def test_a_promoted_model_is_listed_and_pulled_byte_for_byte(
    ftsim: Ftsim,
    on: list[str],
    job: Job,
    lora_job: Job,
    emu: Emulator,
    tmp_path: Path,
    kind: str,
    row: str,
    files: set[str],
) -> None:
    source = "j1" if kind == "full" else "j2"
    words = ["--job-id", source, "--output-model-id", "made", "--base-model", BASE, "--checkpoint-name", row]
    promoted = ftsim("promote", *words, *on)
    assert promoted.exit_code == 0, promoted.stderr
    listed = ftsim("models", "list", *on).stdout
    assert "accounts/acct1/models/made" in listed
    assert (BASE if kind == "lora" else f"accounts/acct1/rlorTrainerJobs/{source}/checkpoints/{row}") in listed
    folder = tmp_path / "pulled"
    assert ftsim("models", "pull", "made", str(folder), *on).exit_code == 0
    assert {path.name for path in folder.iterdir()} == files
    stored = emu.world.checkpoints.get(f"accounts/acct1/rlorTrainerJobs/{source}/checkpoints/{row}")
    assert stored is not None
    for name in files:
        assert (folder / name).read_bytes() == (emu.platform.blobs.path(stored.blob) / name).read_bytes()


def test_an_adapter_pulled_with_its_base_names_the_folder_of_the_base(
    ftsim: Ftsim, on: list[str], lora_job: Job, tmp_path: Path
) -> None:
    words = ["--job-id", "j2", "--output-model-id", "made", "--base-model", BASE, "--checkpoint-name"]
    assert ftsim("promote", *words, "final-0b0b0b0b", *on).exit_code == 0
    folder = tmp_path / "pulled"
    pulled = ftsim("models", "pull", "made", str(folder), "--with-base", *on)
    assert pulled.exit_code == 0, pulled.stderr
    named = json.loads((folder / "adapter_config.json").read_bytes())["base_model_name_or_path"]
    assert Path(named) == (folder / "base").resolve()
    assert (folder / "base" / "config.json").is_file()


def test_pull_never_writes_into_a_folder_that_holds_something(ftsim: Ftsim, on: list[str], tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    done = ftsim("models", "pull", "made", str(tmp_path), *on)
    assert done.exit_code == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["precious"]


def test_promote_refuses_a_delta_and_says_which_would_do(ftsim: Ftsim, on: list[str], job: Job) -> None:
    words = ["--job-id", "j1", "--output-model-id", "made", "--base-model", BASE]
    done = ftsim("promote", *words, "--checkpoint-name", "step-20-0a0a0a0a", *on)
    assert done.exit_code == 1
    assert "step-10-0a0a0a0a" in done.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--output-model-id": "My_Model"}, "'My_Model' is not a model id"),
        ({"--base-model": "accounts/fireworks/models/qwen3-4b"}, "is not what 'step-10-0a0a0a0a' was trained from"),
        ({"--job-id": "nowhere"}, "'nowhere' not found"),
    ],
)
def test_promote_says_in_one_line_what_was_refused(
    ftsim: Ftsim, on: list[str], job: Job, change: dict[str, str], says: str
) -> None:
    words = {"--job-id": "j1", "--output-model-id": "made", "--base-model": BASE, **change}
    done = ftsim("promote", *(word for pair in words.items() for word in pair), *on)
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, line.startswith("ftsim: "), says in line) == (1, True, True)


def test_a_models_name_stands_in_one_piece_however_narrow_the_terminal(
    ftsim: Ftsim, on: list[str], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    words = ["--job-id", "j1", "--output-model-id", "a-model-with-a-rather-long-name", "--base-model", BASE]
    assert ftsim("promote", *words, *on).exit_code == 0
    assert "accounts/acct1/models/a-model-with-a-rather-long-name" in ftsim("models", "list", *on).stdout


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (["s.py", "--state-dir", "x"], ["s.py", "--state-dir", "x"]),
        (["--state-dir", "d", "s.py", "--", "-h"], ["s.py", "--", "-h"]),
        (["--state-dir=d", "--", "ls", "-l"], ["--", "ls", "-l"]),
        (["-m", "mod", "-x"], ["-m", "mod", "-x"]),
        (["--plot", "s.py", "--plot"], ["s.py", "--plot"]),
        (["--state-dir"], []),
        ([], []),
    ],
)
def test_everything_from_the_program_on_is_the_programs(words: list[str], program: list[str]) -> None:
    assert words[program_begins(words, {"--state-dir": True, "--plot": False}) :] == program


def test_run_says_what_it_wants(ftsim: Ftsim, tmp_path: Path) -> None:
    done = ftsim("run", "--state-dir", str(tmp_path), "no_such_script.py")
    assert done.exit_code == 2
    assert "there is no file 'no_such_script.py'" in done.stderr
