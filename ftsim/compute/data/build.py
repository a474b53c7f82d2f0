"""`python -m ftsim.compute.data.build`: write the shipped data sets again; the same bytes on every machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from ftsim.compute.data import FOLDER
from ftsim.compute.models import corpus

Row = dict[str, Any]


def _user(content: str) -> corpus.Message:
    return {"role": "user", "content": content}


def _assistant(content: str) -> corpus.Message:
    return {"role": "assistant", "content": content}


ROOM_NAMES = [*corpus.NUMBER_WORDS[1:], "eleven", "twelve"]
ROOMS = dict(zip(corpus.THINGS[:12], ROOM_NAMES, strict=True))
KEEPERS = dict(zip(corpus.COLOURS, corpus.NAMES[:10], strict=True))
_QUESTIONS = (
    "Where is the {colour} {thing}?",
    "I need the {colour} {thing}.",
    "Can I have the {colour} {thing}?",
    "Who keeps the {colour} {thing}?",
)


def chat() -> tuple[list[Row], list[Row]]:
    """A lending desk: the thing decides the room, the colour decides the keeper. 260 rows, and 40 pairs held out.

    Held-out rows ask for pairs of colour and thing that no training row asks for.
    """
    random = Random("chat-data")
    pairs = [(colour, thing) for colour in KEEPERS for thing in ROOMS]
    random.shuffle(pairs)
    held_out, seen = pairs[:20], pairs[20:]
    train = [(pair, question) for pair in seen for question in _QUESTIONS]
    test = [(pair, question) for pair in held_out for question in random.sample(_QUESTIONS, 2)]
    random.shuffle(train)
    return [_desk(*case) for case in train[:260]], [_desk(*case) for case in test]


def _desk(pair: tuple[str, str], question: str) -> Row:
    colour, thing = pair
    answer = f"The {colour} {thing} is in room {ROOMS[thing]}. Ask {KEEPERS[colour]} for it, please."
    return {"messages": [_user(question.format(colour=colour, thing=thing)), _assistant(answer)]}


def preferences() -> tuple[list[Row], list[Row]]:
    """Whole sentences with a thank-you are preferred to bare words; 200 pairs, 40 held out."""
    random = Random("preference-data")
    pairs: dict[str, Row] = {}
    while len(pairs) < 240:
        name, thing, place = (random.choice(words) for words in (corpus.NAMES, corpus.THINGS, corpus.PLACES))
        colour = random.choice(corpus.COLOURS)
        question, fact, bare = random.choice(
            (
                (
                    f"{name} has a {colour} {thing}. What colour is the {thing}?",
                    f"The {thing} is {colour}.",
                    colour,
                ),
                (f"{name} is in the {place}. Where is {name}?", f"{name} is in the {place}.", place),
            )
        )
        worse = random.choice((bare, f"{bare}!", f"I know: {bare}"))
        pairs[question] = {
            "chosen": {"messages": [_user(question), _assistant(f"Thank you. {fact}")]},
            "rejected": {"messages": [_user(question), _assistant(worse)]},
        }
    rows = list(pairs.values())
    return rows[:200], rows[200:]


def copying() -> tuple[list[Row], list[Row]]:
    """Say the words again: one to three words; the ground truth is the exact text."""
    random = Random("copy-data")
    rows: dict[str, Row] = {}
    while len(rows) < 240:
        text = " ".join(corpus.words(random, random.randint(1, 3)))
        rows[text] = {"messages": [_user(f"Copy: {text}")], "ground_truth": text}
    return list(rows.values())[:200], list(rows.values())[200:]


def arithmetic() -> tuple[list[Row], list[Row]]:
    """Sums and differences of single digits; the ground truth is the number."""
    random = Random("arithmetic-data")
    sums = [(f"{a} + {b}", str(a + b)) for a in range(10) for b in range(10)]
    differences = [(f"{a} - {b}", str(a - b)) for a in range(10) for b in range(a + 1)]
    cases = sums + differences
    random.shuffle(cases)
    rows = [{"messages": [_user(f"What is {question}?")], "ground_truth": value} for question, value in cases]
    return rows[:125], rows[125:]


def search() -> tuple[list[Row], list[Row]]:
    """Multi-turn: each turn looks one thing up (`look: box`) or answers (`answer: red`).

    `facts` is what the environment knows: it replies "The box is red." to `look: box` and "There is no ... here."
    to a thing it does not know. Information is gained when the thing asked for is looked up.
    """
    random = Random("search-data")
    rows: list[Row] = []
    while len(rows) < 180:
        things = random.sample(corpus.THINGS, random.randint(2, 3))
        facts = dict(zip(things, random.sample(corpus.COLOURS, len(things)), strict=True))
        target = random.choice(things)
        prompt = f"Find the colour of the {target}. Things: {', '.join(things)}."
        rows.append({"messages": [_user(prompt)], "ground_truth": facts[target], "facts": facts})
    return rows[:150], rows[150:]


def build() -> Iterator[tuple[str, list[Row]]]:
    """Every data set with its name."""
    for name, (train, test) in {
        "chat": chat(),
        "preference": preferences(),
        "rl-copy": copying(),
        "rl-arithmetic": arithmetic(),
        "search": search(),
    }.items():
        yield f"{name}-train", train
        yield f"{name}-eval", test


def write(folder: Path) -> None:
    """Write `<name>.jsonl` for every data set into an existing folder."""
    for name, rows in build():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(FOLDER)
