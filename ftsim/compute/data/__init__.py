"""Data sets that ship inside the package, one JSON object a line, written by `python -m ftsim.compute.data.build`.

| file | row |
|---|---|
| chat-train.jsonl, chat-eval.jsonl (held out) | `{"messages": [{"role", "content"}, ...]}`, ends with the assistant |
| preference-train.jsonl, preference-eval.jsonl | `{"chosen": {"messages"}, "rejected": {"messages"}}`, same prompt |
| rl-copy-*.jsonl, rl-arithmetic-*.jsonl | `{"messages", "ground_truth"}`, ends with the user |
| search-train.jsonl, search-eval.jsonl | `{"messages", "ground_truth", "facts"}`: see `search` in build.py |
"""

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """Names of the data sets, e.g. `chat-train`."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.jsonl")))


def path(name: str) -> Path:
    """The file of a data set; raises `LookupError` naming those that exist."""
    if name not in names():
        raise LookupError(f"ftsim: there is no shipped data set {name!r}; there are {', '.join(names())}")
    return FOLDER / f"{name}.jsonl"
