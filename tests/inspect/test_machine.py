"""`ftsim doctor --machine`: versions, variables, and what a program would be refused, read without running it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ftsim.cli.main import app
from ftsim.inspect.machine import generation, look
from ftsim.inspect.program import read

MODEL = "accounts/fireworks/models/qwen3-8b"


def program(folder: Path, text: str, name: str = "program.py") -> Path:
    file = folder / name
    file.write_text(text, "utf-8")
    return file


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1.2.32", "as a word"),
        ("1.3.0", "as a word"),
        ("1.2.28", "own client core"),
        ("1.2.24", "tinker package"),
        ("1.2.0a79", "tinker package"),
        ("1.1.0a64", "April"),
        ("0.19.3", "April"),
        ("", "not installed"),
    ],
)
def test_the_generation_of_a_client_is_named(version: str, said: str) -> None:
    assert said in generation(version)


EMULATED = {
    "FIREWORKS_API_KEY": "fw-ftsim-local",
    "FIREWORKS_BASE_URL": "http://127.0.0.1:8080",
    "TINKER_BASE_URL": "https://api.fireworks.ai/training",
    "HF_HUB_OFFLINE": "1",
}


@pytest.mark.parametrize(
    ("environment", "for_service", "wheres"),
    [
        ({}, False, []),
        ({}, True, ["FIREWORKS_API_KEY"]),
        ({"FIREWORKS_API_KEY": "fw-mine"}, True, []),
        (EMULATED, False, []),
        (EMULATED, True, ["FIREWORKS_API_KEY", "FIREWORKS_BASE_URL", "TINKER_BASE_URL", "HF_HUB_OFFLINE"]),
        ({"HTTPS_PROXY": "http://proxy:3128"}, False, ["HTTPS_PROXY"]),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "intranet, localhost"}, False, []),
        ({"FIREWORKS_CREDENTIAL_CMD": "fetch --token abc"}, False, ["FIREWORKS_CREDENTIAL_CMD"]),
    ],
)
def test_variables_that_lead_elsewhere_are_told(
    environment: dict[str, str], for_service: bool, wheres: list[str]
) -> None:
    assert [one.where for one in look(environment, for_service=for_service).troubles] == wheres


def test_no_secret_is_shown() -> None:
    secrets = {"FIREWORKS_API_KEY": "fw-mine", "TINKER_API_KEY": "tml-mine", "FIREWORKS_CREDENTIAL_CMD": "fetch mine"}
    assert look({**secrets, "HTTPS_PROXY": "http://mine:mine@proxy"}).variables == {
        "FIREWORKS_API_KEY": "set",
        "TINKER_API_KEY": "set",
        "FIREWORKS_CREDENTIAL_CMD": "set",
        "HTTPS_PROXY": "set",
    }


REFUSED = [
    ('model = "accounts/fireworks/models/qwen3-8b-mine"', "", "not in the catalogue: it is served here by its family"),
    ('client.save_state("Step_1")', "B3", "refused when it is loaded"),
    ('client.save_weights_for_sampler_ext("' + "s" * 55 + '")', "B4", "at most 54"),
    (
        'service.create_lora_training_client(m)\nNAME = "an-18-letters-name"\nclient.save_state(NAME)',
        "G1",
        "at most 17",
    ),
    ('client.save_state("s", ttl_seconds=3600)', "B5", "ttl_seconds"),
    ('client.save_state("s", overwrite=True)', "B1", "overwrite"),
    ("Config(lora_rank=512)", "C10", "rank of 512"),
    ("TrainerJobConfig(max_context_length=40001)", "F18", "divisible by 16"),
    ('TrainerJobConfig(display_name="' + "d" * 64 + '")', "", "at most 63"),
    ('TrainerJobConfig(inactivity_timeout="20000s")', "F21", "at most 10800"),
    ("TrainerJobConfig(disable_inactivity_cleanup=True)", "F21", "vendor's own account"),
    ('client.promote_checkpoint(output_model_id="My_Model")', "D4", "invalid model id"),
    ('DeploymentConfig(annotations={"team": "a"})', "E26", "custom/"),
    ("DeploymentConfig(scale_to_zero_window='60s')", "", "at least 300"),
    ("Config(infra=InfraConfig())", "H5", "forms of April"),
    ('client.datasets.create(dataset_id="d")', "", "not written"),
    ("client.supervised_fine_tuning_jobs.create(dataset='d')", "", "no new managed jobs"),
    ("for _ in range(12):\n    service.create_lora_training_client(m)", "G4", "8 places"),
    ('URL = "http://127.0.0.1:8080"', "G9", "this machine"),
    ('KEY = "fw-ftsim-local"', "F18", "key of an emulator"),
    ('httpx.post(url + "/_ftsim/clock")', "", "emulator's alone"),
]


@pytest.mark.parametrize(("text", "entry", "said"), REFUSED)
def test_what_the_service_would_refuse_is_named_with_its_line(tmp_path: Path, text: str, entry: str, said: str) -> None:
    file = program(tmp_path, f"# a program\n{text}\n")
    (found,) = read(file, for_service=True).troubles
    assert (found.entry, found.where.partition(":")[0]) == (entry, "program.py")
    assert said in found.sentence
    assert int(found.where.partition(":")[2]) >= 2
    assert read(file).troubles == []


SOUND = f"""
from helper import NAME
BASE = "{MODEL}"
client.save_state("step-10")
client.save_weights_for_sampler_ext(f"step-{{n}}", checkpoint_type="base")
config = Config(lora_rank=8, trainer=TrainerConfig(training_shape_id="accounts/fireworks/trainingShapes/qwen3-8b-128k"))
client.promote_checkpoint(name=row["name"], output_model_id="my-model", base_model=BASE)
for step in range(100):
    client.optim_step(adam)
"""


def test_a_sound_program_is_sound_and_its_names_are_listed(tmp_path: Path) -> None:
    program(tmp_path, f'NAME = "{MODEL}"', "helper.py")
    found = read(program(tmp_path, SOUND), for_service=True)
    assert found.troubles == []
    assert found.names == {MODEL: True, "accounts/fireworks/trainingShapes/qwen3-8b-128k": True}
    assert not found.pooled


def test_names_that_nobody_serves_are_told_in_any_case_also_of_modules_beside_it(tmp_path: Path) -> None:
    program(tmp_path, 'SHAPE = "accounts/fireworks/trainingShapes/no-such-shape"', "helper.py")
    found = read(program(tmp_path, 'import helper\nBASE = "accounts/fireworks/models/zzz-1b"'))
    assert [one.where for one in found.troubles] == ["program.py:2", "helper.py:1"]
    assert found.names == dict.fromkeys(
        ["accounts/fireworks/models/zzz-1b", "accounts/fireworks/trainingShapes/no-such-shape"], False
    )


def doctor(*words: str) -> Result:
    return CliRunner().invoke(app, ["doctor", "--machine", *words], prog_name="ftsim")


def test_the_command_leaves_as_the_doctor_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FIREWORKS_API_KEY", "fw-mine")
    for name in ("FIREWORKS_BASE_URL", "FIREWORKS_TRAINER_GATEWAY_URL", "TINKER_BASE_URL", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    program(tmp_path, "NAME = 1", "helper.py")
    sound = doctor(str(program(tmp_path, SOUND)), "--for-service")
    assert (sound.exit_code, sound.output.splitlines()[-1]) == (0, "sound")
    assert f"name       {MODEL}: in the catalogue" in sound.output
    bad = doctor(str(program(tmp_path, "Config(lora_rank=999)", "bad.py")), "--for-service", "--json")
    assert bad.exit_code == 1
    (trouble,) = json.loads(bad.output)["troubles"]
    assert (trouble["entry"], trouble["where"]) == ("C10", "bad.py:1")
    for unreadable in (str(tmp_path / "none.py"), str(program(tmp_path, "def (", "broken.py"))):
        result = doctor(unreadable)
        assert result.exit_code == 2
        assert len(result.output.strip().splitlines()) == 1
    assert doctor("--job", "j1").exit_code == 2
    assert "fireworks-ai" in doctor().output
