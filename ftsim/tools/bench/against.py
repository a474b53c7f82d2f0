"""`ftsim bench --against REF`: this version and another commit's, the same programs run by turns.

The wheel of the other commit is built into an environment of its own, which finds all other packages where this one
does. The programs come from this version (`program.py`) and use what both have.
"""

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ftsim.process.environment import PACKAGE_ROOT

PROGRAM = Path(__file__).with_name("program.py")
ROUNDS = 5
TARGETS: Mapping[str, float | None] = {
    "lifecycle_test": 0.43,
    "twenty_tests": 0.45,
    "cold_run": 0.45,
    "one_token": None,
    "promote": 0.3,
    "create_lora": 0.3,
    "step_1x16": None,
    "load_with_optimizer": 0.65,
    "list_slope": None,
    "start_full_folder": None,
}
"""The measurements, and the ratio of CPU time to the other version's that it is to have at most."""


class CannotCompareError(Exception):
    """The other version cannot be built or run; the message says why."""


@dataclass(frozen=True)
class Side:
    """The rounds of one version: the median milliseconds of each, wall and CPU; or a ratio of its own in both."""

    wall: Sequence[float]
    cpu: Sequence[float]


@dataclass(frozen=True)
class Row:
    """One measurement of both versions."""

    name: str
    here: Side
    there: Side
    target: float | None

    @property
    def ratio(self) -> float:
        """Median CPU of this version to that of the other; a row without milliseconds has its value here."""
        return statistics.median(self.here.cpu) / statistics.median(self.there.cpu)


@contextmanager
def environment(ref: str, root: Path) -> Iterator[Path]:
    """The interpreter of an environment with the wheel of commit `ref` of the repository at `root`."""
    with tempfile.TemporaryDirectory(prefix="ftsim-against-") as name:
        folder = Path(name)
        source, venv = folder / "source", folder / "venv"
        source.mkdir()
        archive = _run(["git", "-C", str(root), "archive", "--format=tar", ref])
        subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
        _run([sys.executable, "-m", "venv", "--without-pip", str(venv)])
        python = venv / "bin" / "python"
        built = ["-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(source)]
        _run([sys.executable, *built])
        (wheel,) = folder.glob("*.whl")
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)}))
        _run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(packages), str(wheel)])
        (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
        yield python


def compare(ref: str, names: Sequence[str], rounds: int = ROUNDS, root: Path = PACKAGE_ROOT) -> Iterator[Row]:
    """Measure each name on both versions, in turn, after one turn that does not count; raises CannotCompareError."""
    with environment(ref, root) as other:
        for name in names:
            here, there = list[object](), list[object]()
            for number in range(rounds + 1):
                mine, theirs = measured(Path(sys.executable), name, PACKAGE_ROOT), measured(other, name, None)
                if number:
                    here.append(mine)
                    there.append(theirs)
            yield Row(name, side(here), side(there), TARGETS[name])


def measured(python: Path, name: str, package_root: Path | None, *, profile: bool = False) -> object:
    """The program's answer, from a version's interpreter; `package_root` is where the package is, if not installed."""
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "TINKER_TELEMETRY")}
    if package_root is not None:
        env["PYTHONPATH"] = str(package_root)
    with tempfile.TemporaryDirectory() as folder:
        words = [str(python), str(PROGRAM), name, *(["--profile"] if profile else [])]
        done = subprocess.run(words, cwd=folder, env=env, stdout=-1, stderr=None if profile else -1, text=True)
    if done.returncode:
        raise CannotCompareError(f"{name} failed with {python}:\n{(done.stderr or done.stdout)[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def side(rounds: Sequence[object]) -> Side:
    """Reduce the rounds of one version to the median of each."""
    values = [_medians(one) for one in rounds]
    return Side([wall for wall, _ in values], [cpu for _, cpu in values])


def _medians(found: object) -> tuple[float, float]:
    if not isinstance(found, list):
        return float(str(found)), float(str(found))
    return statistics.median(wall for wall, _ in found), statistics.median(cpu for _, cpu in found)


def line(row: Row) -> str:
    """`name  0.31  wall 12.1-13.0 / 40.2-41.0 ms  CPU 10.1-10.5 / 33.0-33.9 ms`: minimum and median of both."""
    bound = "" if row.target is None else f"<= {row.target:g}"
    verdict = "" if row.target is None else "ok" if row.ratio <= row.target else "MISSED"
    return (
        f"{verdict:<6} {row.name:<20} {row.ratio:6.2f} {bound:<8} "
        f"wall {_range(row.here.wall)} / {_range(row.there.wall)}  CPU {_range(row.here.cpu)} / {_range(row.there.cpu)}"
    )


def page(rows: Sequence[Row], ref: str, load: Sequence[float]) -> str:
    """docs/performance.md: the rows, and under which load they were measured."""
    table = [
        "| what | ratio of CPU | target | wall here | wall there | CPU here | CPU there |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        target = "" if row.target is None else f"≤ {row.target:g}"
        sides = (row.here.wall, row.there.wall, row.here.cpu, row.there.cpu)
        table.append(f"| `{row.name}` | {row.ratio:.2f} | {target} | {' | '.join(map(_range, sides))} |")
    return "\n".join([_HEAD.format(ref=ref, rounds=len(rows[0].here.cpu), load=_loads(load)), *table, "", _TAIL])


def _range(values: Sequence[float]) -> str:
    """Write minimum and median."""
    return f"{min(values):.4g}–{statistics.median(values):.4g}"


def _loads(load: Sequence[float]) -> str:
    return f"{min(load):.1f} to {max(load):.1f}"


def _run(words: Sequence[str]) -> bytes:
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        raise CannotCompareError(f"{' '.join(words[:4])} ...: {done.stderr.decode(errors='replace')[-1000:]}")
    return done.stdout


_HEAD = """\
# What people wait for

This page is written by `ftsim bench --against {ref} --page docs/performance.md`: this version beside commit {ref},
the same programs run by turns, {rounds} rounds each after one that does not count. The machine had two cores and a load
of {load}, so CPU time decides. A cell is the smallest and the median of the rounds, in milliseconds; `list_slope`
and `start_full_folder` are ratios of their own.
"""
_TAIL = """\
- `lifecycle_test`: a pytest test with the fixture, after the first: LoRA job, client, two steps, two saves, promotion
- `twenty_tests`: a process with twenty of them
- `cold_run`: `ftsim run` of a supervised run of ten steps on an empty state folder; its server's CPU is not counted
- `one_token`: a seeded completion of one token, on one connection
- `promote`, `create_lora`, `load_with_optimizer`: one such call, `create_lora` with the job
- `step_1x16`: one optimizer step on 16 tokens
- `list_slope`: the exponent by which the time of a whole list grows from 1,000 to 30,000 rows
- `start_full_folder`: the start on a folder of 10,000 rows over that on an empty one

`ftsim bench --profile NAME` says where the time of one of them goes.
"""
