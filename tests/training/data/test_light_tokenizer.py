"""Recipes' tokenizers without transformers, with transformers as the judge."""

import copy
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from ftsim.compute.models import families, hub
from ftsim.process.environment import in_environment
from ftsim.training.data.light_tokenizer import LightTokenizer
from ftsim.training.data.supervised import load_tokenizer

TEXTS = ("Hello world  \n\n 12 34 é 漢字 🙂 it's", "", " a", "<think>\nno</think>\t\tz", "\u200d🏽 e\u0301")
TOOL = {"type": "function", "function": {"name": "add", "description": "é <b>", "parameters": {"type": "object"}}}
ASKED, SAID = {"role": "user", "content": " What is <2> + 3? "}, {"role": "assistant", "content": "Five."}
THOUGHT = SAID | {"reasoning_content": "Two, three."}
CALL = {"type": "function", "id": "functions.add:0", "function": {"name": "add", "arguments": {"a": [2, None, "é"]}}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "5", "name": "add", "tool_call_id": "functions.add:0"}
CHATS: list[list[dict[str, Any]]] = [
    [],
    [ASKED],
    [{"role": "system", "content": "Be kind."}, ASKED, SAID, ASKED],
    [{"role": "developer", "content": "Be kind."}, ASKED, THOUGHT, ASKED, THOUGHT],
    [ASKED, CALLED, RESULT, THOUGHT],
    [RESULT, CALLED],
]
VARIABLES: list[dict[str, Any]] = [{}, {"enable_thinking": False}, {"thinking": True, "reasoning_effort": "low"}]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The hub's variables, which hold in every test here."""
    variables = hub.build(tmp_path_factory.mktemp("hub"))
    with in_environment(variables):
        yield variables


def rendered(tokenizer: Any, chat: list[dict[str, Any]], how: dict[str, Any]) -> Any:
    try:
        return tokenizer.apply_chat_template([chat], **how)
    except Exception as error:
        return type(error).__name__, str(error)


NAMES = {families.family_of(facts.name).name: name for name, facts in hub.repositories().items()}


def test_each_family_has_a_name_on_the_hub() -> None:
    assert NAMES.keys() == families.FAMILIES.keys()


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_it_is_that_of_transformers(name: str) -> None:
    ours, judge = load_tokenizer(name), AutoTokenizer.from_pretrained(name)
    assert type(ours) is LightTokenizer
    for text, special in itertools.product((*TEXTS, "".join(families.family_of(name).tokens)), (True, False)):
        ids = judge.encode(text, add_special_tokens=special)
        assert ours.encode(text, add_special_tokens=special) == ids
        assert ours.decode(ids, skip_special_tokens=special) == judge.decode(ids, skip_special_tokens=special)
    for chat, tools, generation, variables in itertools.product(CHATS, (None, [TOOL]), (True, False), VARIABLES):
        how: dict[str, Any] = {"tools": tools, "add_generation_prompt": generation, "tokenize": False} | variables
        assert rendered(ours, chat, how) == rendered(judge, chat, how)
    assert (ours.chat_template, ours.eos_token, ours.eos_token_id, len(ours), sorted(ours.all_special_ids)) == (
        judge.chat_template,
        judge.eos_token,
        judge.eos_token_id,
        len(judge),
        sorted(judge.all_special_ids),
    )
    ours_added, judge_added = ours.added_tokens_decoder, judge.added_tokens_decoder
    assert {at: (str(one), one.special) for at, one in ours_added.items()} == {
        at: (str(one), one.special) for at, one in judge_added.items()
    }
    assert vars(ours)["_whole"] is None


def test_what_else_is_asked_is_asked_of_transformers() -> None:
    ours, judge = load_tokenizer("Qwen/Qwen3-8B"), AutoTokenizer.from_pretrained("Qwen/Qwen3-8B")
    assert ours("Hello") == judge("Hello")
    assert ours.apply_chat_template(CHATS[1]) == judge.apply_chat_template(CHATS[1])
    assert ours.apply_chat_template([[THOUGHT | {"reasoning": "x"}]], tokenize=False) == judge.apply_chat_template(
        [[THOUGHT | {"reasoning": "x"}]], tokenize=False
    )
    assert ours.model_max_length == judge.model_max_length
    with pytest.raises(AttributeError):
        _ = ours.nothing_of_this_name


def test_what_a_program_sets_holds_and_a_copy_is_its_own() -> None:
    ours = load_tokenizer("Qwen/Qwen3-8B")
    other = copy.deepcopy(ours)
    other.chat_template = "{{ messages[0].content }}!"
    assert other.apply_chat_template([CHATS[1]], tokenize=False) == [" What is <2> + 3? !"]
    assert ours.apply_chat_template([CHATS[1]], tokenize=False)[0].startswith("<|im_start|>user")
    other.eos_token = "<|endoftext|>"
    assert other.eos_token_id == other.convert_tokens_to_ids("<|endoftext|>") != ours.eos_token_id


def test_other_tokenizers_are_those_of_transformers(cache: dict[str, str], tmp_path: Path) -> None:
    folder = next(Path(cache["HF_HUB_CACHE"]).glob("models--Qwen--Qwen3-8B/snapshots/*"))
    assert type(load_tokenizer(str(folder))) is not LightTokenizer
    (tmp_path / "hub").symlink_to(cache["HF_HUB_CACHE"])
    with in_environment(cache | {"HF_HUB_CACHE": str(tmp_path / "hub")}):
        assert type(load_tokenizer("Qwen/Qwen3-8B")) is not LightTokenizer


def test_a_recipe_imports_neither_torch_nor_transformers(cache: dict[str, str]) -> None:
    """Both take longer to import than a short run takes."""
    program = (
        "import sys; from ftsim.training.recipes import sft_loop; from ftsim.training.sdk import types\n"
        "from ftsim.training.data.supervised import load_tokenizer\n"
        "load_tokenizer('Qwen/Qwen3-8B').apply_chat_template([[]], tokenize=False)\n"
        "early = {'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()\n"
        "weights = types.TensorData(data=[1.0], dtype='float32', shape=[1])\n"
        "import torch.nn.functional\n"
        "assert type(weights.to_torch()) is torch.Tensor and sys.modules['torch'] is torch\n"
        "assert types.TensorData.from_torch(torch.ones(2)).shape == [2]\n"
        "sys.exit(' '.join(early) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | cache, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
