"""Environments, which answer the policy between its turns: plain functions, so that a fork brings its own."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ftsim.training.sampling.rewards import answer_of, field_of


class Reply(NamedTuple):
    """The environment's answer to a turn; `text` None ends the episode. `reward` is for the outcome, given once."""

    text: str | None
    reward: float = 0.0


Environment = Callable[[Mapping[str, Any], Sequence[str]], Reply]
"""(row of the data set, what the policy has said in each turn so far) -> the reply to the last turn.

It must depend on nothing else: a resumed run asks it again.
"""

_MOVE = re.compile(r"(look|answer):\s*([\w ]+?)\.?")


def search(row: Mapping[str, Any], said: Sequence[str]) -> Reply:
    """Find a thing's colour: `look: box` is told the colour of the box, `answer: red` ends it, 1 if it is right.

    What is known stands in the row's `facts`, the right answer in `ground_truth`.
    """
    move = _MOVE.fullmatch(answer_of(said[-1]))
    if move is None:
        return Reply("Say 'look: thing' or 'answer: colour'.")
    verb, what = move.groups()
    if verb == "answer":
        return Reply(None, float(what == str(field_of(row, "ground_truth")).strip()))
    colour = field_of(row, "facts").get(what)
    return Reply(f"The {what} is {colour}." if colour else f"There is no {what} here.")
