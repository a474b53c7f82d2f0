"""`ftsim models check`: what a folder is and what can be done with it, each answer tried out."""

import json
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from emulator.backend import BackendError
from ftsim.cli.main import app
from ftsim.compute.models.check import check
from ftsim.compute.quiet import quiet
from ftsim.compute.sampler.held import tokenizer_of
from tests.zoo import folders


def test_a_folder_saved_twice_is_told_with_its_abilities(tmp_path: Path) -> None:
    folder = folders.write("llama_saved_twice", tmp_path / "llama")
    done = CliRunner().invoke(app, ["models", "check", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["opened as"].startswith("LlamaForCausalLM")
    assert facts["saved twice"].endswith("its shards are there too: if they were saved later, delete model.safetensors")
    assert facts["output layer"] == "untied"
    assert (facts["full training"], facts["LoRA training"]) == ("yes", "yes")
    assert facts["serving"] == "yes, rows together"


def test_an_index_whose_shards_are_gone_is_left_over(tmp_path: Path) -> None:
    folder = folders.write("llama_saved_twice", tmp_path / "llama")
    for shard in folder.glob("model-*.safetensors"):
        shard.unlink()
    assert check(folder)["saved twice"] == "the single file is what is read"


def test_a_window_a_tie_and_named_templates_are_told(tmp_path: Path) -> None:
    assert check(folders.write("mistral", tmp_path / "mistral"))["context"] == "512 tokens, windows of 16"
    assert check(folders.write("llama_tied", tmp_path / "tied"))["output layer"].startswith("tied")
    named = check(folders.write("llama_named_templates", tmp_path / "named"))
    assert named["chat templates"] == "default, tool_use"


def test_a_folder_that_does_not_open_is_told_why(tmp_path: Path) -> None:
    folder = folders.write("llama_shards", tmp_path / "llama")
    (folder / "model-00001-of-00002.safetensors").unlink()
    assert "the index names 'model-00001-of-00002.safetensors', which is not there" in check(folder)["opened"]
    with pytest.raises(BackendError, match="is no folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(BackendError, match="is no model folder"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("kind", "model_type", "told"),
    [
        ("PreTrainedTokenizerFast", "qwen3", "TokenizersBackend, 258 tokens"),
        ("Qwen2Tokenizer", "qwen3", "opens it as Qwen2Tokenizer, which has other tokens for '2026-11-29"),
        ("PreTrainedTokenizerFast", "qwen2", "opens it as Qwen2Tokenizer, which has other tokens for '2026-11-29"),
    ],
)
def test_a_tokenizer_of_other_rules_than_its_file_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, model_type: str, told: str
) -> None:
    """findings/transformers-splits-text-by-the-tokenizers-class.sh."""
    folder = folders.write(model_type, tmp_path / model_type)
    bytewise = Tokenizer(models.BPE())
    threes = pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), behavior="isolated")
    bytewise.pre_tokenizer = pre_tokenizers.Sequence([threes, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    bytewise.train_from_iterator(["2026"] * 9, trainer)
    bytewise.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    assert told in check(folder)["tokenizer"]
    tokenizer_of(folder)
    assert ("other tokens" in caplog.text) is ("other tokens" in told)


def test_a_tokenizer_that_is_shipped_and_one_that_is_missing_are_told(tmp_path: Path) -> None:
    folder = folders.write("llama", tmp_path / "llama")
    assert check(folder)["tokenizer"] == "that of a shipped family"
    (folder / "tokenizer.json").unlink()
    assert "holds no tokenizer that opens" in check(folder)["tokenizer"]


def test_an_adapter_is_told_with_what_keeps_a_trainer_from_it(tmp_path: Path) -> None:
    base = folders.write("llama", tmp_path / "llama")
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(base)
        config = LoraConfig(r=4, target_modules=["q_proj"], use_dora=True, task_type="CAUSAL_LM")
        get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    facts = check(tmp_path / "adapter")
    assert facts["adapter"] == "LoRA of rank 4, alpha 8"
    assert facts["training on"] == "no: adapter uses use_dora, which this trainer does not have"
    assert "beside it" not in facts
    with quiet():
        AutoModelForCausalLM.from_pretrained(base).save_pretrained(tmp_path / "adapter")
    assert "onto which transformers puts the adapter" in check(tmp_path / "adapter")["beside it"]
