"""`ftsim bench --against REF`: this version and another commit's, the same programs run by turns.

The wheel of the other commit is built into an environment of its own, which finds all other packages where this one
does. The programs come from this version (`program.py`) and use what both have.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from ftsim.process.environment import PACKAGE_ROOT

PROGRAM = Path(__file__).with_name("program.py")
ROUNDS = 5
TIMEOUT_S = 180.0
"""Seconds that one side of one round may take; a row of which one does not end is given up, and the next begins."""
CALM = 0.1
"""Wall times of a side that differ by no more than this share of their median decide; else CPU times do."""
TARGETS: Mapping[str, float | None] = {
    "lifecycle_test": 0.43,
    "twenty_tests": 0.45,
    "cold_run": 0.45,
    "warm_run": 0.75,
    "one_token": None,
    "promote": 0.3,
    "create_lora": 0.3,
    "step_1x16": None,
    "load_with_optimizer": 0.65,
    "list_slope": None,
    "start_full_folder": None,
}
"""The measurements, and the ratio to the other version's time that it is to have at most."""
_FEWER: Mapping[str, int] = {"list_slope": 2, "start_full_folder": 2}
"""Rounds of what is a ratio of its own: one takes a minute, and its two sides took turns already."""


class CannotCompareError(Exception):
    """The other version cannot be built or run; the message says why."""


@dataclass(frozen=True)
class Side:
    """The rounds of one version: the median milliseconds of each, wall and CPU; or a ratio of its own in both."""

    wall: Sequence[float]
    cpu: Sequence[float]


@dataclass(frozen=True)
class Row:
    """One measurement of both versions, or why there is none."""

    name: str
    here: Side
    there: Side
    target: float | None
    load: float = 0.0
    """Processes that wanted to run in the minute before it was done, these among them."""
    failed: str = ""

    @property
    def wall_ratio(self) -> float:
        """Median wall time of this version to that of the other."""
        return statistics.median(self.here.wall) / statistics.median(self.there.wall)

    @property
    def cpu_ratio(self) -> float:
        """The same of CPU times."""
        return statistics.median(self.here.cpu) / statistics.median(self.there.cpu)

    @property
    def calm(self) -> bool:
        """True where the wall times of each side differ little."""
        return all(_spread(side.wall) <= CALM for side in (self.here, self.there))

    @property
    def ratio(self) -> float:
        """The ratio that decides: of wall times where they differ little, else of CPU times."""
        return self.wall_ratio if self.calm else self.cpu_ratio

    @property
    def ok(self) -> bool:
        """False for a target that is missed, and for a row without figures."""
        return not self.failed and (self.target is None or self.ratio <= self.target)


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)


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
    """Measure each name on both versions, in turn, after one turn that does not count.

    A row that fails says why, and the others go on. Raises CannotCompareError where there is no other version.
    """
    if not names:
        return
    with environment(ref, root) as other:
        for name in names:
            here, there = list[object](), list[object]()
            try:
                for number in range(min(rounds, _FEWER.get(name, rounds)) + 1):
                    mine, theirs = measured(Path(sys.executable), name, PACKAGE_ROOT), measured(other, name, None)
                    if number:
                        here.append(mine)
                        there.append(theirs)
            except CannotCompareError as error:
                nothing = Side([], [])
                yield Row(name, nothing, nothing, TARGETS[name], os.getloadavg()[0], str(error))
                continue
            yield Row(name, side(here), side(there), TARGETS[name], os.getloadavg()[0])


def measured(
    python: Path, name: str, package_root: Path | None, *, profile: bool = False, timeout_s: float = TIMEOUT_S
) -> object:
    """The program's answer, from a version's interpreter; `package_root` is where the package is, if not installed.

    Raises CannotCompareError where it fails or takes longer than `timeout_s`; none of its processes is left.
    """
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "TINKER_TELEMETRY")}
    if package_root is not None:
        env["PYTHONPATH"] = str(package_root)
    words = [str(python), str(PROGRAM), name, *(["--profile"] if profile else [])]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, tempfile.TemporaryFile("w+") as said:
        errors = None if profile else said  # a file and no pipe, which a server that stays longer would hold open
        with tempfile.TemporaryFile("w+") as told:
            process = subprocess.Popen(words, cwd=folder, env=env, stdout=told, stderr=errors, start_new_session=True)
            try:
                status = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                raise CannotCompareError(f"{name} took more than {timeout_s:g} s with {python}") from None
            finally:
                _end(process)
            answer, reason = _content(told), _content(said)
    if status:
        last = (reason or answer).strip()[-2000:]
        raise CannotCompareError(f"{name} failed with {python}: {last or f'status {status}'}")
    try:
        return json.loads(answer.splitlines()[-1])
    except (ValueError, IndexError):
        raise CannotCompareError(f"{name} gave no figures with {python}: {answer[-200:]!r}") from None


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kept(file: Path, ref: str) -> list[Row]:
    """The rows that an earlier call kept in `file` for commit `ref`; a line that was cut off is passed over."""
    found: dict[str, Row] = {}
    for text in file.read_text("utf-8").splitlines() if file.exists() else ():
        with suppress(ValueError, TypeError, KeyError):
            about = json.loads(text)
            row = about["row"]
            if about["ref"] == ref and row["name"] in TARGETS and not row["failed"]:
                sides = {name: Side(**row[name]) for name in ("here", "there")}
                found[row["name"]] = Row(**{**row, **sides, "target": TARGETS[row["name"]]})
    return list(found.values())


def keep(file: Path, ref: str, row: Row) -> None:
    """Add a row to those of `file`."""
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps({"ref": ref, "row": asdict(row)}) + "\n")


def side(rounds: Sequence[object]) -> Side:
    """Reduce the rounds of one version to the median of each."""
    values = [_medians(one) for one in rounds]
    return Side([wall for wall, _ in values], [cpu for _, cpu in values])


def _medians(found: object) -> tuple[float, float]:
    if not isinstance(found, list):
        return float(str(found)), float(str(found))
    return statistics.median(wall for wall, _ in found), statistics.median(cpu for _, cpu in found)


def line(row: Row) -> str:
    """`ok  name  0.31  wall 12.1-13.0 / 40.2-41.0 ms  CPU 10.1-10.5 / 33.0-33.9 ms`: minimum and median of both."""
    if row.failed:
        return f"FAILED {row.name:<20} {' '.join(row.failed.split())}"
    bound = "" if row.target is None else f"<= {row.target:g}"
    verdict = "" if row.target is None else "ok" if row.ok else "MISSED"
    return (
        f"{verdict:<6} {row.name:<20} {row.ratio:6.2f} {bound:<8} wall {extent(row.here.wall)} / "
        f"{extent(row.there.wall)}  CPU {extent(row.here.cpu)} / {extent(row.there.cpu)}  load {row.load:.1f}"
    )


def extent(values: Sequence[float]) -> str:
    """Write minimum and median."""
    return "–".join(f"{one:.0f}" if one >= 1000 else f"{one:.4g}" for one in (min(values), statistics.median(values)))


def _run(words: Sequence[str]) -> bytes:
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        raise CannotCompareError(f"{' '.join(words[:4])} ...: {done.stderr.decode(errors='replace')[-1000:]}")
    return done.stdout
