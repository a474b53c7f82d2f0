"""Rows before they are trained: judged, and made into tokens, against the chat template and the tokenizer alone."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ftsim.tools.bench.measure import Result, milliseconds, paired
from ftsim.tools.bench.stand import Stand

TURNS = (100, 400)
"""Messages of a conversation, the user's and the assistant's in turn."""


def data_check(stand: Stand) -> Iterator[Result]:
    """Rows of the chat that ships, judged as sft reads them."""
    from ftsim.compute.data import path
    from ftsim.training.data.check import check

    tokenizer, dataset = _tokenizer(stand), str(path("chat-train"))
    rows = check(dataset, "sft", tokenizer, 4096).rows
    took = statistics.median(milliseconds(lambda: check(dataset, "sft", tokenizer, 4096)) for _ in range(5))
    yield Result("data_check", rows / took * 1e3, "/s", None, more_is_better=True, parts={"rows": rows})


def sft_prepare(stand: Stand) -> Iterator[Result]:
    """The worst of two lengths; bare are the renderings of the same prefixes, and one encoding of the whole text."""
    from ftsim.training.data.forms import read_supervised
    from ftsim.training.data.notes import Notes
    from ftsim.training.data.turns import Turns

    tokenizer = _tokenizer(stand)
    parts: dict[str, float] = {}
    for turns in TURNS:
        messages = conversation(turns)

        def prepare(messages: Sequence[Mapping[str, str]] = messages) -> object:
            return Turns(tokenizer).examples(read_supervised({"messages": messages}, "row 1", Notes()))

        def bare(messages: Sequence[Mapping[str, str]] = messages) -> object:
            text = ""
            for at in range(1, len(messages), 2):
                _render(tokenizer, messages[:at], generation=True)
                text = _render(tokenizer, messages[: at + 1], generation=False)
            return tokenizer.encode(text, add_special_tokens=False)

        ours, theirs = paired(prepare, bare, rounds=5 if turns <= 100 else 3, warm_up=1)
        parts |= {f"turns_{turns}_x": ours / theirs, f"turns_{turns}_ms": ours, f"turns_{turns}_bare_ms": theirs}
    yield Result("sft_prepare", max(parts[f"turns_{turns}_x"] for turns in TURNS), "x", 1.5, parts=parts)


def conversation(turns: int) -> list[dict[str, str]]:
    """Returns `turns` messages, the last of them the assistant's."""
    return [
        {"role": "assistant", "content": f"It is {at} and fine."}
        if at % 2
        else {"role": "user", "content": f"Where is {at}?"}
        for at in range(turns)
    ]


def _render(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, generation: bool) -> str:
    (text,) = tokenizer.apply_chat_template([list(messages)], tokenize=False, add_generation_prompt=generation)
    return str(text)


@cache
def _tokenizer(stand: Stand) -> Any:
    from ftsim.compute.models.tokenizer import write_folder
    from ftsim.training.data.supervised import load_tokenizer

    folder = stand.folder / "tokenizer"
    folder.mkdir()
    write_folder(folder, 4096)
    return load_tokenizer(str(folder))
