"""A small real byte-level BPE tokenizer, shipped with the markers of Qwen3 and written with those of any family.

It has 2,048 entries, so that a tiny model's embedding stays tiny, and round-trips any Unicode text (there is no
normaliser). Training is deterministic: the same `tokenizers` version gives the same bytes on every machine.
The families of `families.py` share its words; they differ in the last 26 entries and in the chat template.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftsim.compute.assets import FOLDER
from ftsim.compute.models import corpus, families, markers
from ftsim.compute.models.families import FAMILIES, Family, chat_template
from ftsim.compute.models.markers import MARKUP_TOKENS, SPECIAL_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCAB_SIZE = 2048
QWEN3 = FAMILIES["qwen3"]
END_OF_TEXT, IM_START, IM_END = SPECIAL_TOKENS[:3]

_SPLIT = r"(?i:'(?:s|t|re|ve|m|ll|d))| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train(lines: Iterable[str] | None = None) -> "Tokenizer":
    """Learn the merges from `lines` (default: the seeded corpus); digits stay single tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL_TOKENS) - len(MARKUP_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_lines() if lines is None else lines, trainer)
    missing = VOCAB_SIZE - len(SPECIAL_TOKENS) - len(MARKUP_TOKENS) - tokenizer.get_vocab_size()
    if missing:
        raise ValueError(f"ftsim: the training text is too small, {missing} entries of the vocabulary are missing")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKUP_TOKENS])
    return tokenizer


def _training_lines() -> Iterator[str]:
    yield from corpus.texts(seed=0, count=6000)
    for chat in corpus.chats(seed=0, count=6000):
        yield from (message["content"] for message in chat)
    yield from corpus.vocabulary(seed=0, count=1500)


def load() -> "Tokenizer":
    """The shipped tokenizer, without importing transformers."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def special_id(token: str, family: Family = QWEN3) -> int:
    """The id of one of a family's markers; they fill the end of the vocabulary in the order of `Family.tokens`."""
    return VOCAB_SIZE - len(family.tokens) + family.tokens.index(token)


def vocabulary(family: Family) -> dict[str, Any]:
    """The content of `tokenizer.json`: the shipped words with the family's markers."""
    content: dict[str, Any] = json.loads((FOLDER / "tokenizer.json").read_bytes())
    for at, entry in enumerate(content["added_tokens"]):
        entry["content"] = family.tokens[at]
        entry["special"] = family.tokens[at] not in family.markup
    if family.begins:
        steps = [content["post_processor"], _beginning(family)]
        content["post_processor"] = {"type": "Sequence", "processors": steps}
    return content


def vocabulary_text(family: Family) -> str:
    """The text of `tokenizer.json`."""
    return _shipped_text() if family == QWEN3 else _vocabulary_text(family.name)


@cache
def _shipped_text() -> str:
    return (FOLDER / "tokenizer.json").read_text(encoding="utf-8")


@cache
def _vocabulary_text(name: str) -> str:
    return json.dumps(vocabulary(FAMILIES[name]), ensure_ascii=False, separators=(",", ":"))


def _beginning(family: Family) -> dict[str, Any]:
    """The post-processor that puts the family's first tokens before a text."""
    first = [{"SpecialToken": {"id": token, "type_id": 0}} for token in family.begins]
    text, other = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    known = {token: {"id": token, "ids": [special_id(token, family)], "tokens": [token]} for token in family.begins}
    return {
        "type": "TemplateProcessing",
        "single": [*first, text],
        "pair": [*first, text, *first, other],
        "special_tokens": known,
    }


def config(context_length: int, family: Family = QWEN3) -> dict[str, Any]:
    """The content of `tokenizer_config.json`; `context_length` in tokens."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "bos_token": family.bos,
        "eos_token": family.end,
        "pad_token": family.padding,
        "unk_token": None,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "split_special_tokens": False,
        "additional_special_tokens": [
            token for token in family.tokens if token not in family.markup and token != family.padding
        ],
        "chat_template": chat_template(family.name),
    }


def write_folder(folder: Path, context_length: int, family: Family = QWEN3) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` into an existing folder."""
    if family == QWEN3:
        shutil.copyfile(FOLDER / "tokenizer.json", folder / "tokenizer.json")
    else:
        (folder / "tokenizer.json").write_text(_vocabulary_text(family.name), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(chat_template(family.name), encoding="utf-8")
    text = json.dumps(config(context_length, family), indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def sources() -> list[Path]:
    """The files that decide what `write_folder` writes."""
    templates = sorted((FOLDER / "templates").iterdir())
    return [
        Path(__file__),
        *(Path(module.__file__ or "") for module in (families, markers)),
        FOLDER / "tokenizer.json",
        FOLDER / "chat_template.jinja",
        *templates,
    ]
