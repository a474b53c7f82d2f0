"""The commands of `ftsim` by name. A module is imported when its command is meant: that is a tenth of a start."""

import importlib
from collections.abc import Iterator, MutableMapping
from typing import Any

import typer
from typer._click.core import Command
from typer.core import TyperGroup

from ftsim.cli.program import SETTINGS, ProgramCommand

COMMANDS = {
    "serve": "serve:serve",
    "trainer-node": "trainer_node:trainer_node",
    "open": "open:open_console",
    "run": "run:run",
    "train": "train:train",
    "data": "data:app",
    "demo": "demo:demo",
    "jobs": "jobs:jobs",
    "job": "jobs:job",
    "checkpoints": "checkpoints:checkpoints",
    "curves": "curves:curves",
    "doctor": "doctor:doctor",
    "explain": "explain:explain",
    "promote": "promote:promote",
    "models": "models:app",
    "journal": "journal:journal",
    "record": "record:record",
    "state": "state:app",
    "quirk": "control:app",
    "clock": "control:clock",
    "preempt": "jobs:preempt",
    "end": "jobs:end",
    "contract": "contract:contract",
    "torture": "torture:torture",
    "bench": "bench:bench",
    "reproduce": "reproduce:reproduce",
}
"""In the order in which `ftsim --help` lists them: the module of `ftsim.cli`, and its function or its group."""
_AROUND_PROGRAMS = frozenset({"run", "torture"})


class _Commands(MutableMapping[str, Command]):
    """Makes each command when it is asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Command] = {}

    def __getitem__(self, name: str) -> Command:
        if name not in self._made:
            self._made[name] = _command(name)
        return self._made[name]

    def __setitem__(self, name: str, command: Command) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class CommandGroup(TyperGroup):
    """The group of all commands, which knows their names alone until one is meant."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.commands = _Commands()


def _command(name: str) -> Command:
    module, _, attribute = COMMANDS[name].partition(":")
    found = getattr(importlib.import_module(f"ftsim.cli.{module}"), attribute)
    around = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    elif name in _AROUND_PROGRAMS:
        around.command(name, cls=ProgramCommand, context_settings=SETTINGS)(found)
    else:
        around.command(name)(found)
    made: Command = typer.main.get_group(around).commands[name]
    return made
