"""A small real byte-level BPE tokenizer that looks like Qwen3's from outside: special tokens, chat template, no BOS.

It has 2,048 entries, so that a tiny model's embedding stays tiny, and round-trips any Unicode text (there is no
normaliser). Training is deterministic: the same `tokenizers` version gives the same bytes on every machine.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftsim.compute.assets import FOLDER
from ftsim.compute.models import corpus

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCAB_SIZE = 2048
END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

SPECIAL_TOKENS = (
    END_OF_TEXT, IM_START, IM_END,
    "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""Skipped by `decode(..., skip_special_tokens=True)`."""

MARKUP_TOKENS = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
"""One token each, but part of the visible text."""

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


def special_id(token: str) -> int:
    """The id of one of `SPECIAL_TOKENS` or `MARKUP_TOKENS`; they fill the end of the vocabulary in that order."""
    order = SPECIAL_TOKENS + MARKUP_TOKENS
    return VOCAB_SIZE - len(order) + order.index(token)


def config(context_length: int) -> dict[str, Any]:
    """The content of `tokenizer_config.json`; `context_length` in tokens."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "bos_token": None,
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "split_special_tokens": False,
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "chat_template": (FOLDER / "chat_template.jinja").read_text(encoding="utf-8"),
    }


def write_folder(folder: Path, context_length: int) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` into an existing folder."""
    shutil.copyfile(FOLDER / "tokenizer.json", folder / "tokenizer.json")
    shutil.copyfile(FOLDER / "chat_template.jinja", folder / "chat_template.jinja")
    text = json.dumps(config(context_length), indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
