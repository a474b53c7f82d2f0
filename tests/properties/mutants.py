"""The mutation check: break one rule at a time, and see that the properties or the machines notice.

    python -m tests.properties.mutants [NAME ...]      # all of them without a name; 1 when one survives

A mutant is a rule with other words in one place: the module's source is compiled with the change, and the code of the
one function takes the place of the running one. Words that are no longer there, or there twice, are an error.
"""

import argparse
import importlib
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FunctionType
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.properties import profiles

BATCHES = 8


@dataclass(frozen=True)
class Mutant:
    """A rule that is broken: in `module`, in the function of this qualified name, `old` becomes `new`."""

    name: str
    module: str
    function: str
    old: str
    new: str
    check: str
    batches: int = BATCHES
    """Batches of machine runs in which it must be noticed."""


def _kinds(name: str, function: str, old: str, new: str, check: str = "detection") -> Mutant:
    return Mutant(name, "emulator.core.kinds", function, old, new, check)


def _promotion(name: str, function: str, old: str, new: str) -> Mutant:
    return Mutant(name, "emulator.platform.checkpoints.promotion", f"Promotion.{function}", old, new, "platform")


def _hot_load(name: str, function: str, old: str, new: str, batches: int = BATCHES) -> Mutant:
    return Mutant(name, "emulator.platform.deployments.hotload", f"HotLoad.{function}", old, new, "hot load", batches)


def _saving(name: str, function: str, old: str, new: str, check: str = "platform") -> Mutant:
    return Mutant(name, "emulator.platform.trainers.training", f"Training.{function}", old, new, check)


def _rows(name: str, function: str, old: str, new: str, check: str = "platform") -> Mutant:
    return Mutant(name, "emulator.platform.checkpoints.checkpoints", f"Checkpoints.{function}", old, new, check)


MUTANTS = (
    # kinds
    _kinds("a delta is promotable", "promotable", "CAPABILITIES[kind].promotable",
           "CAPABILITIES[kind].promotable or 'ARC' in kind", "table"),
    _kinds("an adapter is resumable", "resumable", "CAPABILITIES[kind].resumable",
           "CAPABILITIES[kind].resumable or kind.endswith('INFERENCE_LORA')", "platform"),
    _kinds("a shard may be of any size", "_training", "type(size) is not int or not size or", "False and"),
    _kinds("no word of LoRA means none", "_training", 'state.get("lora", False)', 'state.get("lora")'),
    _kinds("two kinds are the first", "detect", "len(found) == 1", "found"),
    _kinds("a short shard is whole", "read_shard", "reached != size", "reached > size"),
    _kinds("half a delta is full weights", "_weights", "if deltas or not any(", "if not any("),
    _kinds("half an adapter is one", "_adapter", "name.replace(half, other) not in names", "False"),
    _kinds("a missing shard is not missed", "_shards", "range(1, count + 1)", "range(1, count)"),
    _kinds("LoRA is full-parameter", "_training", "return CheckpointKind.TRAINING_LORA",
           "return CheckpointKind.TRAINING"),
    # lists
    Mutant("a page repeats its first row", "emulator.platform.queries.paging", "page",
           "bisect_right(items, read_token(token)", "bisect_right(items, read_token(token) - 1", "paging"),
    Mutant("a full last page is not the last", "emulator.platform.queries.paging", "page", "end < len(items)",
           "end < len(items) - 1", "platform"),
    Mutant("times lose their fraction", "emulator.core.clock", "parse_rfc3339",
           'fraction.ljust(6, "0")[:6]', 'fraction[:6]', "time"),
    # promotion
    _promotion("everything promotes", "_row", "if row.kind not in PROMOTABLE:", "if False:"),
    _promotion("a training state is promotable", "_row", "row.kind not in PROMOTABLE",
               "row.kind not in PROMOTABLE and not row.kind.endswith('TRAINING')"),
    _promotion("any base model will do", "_check_base", "request.base_model != row.base_model", "False"),
    _promotion("a taken id is taken over", "_reserved", "known is not None and not same", "False"),
    _promotion("the newest blob is copied", "_staged_copy", "self._checkpoints.staged_copy(row)",
               "self._checkpoints.staged_copy([r for r in self._checkpoints.rows(row.owner)"
               " if r.kind is row.kind][-1])"),
    _promotion("a lost blob is found all the same", "_staged_copy", "if lost or legacy:", "if legacy:"),
    _promotion("any model id will do", "_model_id", "split_output(request.output_model, rule)",
               'request.output_model.split("/")[1::2]'),
    Mutant("half a tokenizer promotes", "ftsim.compute.models.describe", "describe", "_refuse_torn(folder)", "pass",
           "description"),
    _promotion("a refusal gives no advice", "_refusal", "save with {HOW_TO_SAVE}{ready}", "no"),
    _promotion("a refusal names no kind", "_refusal", "is {short}, {what_it_is(row)}, which is", "is"),
    # saving and loading
    _rows("a taken name is overwritten", "check_free", "or row.step != step", ""),
    _rows("a load takes the newest row", "resolve", "self.saved(source, reference.checkpoint)",
          "self.rows(source.owner)[-1]"),
    Mutant("cross_job:// means this job", "emulator.platform.jobs.jobs", "Jobs.source",
           "reference.job or job_id", "job_id", "platform"),
    _rows("sampler weights load as a state", "resolve", "if row.kind not in RESUMABLE:", "if False:"),
    _saving("a load forgets the moments", "_load_state", "optimizer=kept", "optimizer=False"),
    _saving("weights alone bring the moments", "_load_state", "optimizer=kept", "optimizer=True"),
    Mutant("a load forgets the step", "ftsim.compute.checkpoints.dcp", "load",
           'model.step = description["step"]', "pass", "platform"),
    Mutant("an untouched adapter merges", "ftsim.compute.checkpoints.hf", "merged_tensors",
           "lora.changes_nothing(live.model)", "False", "platform"),
    # the life of jobs
    Mutant("a tombstone stays for ever", "emulator.core.lifecycle", "Life.settle",
           "self._clock.since(entity.deleted) > RETENTION_S * SECOND",
           "False", "platform"),
    Mutant("a second delete prolongs", "emulator.platform.jobs.jobs", "Jobs.delete", "if job.deleted is not None:",
           "if False:", "platform"),
    Mutant("a restart turns rows round", "emulator.state.table", "birth", "int(entity.created)",
           "-int(entity.created)", "platform"),
    # the chain of deltas
    Mutant("a delta is against the first base", "ftsim.compute.checkpoints.sampler", "save",
           "partial(_remember, live, Snapshot(identity, tensors))", "lambda: None", "hot load"),
    Mutant("a delta hides its base", "ftsim.compute.checkpoints.sampler", "save",
           "previous.identity if previous", "identity if previous", "hot load"),
    Mutant("any previous snapshot will do", "emulator.platform.deployments.plans", "plan",
           "if incremental.previous != pod.current:", "if False:", "hot load"),
    Mutant("a delta loads as a base", "emulator.platform.deployments.plans", "plan", 'if how == "delta":', "if False:",
           "hot load"),
    _hot_load("a failed load is taken for done", "_carry_out", "elif load is not None and not error:",
              "if load is not None:"),
    _hot_load("a restart forgets a delta", "_note", "blob=taken.blob if taken else",
              "blob=taken.blob if taken and taken.how != 'delta' else", batches=30),
    # the client side
    Mutant("our manager resumes the oldest", "ftsim.training.checkpoints.rows", "read_rows", "reverse=True",
           "reverse=False", "manager"),
    Mutant("our manager promotes the oldest", "ftsim.training.checkpoints.manager",
           "TrainingCheckpoints._own_promotable", "return by_session[0]", "return by_session[-1]", "manager"),
)  # fmt: skip


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The rule is broken inside the block; raises LookupError for a mutant that fits the source no longer."""
    module = importlib.import_module(mutant.module)
    path = Path(str(module.__file__))
    source = path.read_text()
    function = _function(module, mutant.function)
    lines, first = inspect.getsourcelines(function)
    body = "".join(lines)
    begin = len("".join(source.splitlines(keepends=True)[: first - 1]))
    if body.count(mutant.old) != 1:
        raise LookupError(f"{mutant.name}: {mutant.old!r} is {body.count(mutant.old)} times in {mutant.function}")
    changed = source[:begin] + body.replace(mutant.old, mutant.new) + source[begin + len(body) :]
    original = function.__code__
    function.__code__ = _code(compile(changed, str(path), "exec"), mutant.function)
    try:
        yield
    finally:
        function.__code__ = original


def _function(module: Any, name: str) -> FunctionType:
    found = module
    for part in name.split("."):
        found = getattr(found, part)
    found = getattr(found, "__wrapped__", found)
    assert isinstance(found, FunctionType)
    return found


def _code(code: CodeType, name: str) -> CodeType:
    """The code of a function by qualified name, within a compiled module."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_qualname == name:
                return constant
            if name.startswith(f"{constant.co_qualname}."):
                return _code(constant, name)
    raise LookupError(f"no function {name}")


# -- what must notice


def _properties(module: str) -> None:
    found = importlib.import_module(f"tests.properties.{module}")
    for name, test in vars(found).items():
        marks = {mark.name for mark in getattr(test, "pytestmark", [])}
        if name.startswith("test_") and hasattr(test, "hypothesis") and "parametrize" not in marks:
            test()
        if name == "HARMED":
            for files, old, new, kind in test.values():
                found.test_harm_that_once_was_misjudged(files, old, new, kind)
        if name.startswith("test_") and not hasattr(test, "hypothesis") and not inspect.signature(test).parameters:
            test()


def _table() -> None:
    found = importlib.import_module("tests.properties.test_capabilities")
    found.test_no_kind_is_both_resumable_and_promotable()
    found.test_the_client_reads_the_same_table()


def _description() -> None:
    from tests.compute.models.test_describe import check_torn

    with TemporaryDirectory() as folder:
        check_torn(Path(folder))


def _machine(kind: str) -> Callable[[int], None]:
    def run(batches: int) -> None:
        from tests.properties.machines.hotload import HotLoadMachine
        from tests.properties.machines.platform import PlatformMachine

        machine = {"platform": PlatformMachine, "hot load": HotLoadMachine}[kind]
        machine.continued.clear()
        for batch in range(batches):
            profiles.run_machine(machine, batch)

    return run


def _manager() -> None:
    from ftsim.testing import check_checkpoint_manager
    from ftsim.training.checkpoints.manager import TrainingCheckpoints

    def without_waiting(*args: Any, **options: Any) -> TrainingCheckpoints:
        return TrainingCheckpoints(*args, sleep=lambda seconds: None, **options)

    check_checkpoint_manager(without_waiting, runs=10)


CHECKS: dict[str, Callable[[int], None]] = {
    "table": lambda batches: _table(),
    "description": lambda batches: _description(),
    "detection": lambda batches: _properties("test_detection"),
    "paging": lambda batches: _properties("test_paging"),
    "time": lambda batches: _properties("test_time"),
    "platform": _machine("platform"),
    "hot load": _machine("hot load"),
    "manager": lambda batches: _manager(),
}


def caught_by(mutant: Mutant) -> str | None:
    """The first line of what noticed the mutant, None when nothing did."""
    with applied(mutant):
        try:
            CHECKS[mutant.check](mutant.batches)
        except Exception as error:
            return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def main(names: list[str]) -> int:
    os.environ[profiles.VARIABLE] = "mutants"
    profiles.load()
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        print(f"no such mutant: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    for check in sorted({mutant.check for mutant in chosen}):
        CHECKS[check](
            max(mutant.batches for mutant in chosen if mutant.check == check)
        )  # the very batches that are to notice: what cries wolf proves nothing
        print(f"passes unbroken  {check}", file=sys.stderr, flush=True)
    table = Table("mutant", "check", "s", "noticed by", title=f"{len(chosen)} rules broken, one at a time")
    survived = 0
    for mutant in chosen:
        started = time.perf_counter()
        noticed = caught_by(mutant)
        survived += noticed is None
        seconds = f"{time.perf_counter() - started:.1f}"
        table.add_row(mutant.name, mutant.check, seconds, (noticed or "[bold red]nothing: it survived[/]")[:80])
        print(f"{'caught' if noticed else 'SURVIVED'}  {mutant.name} ({seconds} s)", file=sys.stderr, flush=True)
    Console(width=160).print(table)
    print(f"{len(chosen) - survived} of {len(chosen)} caught")
    return 1 if survived else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    sys.exit(main(parser.parse_args().names))
