"""Rows before they are trained: judged, and made into tokens, against the chat template and the tokenizer alone."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from operator import sub
from pathlib import Path
from typing import Any

from ftsim.tools.bench.measure import Result, milliseconds, paired
from ftsim.tools.bench.stand import Stand

ROWS = (1, 10_000, 100_000)
"""Rows of the data sets whose reading is measured in memory; one row is the base."""
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


def data_tokens(stand: Stand) -> Iterator[Result]:
    """Tokens that are encoded for a conversation, against those that its datums hold; the worst of two lengths."""
    from ftsim.training.data.forms import read_supervised
    from ftsim.training.data.notes import Notes
    from ftsim.training.data.turns import Turns

    parts: dict[str, float] = {}
    for turns in TURNS:
        made = Turns(_tokenizer(stand))
        examples = made.examples(read_supervised({"messages": conversation(turns)}, "row 1", Notes()))
        parts[f"turns_{turns}_x"] = made.encoded / sum(len(one.tokens) for one in examples)
    yield Result("data_tokens", max(parts.values()), "x", 2, parts=parts)


def data_memory(stand: Stand) -> Iterator[Result]:
    """Peak memory of 100,000 rows of 300 tokens above that of 10,000 and of one, a process each; worst recipe."""
    _tokenizer(stand)
    parts: dict[str, float] = {}
    for recipe in ("sft", "rl"):
        for rows in ROWS:
            command = [sys.executable, "-m", "ftsim.tools.bench.data", recipe, str(rows), str(stand.folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            parts[f"{recipe}_{rows}_mb"] = float(done.stdout.splitlines()[-1])
    one, some, many = ([parts[f"{recipe}_{rows}_mb"] for recipe in ("sft", "rl")] for rows in ROWS)
    yield Result("data_memory", max(map(sub, many, some)), "MB", 50, parts=parts)
    yield Result("data_memory_over_base", max(map(sub, many, one)), "MB", 500)


def _peak(recipe: str, rows: int, folder: Path) -> float:
    """Read rows as a recipe does, work out its plan, and return the process's peak of resident memory in MB."""
    from ftsim.training.data.batches import build_plan
    from ftsim.training.data.supervised import load_supervised, load_tokenizer
    from ftsim.training.sampling.rollouts import load_prompts

    path, words = folder / f"{recipe}-{rows}.jsonl", "fog at noon " * 99
    with path.open("w") as file:
        for at in range(rows):
            row = {"prompt": f"Pier {at}: {words}"} | ({"completion": "Yes."} if recipe == "sft" else {})
            file.write(json.dumps(row) + "\n")
    tokenizer = load_tokenizer(str(folder / "tokenizer"))
    if recipe == "sft":
        usable = load_supervised(str(path), tokenizer, 4096, truncate=True).data.usable
    else:
        usable = load_prompts(str(path), tokenizer, 4096).usable
    build_plan(usable, epochs=1, batch_size=8, accumulation=1, seed=0)
    path.unlink()
    # What getrusage calls the peak of a process begins with that of the process that started it.
    (peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(peak.split()[1]) / 1024


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


if __name__ == "__main__":
    print(_peak(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
