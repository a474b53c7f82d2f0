"""The page "Checkpoints and resume" as users know it: its snippets, its table, its script, its cheat sheet.

Names and snippets stand here as they do on the page; what runs is an ordinary program under `ftsim run`.
"""

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest

from emulator.server import Emulator
from ftsim.compute import data
from ftsim.testing.clients import take_step
from ftsim.training import promote_checkpoint
from ftsim.training.checkpoints.manager import TrainingCheckpoints
from ftsim.training.recipes import dpo_loop, igpo_loop, orpo_loop, rl_loop, sft_loop
from ftsim.training.sampling.policy import Policy, rollout_policy
from ftsim.training.trainers import connect, job_id_for, training_client
from ftsim.training.utils import WeightSyncConfig
from tests.training.rl_runs import BASE, configure

ROOT = Path(__file__).parents[2]
APRIL = """\
from training.recipes.sft_loop import Config, main
from training.utils import InfraConfig, WeightSyncConfig

cfg = Config(
    log_path="./my_training",
    base_model="accounts/fireworks/models/qwen3-8b",
    dataset="data.jsonl",
    tokenizer_model="Qwen/Qwen3-8B",
    output_model_id="qwen3-8b-finetuned",
    weight_sync=WeightSyncConfig(dcp_save_interval=10),
    infra=InfraConfig(
        training_shape_id="accounts/fireworks/trainingShapes/qwen3-8b-128k-h200",
    ),
)
main(cfg)

# Interrupted? Run again with the same config — it picks up automatically.
main(cfg)
"""
NOVEMBER = """\
from training.recipes.sft_loop import Config, main
from training.utils import TrainerConfig

cfg = Config(
    log_path="./my_training",
    base_model="accounts/fireworks/models/qwen3-8b",
    dataset="data.jsonl",
    tokenizer_model="Qwen/Qwen3-8B",
    output_model_id="qwen3-8b-finetuned",
    dcp_save_interval=10,
    trainer=TrainerConfig(
        training_shape_id="accounts/fireworks/trainingShapes/qwen3-8b-128k-h200",
    ),
)
main(cfg)

# Interrupted? Run again with the same config — it picks up automatically.
main(cfg)
"""
FROM_ANOTHER_JOB = """\
config = Config(
    log_path="./new_run",
    init_from_checkpoint="i44pvd4syzg8hjfk:step-4",  # job_id:checkpoint_name
    ...
)
"""
FORK = """\
from training.utils.checkpoints import TrainingCheckpoints

ckpt = TrainingCheckpoints(
    policy,           # ReconnectableClient
    rlor_mgr,         # TrainerJobManager (control-plane client)
    trainer_id=policy_job_id,
    log_path=cfg.log_path,
    lora_rank=cfg.lora_rank,
)

# Resume on startup
resume_info = ckpt.resume(
    init_from_checkpoint=cfg.init_from_checkpoint,
    warm_start_from_adapter=cfg.warm_start_from_adapter,
)
step_offset = resume_info.step if resume_info else 0

# Periodic save
ckpt.save(f"step-{step}", resumable=True, promotable=False, data_consumed=count)

# Final save + promote
ckpt.save(f"step-{step}", resumable=True, promotable=True, data_consumed=count)
if cfg.output_model_id:
    ckpt.promote_latest(cfg.output_model_id, cfg.base_model)
"""
FIELDS: dict[str, tuple[Any, Any]] = {
    "log_path": (str, dataclasses.MISSING),
    "output_model_id": (str | None, None),
    "init_from_checkpoint": (str | None, None),
}
"""Field of the page's table -> its type and default; weight_sync.dcp_save_interval is tried apart."""


class Ran(NamedTuple):
    """A folder in which programs ran under `ftsim run`, on one state folder."""

    folder: Path

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"FTSIM_STATE_DIR": str(self.folder / "state"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "ftsim", "run", *argv]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done

    def program(self, name: str, source: str) -> str:
        (self.folder / name).write_text(source, "utf-8")
        return self.run(name).stderr


@pytest.fixture
def folder(tmp_path: Path) -> Ran:
    rows = data.path("chat-train").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "data.jsonl").write_text("".join(rows[:32]), "utf-8")
    return Ran(tmp_path)


BASE_ARGUMENTS = ["--base-model", "accounts/fireworks/models/qwen3-8b"]
REST = "base_model=cfg.base_model, dataset=cfg.dataset, tokenizer_model=cfg.tokenizer_model, trainer=None"
each_snippet = pytest.mark.parametrize("snippet", [APRIL, NOVEMBER], ids=["April", "November"])


def check_training(folder: Path, told: str) -> str:
    """Check what the first snippet says and leaves; the id of its job."""
    assert "sft checkpoint step-10 is saved" in told
    assert told.count("sft this run is complete already") == 1
    assert told.count("models/qwen3-8b-finetuned is ready") == 2
    assert set(json.loads((folder / "my_training" / "dataloader.json").read_text())) >= {"step-10", "step-12"}
    assert not list((folder / "my_training").glob("checkpoints.jsonl"))
    return job_id_for("sft", folder / "my_training")


def from_another_job(snippet: str, job: str) -> str:
    """The configuration of the first snippet, and a run that begins with the weights of its job."""
    other = FROM_ANOTHER_JOB.replace("i44pvd4syzg8hjfk:step-4", f"{job}:step-10").replace("...", REST)
    return f"{snippet.partition('main(cfg)')[0]}\n{other}\nprint(main(config))"


def check_other(folder: Path, told: str, job: str) -> None:
    assert f"sft starts with the weights of {job}:step-10" in told
    logged = (folder / "new_run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(logged[0])["step"] == 1


@each_snippet
def test_the_first_snippet_does_what_it_says(
    emulator: Emulator,
    tmp_path: Path,
    tokenizer_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    snippet: str,
) -> None:
    """In this process: as programs of their own, under `ftsim run`, they take longer and are run apart."""
    monkeypatch.chdir(tmp_path)
    rows = data.path("chat-train").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "data.jsonl").write_text("".join(rows[:32]), "utf-8")

    def run(source: str) -> str:
        here = source.replace("from training.", "from ftsim.training.").replace("Qwen/Qwen3-8B", str(tokenizer_folder))
        exec(compile(here, "train.py", "exec"), {})
        return capsys.readouterr().err

    job = check_training(tmp_path, run(snippet))
    newest = ["--job-id", job, *BASE_ARGUMENTS, "--output-model-id", "my-fine-tuned-model"]
    assert promote_checkpoint.main(newest) == 0
    said = capsys.readouterr().out
    assert "models/my-fine-tuned-model: HF_BASE_MODEL, READY" in said
    named = said.split("checkpoints/")[1].split()[0]
    chosen = ["--job-id", job, *BASE_ARGUMENTS, "--output-model-id", "again", "--checkpoint-name", named]
    assert promote_checkpoint.main(chosen) == 0
    assert f"{named} to again" in capsys.readouterr().out
    check_other(tmp_path, run(from_another_job(snippet, job)), job)


@pytest.mark.slow
@each_snippet
def test_the_first_snippet_trains_resumes_and_promotes_and_the_script_promotes_by_hand(
    folder: Ran, snippet: str
) -> None:
    job = check_training(folder.folder, folder.program("train.py", snippet))
    script = [str(Path(promote_checkpoint.__file__)), "--job-id", job, *BASE_ARGUMENTS]
    newest = folder.run(*script, "--output-model-id", "my-fine-tuned-model").stdout
    assert "models/my-fine-tuned-model: HF_BASE_MODEL, READY" in newest
    named = newest.split("checkpoints/")[1].split()[0]
    chosen = folder.run(*script, "--output-model-id", "again", "--checkpoint-name", named).stdout
    assert f"{named} to again" in chosen
    check_other(folder.folder, folder.program("other.py", from_another_job(snippet, job)), job)


@pytest.mark.parametrize("recipe", [sft_loop, dpo_loop, orpo_loop, rl_loop, igpo_loop])
def test_a_configuration_has_the_fields_of_the_table(recipe: Any) -> None:
    hints = get_type_hints(recipe.Config)
    fields = {field.name: field for field in dataclasses.fields(recipe.Config)}
    assert {name: (hints[name], fields[name].default) for name in FIELDS} == FIELDS
    assert hints["weight_sync"] is WeightSyncConfig
    assert get_type_hints(WeightSyncConfig)["dcp_save_interval"] is int
    assert WeightSyncConfig().dcp_save_interval == 0


class Job(NamedTuple):
    """A running trainer that has taken one step, and whatever can save it."""

    client: Any
    checkpoints: TrainingCheckpoints
    policy: Policy


@pytest.fixture(params=["LoRA", "full-param"])
def job(request: pytest.FixtureRequest, emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> Iterator[Job]:
    lora_rank = 4 if request.param == "LoRA" else 0
    config = configure(rl_loop, tmp_path, tokenizer_folder, lora_rank=lora_rank)
    manager = connect()
    with training_client(manager, config, "job", 64) as client:
        checkpoints = TrainingCheckpoints(
            client, manager, trainer_id="job", log_path=config.log_path, lora_rank=lora_rank
        )
        with rollout_policy(
            manager, config, "job", "job", client, longest_prompt=32, snapshot="step-0", moved=False
        ) as policy:
            take_step(client, 0)
            yield Job(client, checkpoints, policy)


class Way(NamedTuple):
    """A row of the cheat sheet: what is done before, what is done, and whether the result is promotable."""

    before: Callable[[Job], Any]
    save: Callable[[Job], Any]
    lora: bool
    full: bool


def delta(job: Job) -> Any:
    return job.client.save_weights_for_sampler_ext("step-2", checkpoint_type="delta")


WAYS = {
    "TrainingCheckpoints.save(resumable=True, promotable=False)": Way(
        lambda job: None,
        lambda job: job.checkpoints.save("step-2", resumable=True, promotable=False, data_consumed=2),
        False,
        False,
    ),
    "TrainingCheckpoints.save(promotable=True)": Way(
        lambda job: None, lambda job: job.checkpoints.save("step-2", promotable=True, data_consumed=2), True, True
    ),
    'save_weights_for_sampler_ext(checkpoint_type="base")': Way(
        lambda job: None,
        lambda job: job.client.save_weights_for_sampler_ext("step-2", checkpoint_type="base"),
        True,
        True,
    ),
    'save_weights_for_sampler_ext(checkpoint_type="delta")': Way(
        lambda job: job.client.save_weights_for_sampler_ext("step-1", checkpoint_type="base"), delta, True, False
    ),
    "WeightSyncer.save_and_hotload(), first save": Way(
        lambda job: None, lambda job: job.policy.sync("step-2"), True, True
    ),
    "WeightSyncer.save_and_hotload(), later saves": Way(
        lambda job: job.policy.sync("step-1"), lambda job: job.policy.sync("step-2"), True, False
    ),
}


@pytest.mark.parametrize("how", WAYS)
def test_the_cheat_sheet_says_what_can_be_promoted(job: Job, how: str) -> None:
    way, manager = WAYS[how], connect()
    way.before(job)
    before = {row["name"] for row in manager.list_checkpoints("job")}
    take_step(job.client, 1)
    way.save(job)
    rows = [row for row in manager.list_checkpoints("job") if row["name"] not in before]
    expected = way.lora if job.checkpoints.lora_rank else way.full
    assert any(row.get("promotable", False) for row in rows) is expected
    for place, row in enumerate(rows):
        made = {"name": row["name"], "output_model_id": f"made-{place}", "base_model": BASE}
        if row.get("promotable"):
            assert manager.promote_checkpoint(**made)["state"] == "READY"
        else:
            with pytest.raises(RuntimeError, match="not promotable"):
                manager.promote_checkpoint(**made)


def test_the_snippet_for_a_fork_resumes_saves_and_promotes(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    config = configure(rl_loop, tmp_path, tokenizer_folder, lora_rank=4, output_model_id="forked")
    manager, source = connect(), textwrap.dedent(FORK).replace("from training.", "from ftsim.training.")
    offsets = []
    for step in (4, 5):
        with training_client(manager, config, "policy", 64) as policy:
            if step == 4:
                take_step(policy, 0)
            names: dict[str, Any] = {"policy": policy, "rlor_mgr": manager, "policy_job_id": "policy"}
            names |= {"cfg": config, "step": step, "count": step}
            if step == 5:
                names["cfg"] = dataclasses.replace(config, output_model_id=None)
            exec(compile(source, "fork.py", "exec"), names)
            offsets.append(names["step_offset"])
    assert offsets == [0, 4]
    assert emulator.journal.of("promote")
