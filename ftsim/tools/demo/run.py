"""The demo from start to end: it trains, kills, trains again, compares, opens the models and prints what it found."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ftsim.compute import data
from ftsim.inspect.listing import ListedRow, oldest_first
from ftsim.inspect.service import Service, ServiceError, fetch_model, open_service
from ftsim.inspect.tables import describe, lines, table
from ftsim.process.attendance import Attendance
from ftsim.process.environment import in_environment
from ftsim.process.run import RunError, console_link, join_server
from ftsim.tools.demo.processes import DemoError, Program, cursors, environment, metrics, wait_for
from ftsim.tools.demo.programs import BASE_MODEL, MODES, REFERENCE, SAVE_INTERVAL, STEPS, Mode, write

CHECKER = Path(__file__).with_name("checker.py")
KILL_AT = 13


@dataclass
class DemoRun:
    """The demo's folder, its terminal, and the checks that failed."""

    folder: Path
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    failed: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    def say(self, text: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self.began:5.1f} s[/dim]  {text}")

    def check(self, holds: bool, text: str) -> None:
        """Say what was found and remember it when it is not what must be."""
        if not holds:
            self.failed.append(text)
        self.say(f"{'[green]ok[/green]    ' if holds else '[red]FAILED[/red]'}  {escape(text)}")


def show(keep: Path | None = None) -> int:
    """Run the demo; 0 when every check holds. With `keep` the folder stays."""
    with _folder(keep) as folder:
        demo = DemoRun(folder)
        try:
            with _server(demo) as (url, key):
                run(demo, url, key)
        except (DemoError, RunError, ServiceError) as error:
            demo.failed.append(str(error))
            demo.console.print(f"[red]ftsim demo: {escape(str(error))}[/red]")
        taken = time.monotonic() - demo.began
        if demo.failed:
            demo.console.print(f"\n[red]{len(demo.failed)} checks failed[/red] in {taken:.1f} s")
        else:
            demo.console.print(f"\n[green]everything holds[/green], in {taken:.1f} s")
        if keep is not None:
            demo.console.print(f"kept in {folder}: the scripts, their logs, and the emulator's state; look at it:")
            for command in ("jobs", "doctor", "open"):
                demo.console.print(f"  ftsim {command} --state-dir {shlex.quote(str(demo.state_dir))}", markup=False)
    return 1 if demo.failed else 0


def run(demo: DemoRun, url: str, key: str) -> None:
    """Run every step of the demo on a running emulator."""
    write(demo.folder)
    demo.say("two scripts train under `ftsim run`, LoRA and full-parameter; a third does both uninterrupted")
    with contextlib.ExitStack() as stack:
        first = {mode: _start(demo, stack, mode.script, f"{mode.name}-1.log") for mode in MODES}
        reference = _start(demo, stack, REFERENCE, "uninterrupted.log")
        again = interrupt(demo, stack, first)
        checker = stack.enter_context(_checker())
        for mode, program in again.items():
            resumed(demo, mode, program)
        reference.finish()
        compare(demo, checker, url, key)


def compare(demo: DemoRun, checker: "subprocess.Popen[str]", url: str, key: str) -> None:
    """Compare what the runs left, and open it."""
    with open_service(url, key) as service:
        rows = {mode: job_rows(service, mode.log_path) for mode in MODES}
        references = {mode: job_rows(service, mode.reference_log_path) for mode in MODES}
        models = {mode: service.get(f"/v1/accounts/{service.account}/models/{mode.model}") for mode in MODES}
        _pull(demo, url, key)
    for mode in MODES:
        same = metrics(demo.folder / mode.log_path) == metrics(demo.folder / mode.reference_log_path)
        demo.check(same, f"{mode.title}: {STEPS} logged losses equal those of the uninterrupted run")
    check_files(demo, checker, rows, references, models)
    _tables(demo, rows)


def _start(demo: DemoRun, stack: contextlib.ExitStack, script: str, log: str) -> Program:
    program = Program.start(demo.folder, demo.state_dir, script, log)
    stack.callback(program.stop)
    return program


def interrupt(demo: DemoRun, stack: contextlib.ExitStack, running: dict[Mode, Program]) -> dict[Mode, Program]:
    """Kill each run in its middle and run the same script again.

    All are watched at once: a run that had to wait for the other's turn could end before it is killed.
    """
    again: dict[Mode, Program] = {}

    def middle() -> Mode | None:
        left = (mode for mode in running if mode not in again)
        return next((one for one in left if running[one].reached(one.log_path, KILL_AT, f"step-{SAVE_INTERVAL}")), None)

    while len(again) < len(running):
        mode = wait_for(middle, f"a run to reach step {KILL_AT}")
        last = running[mode].kill(mode.log_path)
        demo.check(
            running[mode].killed and last < STEPS, f"{mode.title}: killed with SIGKILL after step {last} of {STEPS}"
        )
        again[mode] = _start(demo, stack, mode.script, f"{mode.name}-2.log")
    return again


def resumed(demo: DemoRun, mode: Mode, program: Program) -> None:
    """Wait for the second run and check what it went on from."""
    program.finish()
    found, at = program.resumed(), cursors(demo.folder / mode.log_path)
    fits = found is not None and at.get(found.row) == found.data_consumed and found.data_consumed > 0
    what = f"resumed from {found.row}, {found.data_consumed} rows consumed" if found else "did not resume"
    demo.check(fits, f"{mode.title}: {what}; finished all {STEPS} steps")
    demo.check(program.was_complete_the_second_time(), f"{mode.title}: one more run after that changed nothing")


def job_rows(service: Service, log_path: str) -> list[ListedRow]:
    """The rows of the job behind a `log_path`, oldest first."""
    jobs = service.get(f"/v1/accounts/{service.account}/rlorTrainerJobs").get("rlorTrainerJobs") or []
    job = next((job["name"] for job in jobs if job.get("displayName") == log_path), None)
    if job is None:
        raise DemoError(f"there is no job of {log_path}")
    return oldest_first(service.rows(job)[0])


def newest(rows: list[ListedRow], ability: str) -> ListedRow:
    """The newest resumable or promotable row; raises `DemoError` when there is none."""
    found = [row for row in rows if getattr(row, ability)]
    if not found:
        raise DemoError(f"no {ability} row among {', '.join(row.id for row in rows) or 'none'}")
    return found[-1]


def check_files(
    demo: DemoRun,
    checker: "subprocess.Popen[str]",
    rows: dict[Mode, list[ListedRow]],
    references: dict[Mode, list[ListedRow]],
    models: dict[Mode, dict[str, Any]],
) -> None:
    """Let a Python without ftsim compare the blobs and open the promoted models."""
    blobs = demo.state_dir / "blobs"
    pairs = {
        f"{mode.title}: {what} of {newest(rows[mode], ability).id}": [
            str(blobs / newest(of[mode], ability).facts["blob"]) for of in (rows, references)
        ]
        for mode in MODES
        for ability, what in (("resumable", "weights and optimizer"), ("promotable", "sampler weights"))
    }
    with data.path("chat-eval").open("rb") as file:
        prompts = [json.loads(line)["messages"][:-1] for line in islice(file, len(MODES))]
    asked = [
        {
            "name": mode.name,
            "folder": str(demo.folder / mode.model),
            "base": str(demo.folder / "base"),
            "blob": str(blobs / newest(rows[mode], "promotable").facts["blob"]),
            "prompt": prompt,
        }
        for mode, prompt in zip(MODES, prompts, strict=True)
    ]
    request = demo.folder / "checker.json"
    request.write_text(json.dumps({"pairs": pairs, "models": asked}, indent=1), "utf-8")
    findings = _ask(checker, request)
    for finding in findings:
        if "pair" in finding:
            _same(demo, finding["pair"], "the uninterrupted run's", finding)
    for mode, prompt in zip(MODES, prompts, strict=True):
        found = next((one for one in findings if one.get("model") == mode.name), None)
        if found is None:
            raise DemoError(f"the promoted model of the {mode.title} run did not open")
        kind = models[mode].get("kind")
        wanted = "HF_PEFT_ADDON" if mode.lora else "HF_BASE_MODEL"
        demo.check(kind == wanted, f"{mode.title}: promoted to {models[mode].get('name')}, {kind}")
        _same(demo, f"{mode.title}: opened by {found['opened_by']}, {mode.model}", "the promoted row's", found)
        demo.say(f"        asked {prompt[-1]['content']!r} it says {found['answer']!r}")
    clean = any(finding.get("imported") == [] for finding in findings)
    demo.check(clean, "the models were opened by a Python that never imported ftsim")


def _same(demo: DemoRun, what: str, whose: str, found: dict[str, Any]) -> None:
    differ = found["differ"]
    count = f"{found['tensors']} tensors, {found['values']:,} values"
    demo.check(
        not differ and found["tensors"] > 0,
        f"{what}: {count}, "
        + (f"{len(differ)} differ: {', '.join(differ[:3])}" if differ else f"bit-equal to {whose}"),
    )


@contextlib.contextmanager
def _checker() -> Iterator["subprocess.Popen[str]"]:
    """A Python of its own, which imports torch while the runs still go on."""
    settings = {key: value for key, value in environment().items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-I", str(CHECKER)], env=settings, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _ask(checker: "subprocess.Popen[str]", request: Path) -> list[dict[str, Any]]:
    findings, errors = checker.communicate(f"{request}\n")
    if checker.returncode:
        raise DemoError(f"the files do not open:\n{errors[-2000:]}")
    return [json.loads(line) for line in findings.splitlines()]


def _pull(demo: DemoRun, url: str, key: str) -> None:
    """Fetch the promoted models and the base model as `ftsim models pull` does."""
    with open_service(url, key) as service:
        for name, folder in ((BASE_MODEL, "base"), *((mode.model, mode.model) for mode in MODES)):
            fetch_model(service, name, demo.folder / folder)


def _tables(demo: DemoRun, rows: dict[Mode, list[ListedRow]]) -> None:
    now = time.time()
    for mode in MODES:
        demo.console.print(f"\n[bold]{mode.title}[/bold]  {rows[mode][0].owner}")
        drawn = table([describe(row, now) for row in rows[mode]])
        if demo.console.is_terminal:
            demo.console.print(drawn)
        else:
            demo.console.print("\n".join(lines(drawn)), markup=False)


@contextlib.contextmanager
def _server(demo: DemoRun) -> Iterator[tuple[str, str]]:
    """An emulator on the demo's own state folder, from first to last."""
    with in_environment(environment()):
        record, client = join_server(Attendance(demo.state_dir))
    if link := console_link(record):
        demo.console.print(f"watch it at {link}", markup=False)
    try:
        yield record.url, record.api_key
    finally:
        client.leave()
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while (demo.state_dir / "server.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        folder = keep.resolve()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SystemExit(f"ftsim: {folder} is not an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix="ftsim-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
