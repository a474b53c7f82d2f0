"""docs/performance.md: the rows of `ftsim bench --against`, what each is, and which targets are missed and why."""

import textwrap
from collections.abc import Mapping, Sequence

from ftsim.tools.bench.against import CALM, TARGETS, Row, extent

WHAT: Mapping[str, str] = {
    "lifecycle_test": "a test with the fixture, after the first: LoRA job, client, two steps, two saves, promotion",
    "twenty_tests": "a pytest process with twenty of them, from its start to its end",
    "cold_run": "`ftsim run` of a supervised run of ten steps on an empty state folder; its CPU time is the program's, "
    "without the emulator's",
    "warm_run": "the same with a second program, while the emulator of the folder still runs",
    "one_token": "a seeded completion of one token, again and again on one connection",
    "promote": "the promotion of a LoRA checkpoint",
    "create_lora": "a LoRA job and the vendor's client on it",
    "step_1x16": "an optimizer step on 16 tokens, asked by the vendor's client",
    "load_with_optimizer": "loading a training state into a LoRA model",
    "list_slope": "the exponent by which the time of a whole list grows from 1,000 to 30,000 rows; 1 is proportional",
    "start_full_folder": "the start on a folder of 10,000 rows over that on an empty one",
}
"""What a row measures, a sentence each."""
WHY: Mapping[str, str] = {
    "lifecycle_test": "three fifths of its CPU time are the vendor's client's, which opens a session with a thread of "
    "its own and asks for every result, in both versions alike; a third is the trainer's",
    "twenty_tests": "importing pytest, its plugins, the vendor's SDK, torch and the emulator is over half of its "
    "CPU time, in both versions alike",
    "cold_run": "the vendor's SDK is most of what is left of the program, and torch's import of the emulator",
    "warm_run": "the program's imports, most of them the vendor's SDK, are most of it",
    "promote": "the copy of a checkpoint's files and the request itself are left",
    "create_lora": "the model is made in an eighth of it; the rest is the vendor's client, with six requests and a "
    "session of its own, in both versions alike",
    "load_with_optimizer": "the request, and reading the files, are left",
}
"""What keeps a row from its target, where one is missed."""
RATIOS = frozenset({"list_slope", "start_full_folder"})
"""Rows that are ratios of their own and no milliseconds."""


def page(rows: Sequence[Row], ref: str, processors: int) -> str:
    """The whole page; `processors` is how many the machine has. Rows that are not there are named as not measured."""
    found = {row.name: row for row in rows}
    measured = [found[name] for name in TARGETS if name in found and not found[name].failed]
    loads = [row.load for row in measured] or [0.0]
    rounds = max((len(row.here.cpu) for row in measured), default=0)
    head = _HEAD.format(
        ref=ref, rounds=rounds, low=min(loads), high=max(loads), calm=f"{CALM:.0%}", processors=processors
    )
    parts = [head, *_TABLE, *map(_cells, measured), "", "## What each row is", ""]
    parts += [_wrapped(f"- `{name}`: {WHAT[name]}") for name in TARGETS]
    parts += ["", "## What does not hold", "", *map(_wrapped, _missed(found)), "", _TAIL]
    return "\n".join(parts)


SCALE = "## How cost grows"


def scale_section(growths: Sequence[str], processors: int, load: float) -> str:
    """The section of `ftsim bench --scale`: its table's lines, under what was measured how."""
    head = _SCALE_HEAD.format(title=SCALE, processors=processors, load=load)
    return "\n".join([head, *growths, ""])


def with_scale(text: str, section: str) -> str:
    """The page with this section at its end, in place of the one that it had."""
    return f"{text.partition(SCALE)[0].rstrip()}\n\n{section}"


def scale_of(text: str) -> str:
    """The section of a page that says how cost grows, "" where there is none."""
    _, found, rest = text.partition(SCALE)
    return found + rest


def _wrapped(item: str) -> str:
    return textwrap.fill(item, 120, subsequent_indent="  ", break_on_hyphens=False)


def _cells(row: Row) -> str:
    by = "wall" if row.calm else "CPU"
    target = "" if row.target is None else f"≤ {row.target:g}"
    sides = (row.here.wall, row.there.wall, row.here.cpu, row.there.cpu)
    return f"| `{row.name}` | {row.ratio:.2f} ({by}) | {target} | {' | '.join(map(extent, sides))} |"


def _missed(found: Mapping[str, Row]) -> list[str]:
    said = []
    for name, target in TARGETS.items():
        row = found.get(name)
        if row is None:
            said.append(f"- `{name}` was not measured.")
        elif row.failed:
            said.append(f"- `{name}` has no figures: {' '.join(row.failed.split())[:300]}")
        elif not row.ok:
            why = WHY.get(name, "nothing is known of the reason")
            said.append(f"- `{name}` is {row.ratio:.2f} and not {target:g}: {why}.")
    return said or ["Every target holds."]


_HEAD = """\
# What people wait for

This page is written by `ftsim bench --against {ref} --page docs/performance.md`: this version beside commit {ref},
the same programs run by turns, up to {rounds} rounds each after one that does not count. The machine had {processors}
cores and a load of {low:.1f} to {high:.1f}, these programs among it. A ratio is of medians: of wall times where those
of each side differ by at most {calm}, else of CPU times. The other cells are the smallest and the median of the rounds,
in milliseconds.
"""
_SCALE_HEAD = """\
{title}

This section is written by `ftsim bench --scale --page docs/performance.md`, on {processors} cores under a load of
{load:.1f}. An exponent is the slope of the straight line through the logarithms of sizes and times: 0 costs the same at
any size, 1 grows in proportion. Control plane: over a socket, on the light backend. The rest: trainer and sampler,
without a socket.

![by how many decades the time grows when the size does, from each one's smallest](img/scale.svg)
"""
_TABLE = (
    "| what | ratio | target | wall here | wall there | CPU here | CPU there |",
    "|---|---|---|---|---|---|---|",
)
_TAIL = """\
`list_slope` and `start_full_folder` are ratios of their own: both columns of a side show that ratio.
`ftsim bench --profile NAME` says where the time of a row goes.
"""
