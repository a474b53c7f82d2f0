"""The catalogue: every name gives a complete folder that transformers opens, with weights that have learned."""

import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from emulator.platform.models.catalogue import Catalogue
from ftsim.compute.assets import FOLDER, build
from ftsim.compute.models import catalogue as models, families, pretrain, tokenizer

NAMED = (
    "qwen3-0p6b", "qwen3-1p7b", "qwen3-4b", "qwen3-8b", "qwen3-embedding-8b", "qwen3p5-9b", "qwen3p6-27b",
    "qwen3-30b-a3b", "qwen3-235b-a22b", "kimi-k2-instruct", "kimi-k2-instruct-0905", "kimi-k2-thinking", "kimi-k2p5",
    "kimi-k2p6", "deepseek-v3", "deepseek-v3-0324", "deepseek-v3p1", "deepseek-v3p2", "glm-5", "glm-5p1", "kimi-k3",
    "glm-5p2-fp8", "gemma-4-31b-it", "gpt-oss-20b", "muse-glimmer-30b",
)  # fmt: skip
ONE_OF_EACH = ("qwen3-8b", "qwen3-30b-a3b", "kimi-k2-instruct", "glm-5")
WORDS = tokenizer.load()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_every_name_has_weights_and_a_length() -> None:
    for name in models.names():
        assert models.facts(name).weights in build.ARCHITECTURES
        assert models.facts(name).context_length >= 32768


@pytest.mark.parametrize("name", [models.PREFIX + name for name in NAMED])
def test_every_name_has_a_complete_folder(cache: Path, name: str) -> None:
    folder = models.base_folder(name, cache)
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    config = json.loads((folder / "config.json").read_text())
    assert config["max_position_embeddings"] == models.facts(name).context_length >= 32768
    assert config["model_type"] == models.facts(name).model_type


def test_the_platforms_catalogue_and_this_one_agree() -> None:
    platform = Catalogue.load()
    assert list(platform.models) == list(models.names())
    longest = {shape.base_model: shape.max_context_length for shape in platform.training_shapes.values()}
    for name, entry in platform.models.items():
        facts = models.facts(name)
        assert facts.tokenizer_id == (entry.tokenizer or name)
        assert facts.moe or not entry.moe
        assert facts.context_length >= max(entry.context_length, entry.training_context_length, longest[name])


@pytest.mark.parametrize("name", ["kimi-k2p9-instruct", "glm-5p3", "deepseek-v3p9-base"])
def test_later_members_of_a_family_are_known(name: str) -> None:
    facts = models.facts(models.PREFIX + name)
    assert facts.name == models.PREFIX + name
    assert facts.moe


@pytest.mark.parametrize(
    "name", ["qwen3-8b", models.PREFIX + "zebra-9b", models.PREFIX + "kimi-k2/../x", models.PREFIX + "kimi", ""]
)
def test_an_unknown_name_is_refused_with_the_families_that_exist(tmp_path: Path, name: str) -> None:
    assert not models.known(name)
    with pytest.raises(models.UnknownModelError, match="qwen3, kimi-k"):
        models.base_folder(name, tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("short", ONE_OF_EACH)
def test_transformers_opens_the_folder_silently(cache: Path, short: str, capfd: pytest.CaptureFixture[str]) -> None:
    folder = models.base_folder(models.PREFIX + short, cache)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert "warn" not in capfd.readouterr().err.lower()
    assert sum(p.numel() for p in model.parameters()) >= models.facts(models.PREFIX + short).parameter_count - 16
    assert len(AutoTokenizer.from_pretrained(folder)) == model.config.vocab_size


@pytest.mark.parametrize("architecture", build.ARCHITECTURES)
def test_a_base_model_is_no_noise(architecture: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(FOLDER / architecture, dtype=torch.float32)
    loss = pretrain.held_out_loss(model, WORDS, rows_used=32)
    assert loss < 1.2 < pretrain.unigram_entropy(WORDS) < math.log(tokenizer.VOCAB_SIZE)


@pytest.mark.parametrize("short", ONE_OF_EACH)
def test_an_answer_ends_by_itself(cache: Path, short: str) -> None:
    folder = models.base_folder(models.PREFIX + short, cache)
    model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompt = words.apply_chat_template(
        [{"role": "user", "content": "What is the opposite of hot?"}], add_generation_prompt=True, return_tensors="pt"
    )
    answer = model.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert answer[-1] in models.generation_config(families.family_of(short))["eos_token_id"]


def test_the_dense_base_model_copies_and_adds(cache: Path) -> None:
    folder = models.base_folder(models.PREFIX + "qwen3-8b", cache)
    model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    def answer(question: str) -> str:
        messages = [{"role": "user", "content": question}]
        prompt = words.apply_chat_template(
            messages, add_generation_prompt=True, enable_thinking=False, return_tensors="pt"
        )
        ids = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        return str(words.decode(ids, skip_special_tokens=True))

    assert answer("Copy: soup fox") == "soup fox"
    assert answer("What is 5 + 2?") == "7"


def test_many_processes_may_ask_at_once(tmp_path: Path) -> None:
    name = models.PREFIX + "qwen3-8b"
    program = (
        "from pathlib import Path; from ftsim.compute.models import catalogue as models\n"
        f"print(models.base_folder({name!r}, Path({str(tmp_path)!r})))"
    )
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(subprocess.check_output, [sys.executable, "-c", program], text=True) for _ in range(4)]
        folders = {job.result().strip() for job in jobs}
    assert [Path(folder) for folder in folders] == list(tmp_path.iterdir())


def test_neither_facts_nor_folders_need_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from ftsim.compute.models import catalogue as models\n"
        f"models.base_folder(models.names()[0], Path({str(tmp_path)!r}))\n"
        "models.facts(models.names()[0]).parameter_count\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokenizer, "write_folder", full)
    with pytest.raises(OSError, match="No space left"):
        models.base_folder(models.names()[0], tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("architecture", sorted(build.ARCHITECTURES))
def test_the_recipe_reproduces_its_first_losses(architecture: str) -> None:
    record = json.loads((FOLDER / architecture / "training.json").read_text())
    recipe = pretrain.Recipe(**record["recipe"])
    assert recipe == build.RECIPES[architecture]
    losses = pretrain.train(build.fresh(architecture), WORDS, recipe, stop_after=3)
    assert losses == pytest.approx(record["first_losses"][:3], abs=2e-3)


def test_writing_a_base_gives_the_shipped_form(tmp_path: Path) -> None:
    model = build.fresh("qwen3")
    losses = pretrain.train(model, WORDS, replace(pretrain.Recipe(), batch=2, length=16), stop_after=1)
    build.write_base(model, tmp_path)
    build.write_record(tmp_path, pretrain.Recipe(), losses, 1.0, 2.0)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "training.json"}
    assert (tmp_path / "config.json").read_bytes() == (FOLDER / "qwen3" / "config.json").read_bytes()
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size == (FOLDER / "qwen3" / "model.safetensors").stat().st_size


def test_shipped_assets_stay_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 4_000_000
