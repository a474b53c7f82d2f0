"""The environment of a program under `ftsim run`: as variables, as lines of a shell, in this process."""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import ftsim
from emulator.state.server_record import TELEMETRY, ServerRecord

SHIMS = Path(__file__).parent / "shims"
PACKAGE_ROOT = Path(ftsim.__file__).parent.parent
OVERRIDING_VARIABLES = ("FIREWORKS_CREDENTIAL_CMD",)
"""Removed from the program's environment: the SDK would fetch a real credential and prefer it to the emulator's key."""
Format = Literal["sh", "fish", "docker", "github"]
FORMATS: tuple[Format, ...] = ("sh", "fish", "docker", "github")


def program_environment(
    base: Mapping[str, str], server: ServerRecord, hub_variables: Mapping[str, str]
) -> dict[str, str]:
    """`base` with everything an unmodified program needs to talk to the emulator and to nobody else (WIRE 1.1)."""
    environment = {key: value for key, value in base.items() if key not in OVERRIDING_VARIABLES}
    environment |= hub_variables
    environment |= {
        **server.variables(),
        TELEMETRY: base.get(TELEMETRY, "0"),
        "FTSIM_PACKAGE_ROOT": str(PACKAGE_ROOT),
        "FTSIM_METRICS_URL": f"{server.url}/_ftsim/metrics",
        "PYTHONPATH": joined(str(SHIMS), base.get("PYTHONPATH"), os.pathsep),
    }
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    for variable in ("NO_PROXY", "no_proxy"):
        environment[variable] = joined("127.0.0.1,localhost", base.get(variable), ",")
    return environment


def joined(first: str, rest: str | None, separator: str) -> str:
    """`first`, and the rest of a list behind it when there is one."""
    return f"{first}{separator}{rest}" if rest else first


def added(base: Mapping[str, str], server: ServerRecord, hub_variables: Mapping[str, str]) -> dict[str, str]:
    """Variables that `program_environment` sets, without what was there before and stays."""
    whole = program_environment(base, server, hub_variables)
    ours = program_environment({}, server, hub_variables)
    return {name: whole[name] for name in ours}


def lines(variables: Mapping[str, str], form: Format) -> list[str]:
    """Variables as a shell, `docker --env-file` or the file at $GITHUB_ENV reads them.

    The shells also forget what would override them; the files cannot, and whoever reads them begins without it.
    """
    if form in ("docker", "github"):  # neither knows quotes: everything to the end of the line is the value
        return [f"{name}={value}" for name, value in variables.items()]
    if form == "fish":
        return [
            *(f"set -gx {name} {_fish(value)}" for name, value in variables.items()),
            *(f"set -e {name}" for name in OVERRIDING_VARIABLES),
        ]
    return [
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        *(f"unset {name}" for name in OVERRIDING_VARIABLES),
    ]


def _fish(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@contextlib.contextmanager
def in_environment(variables: Mapping[str, str], without: Sequence[str] = ()) -> Iterator[None]:
    """Set `variables` and remove those of `without`; afterwards everything is as it was before."""
    before = dict(os.environ)
    os.environ.update(variables)
    for name in without:
        os.environ.pop(name, None)
    try:
        with _in_hub(variables):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _in_hub(variables: Mapping[str, str]) -> Iterator[None]:
    """Tell the hub library of its cache where it was imported before: it reads its environment once."""
    from ftsim.compute.models import hub

    values = hub.read_once(variables) if "HF_MODULES_CACHE" in variables else {}
    before = {(module, name): getattr(sys.modules[module], name) for module, name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[tuple[str, str], object]) -> None:
    for (module, name), value in values.items():
        setattr(sys.modules[module], name, value)
