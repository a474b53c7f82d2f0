"""The offline hub: unmodified programs load tokenizers and configs by their public names."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ftsim.compute.models import families, hub, hub_names, tokenizer

PROGRAM = """
import json, sys
from huggingface_hub import hf_hub_download
from transformers import AutoConfig, AutoImageProcessor, AutoModelForCausalLM, AutoTokenizer
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.models.auto.image_processing_auto import get_image_processor_config

def refusal(load, name):
    try:
        load(name)
    except OSError as error:
        return type(error).__name__
    return "loaded"

pinned, names = json.loads(sys.argv[1]), sys.argv[2:]
files = {name: [hf_hub_download(name, file) for file in ("config.json", "tokenizer.json")] for name in names}
chats, kinds, patches = {}, {}, {}
for name in ("Qwen/Qwen3-8B", "Qwen/Qwen3.5-9B", "zai-org/GLM-5"):
    words = AutoTokenizer.from_pretrained(name)
    messages = [{"role": "user", "content": "Hi"}]
    chats[name] = words.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    kinds[name] = AutoConfig.from_pretrained(name).model_type
    patches[name] = get_image_processor_config(name).get("patch_size")
kimi = {}
for name, revisions in pinned.items():
    for revision in revisions:
        hf_hub_download(name, "config.json", revision=revision)
    if "Kimi" in name:
        made = get_class_from_dynamic_module("tokenization_kimi.TikTokenTokenizer", name, revision=revisions[0])
        kimi[name] = made.from_pretrained(name, revision=revisions[0]).encode("<|im_user|>")
image = AutoImageProcessor.from_pretrained(name, revision=revisions[0]).patch_size
missing = refusal(AutoTokenizer.from_pretrained, "Qwen/Qwen3-9000B")
weights = refusal(AutoModelForCausalLM.from_pretrained, "Qwen/Qwen3-8B")
print(json.dumps([files, chats, kinds, patches, missing, weights, kimi, image]))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Report what one unmodified program sees that runs with the hub's environment."""
    variables = hub.build(tmp_path_factory.mktemp("hub"))
    command = [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(hub_names.PINNED), *hub.repositories()]
    run = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    answer: list[Any] = json.loads(run.stdout)
    return answer


def test_every_name_resolves(seen: list[Any]) -> None:
    sizes = ("0.6B", "1.7B", "4B", "8B", "30B-A3B")
    assert {f"Qwen/Qwen3-{size}" for size in sizes} | {"Qwen/Qwen3.5-9B", "Qwen/Qwen3-Embedding-8B"} <= set(seen[0])
    for name, (config, words) in seen[0].items():
        assert json.loads(Path(config).read_bytes())["model_type"] == hub.repositories()[name].model_type
        family = families.family_of(hub.repositories()[name].name)
        assert json.loads(Path(words).read_bytes()) == tokenizer.vocabulary(family)


def test_transformers_loads_tokenizers_and_configs_by_name(seen: list[Any]) -> None:
    _, chats, kinds, *_ = seen
    chat = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert chats == {
        "Qwen/Qwen3-8B": chat,
        "Qwen/Qwen3.5-9B": chat + "<think>\n",
        "zai-org/GLM-5": "[gMASK]<sop><|user|>Hi<|assistant|><think>",
    }
    assert kinds == {name: hub.repositories()[name].model_type for name in kinds}


def test_only_models_that_see_have_an_image_processor(seen: list[Any]) -> None:
    assert seen[3] == {"Qwen/Qwen3-8B": None, "Qwen/Qwen3.5-9B": 16, "zai-org/GLM-5": None}


def test_a_name_that_is_not_there_fails_without_the_network(seen: list[Any]) -> None:
    assert seen[4] == "OSError"


def test_weights_are_not_in_the_hub(seen: list[Any]) -> None:
    assert seen[5] == "OSError"


def test_pinned_revisions_and_the_class_of_kimi_resolve(seen: list[Any]) -> None:
    assert seen[6] == {name: [2023] for name in hub_names.PINNED if "Kimi" in name}
    assert seen[7] == 16


def test_building_twice_or_at_once_gives_one_cache(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(hub.build, [tmp_path] * 4))
    assert [built[0]] * 4 == built
    assert [str(path) for path in tmp_path.iterdir()] == [built[0]["HF_HUB_CACHE"]]


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokenizer, "write_folder", full)
    with pytest.raises(OSError, match="No space left"):
        hub.build(tmp_path)
    assert not any(tmp_path.iterdir())
