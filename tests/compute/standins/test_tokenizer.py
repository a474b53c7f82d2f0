"""The tokenizer of a stand-in's folder is the one that transformers opens."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from ftsim.compute.models import tokenizer
from ftsim.compute.models.families import FAMILIES
from ftsim.compute.standins.tokenizer import open_tokenizer

TEXTS = ("Hello world  \n\n 12 34 é 漢字 🙂 it's", "", " a", "<think>\nno</think>\t\tz", "\u200d🏽 e\u0301")


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_that_of_transformers(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    tokenizer.write_folder(tmp_path, 4096, family)
    ours, judge = open_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours is not None
    for text in (*TEXTS, "".join(family.tokens)):
        for special in (True, False):
            ids = judge.encode(text, add_special_tokens=special)
            assert ours.encode(text, add_special_tokens=special) == ids
            assert ours.decode(ids, skip_special_tokens=special) == judge.decode(ids, skip_special_tokens=special)
    assert (ours.eos_token_id, len(ours), ours.get_vocab()) == (judge.eos_token_id, len(judge), judge.get_vocab())
    places = range(len(judge))
    assert [ours.convert_ids_to_tokens(at) for at in places] == [judge.convert_ids_to_tokens(at) for at in places]
    assert (ours.chat_template, ours.backend_tokenizer.to_str()) == (
        judge.chat_template,
        judge.backend_tokenizer.to_str(),
    )
    said = [{"role": "user", "content": "hello"}]
    how = {"add_generation_prompt": True, "tokenize": False}
    assert ours.apply_chat_template(said, **how) == judge.apply_chat_template(said, **how)
    assert ours.special_tokens_map == judge.special_tokens_map


def test_a_folder_with_anything_of_its_own_is_left_to_transformers(tmp_path: Path) -> None:
    def written() -> Path:
        tokenizer.write_folder(tmp_path, 4096)
        return tmp_path

    assert open_tokenizer(written()) is not None
    settings = json.loads((tmp_path / "tokenizer_config.json").read_bytes())
    for name, content in (
        ("tokenizer_config.json", json.dumps(settings | {"eos_token": "<|endoftext|>"})),
        ("chat_template.jinja", "{{ messages }}"),
        ("tokenizer.json", (tmp_path / "tokenizer.json").read_text() + " "),
        ("tokenizer_config.json", "[]"),
        ("added_tokens.json", "{}"),
    ):
        written()
        (tmp_path / name).write_text(content)
        assert open_tokenizer(tmp_path) is None, name
