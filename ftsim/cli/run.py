"""`ftsim run`."""

import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ftsim.cli.console import (
    CatalogueFiles,
    Compute,
    Light,
    ModelFolders,
    Platform,
    Profile,
    QuirkOptions,
    SamplerOption,
    StateDir,
    TrainerNproc,
    TrainerWorkers,
    fail,
)
from ftsim.cli.program import Program


def run(
    program: Program = None,
    state_dir: StateDir = None,
    memory: Annotated[bool, typer.Option("--memory", help="Keep nothing after the program's end.")] = False,
    light: Light = False,
    seed: Annotated[
        int | None, typer.Option(help="Fixes ids, and what is derived from ids.", show_default=False)
    ] = None,
    quirk: QuirkOptions = None,
    profile: Profile = None,
    platform: Platform = None,
    model: ModelFolders = None,
    catalogue: CatalogueFiles = None,
    compute: Compute = None,
    trainer_workers: TrainerWorkers = None,
    trainer_nproc: TrainerNproc = None,
    sampler: SamplerOption = None,
    fast_forward: Annotated[
        bool,
        typer.Option("--fast-forward", help="When all that could run sleeps, move the clock to the next deadline."),
    ] = False,
    tinker: Annotated[
        bool, typer.Option("--tinker", help="The program speaks to tinker's own service, not to the pool.")
    ] = False,
    map: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="URL=FILE: answer an address from a file or folder; others outside this machine then fail."
        ),
    ] = None,
) -> None:
    """Run a program against the emulator.

    The program is not modified. The emulator of the state folder is started when it does not run, and ends after its
    last program. The program finds FIREWORKS_BASE_URL, FIREWORKS_API_KEY and an offline hub with the tokenizers of the
    catalogue, and `training.*` when no cookbook is installed. Options that say how the emulator is to be are refused
    when it runs already.
    """
    from ftsim.process.attendance import default_state_dir
    from ftsim.process.mapping import MapError, variables
    from ftsim.process.run import RunError, ServerOptions, command_line, exec_program

    if fast_forward and (trainer_workers or (trainer_nproc or 1) > 1):
        fail("--fast-forward does not see who waits in the processes of trainers: leave one of them out", 2)
    words, made = program or [], None
    options = ServerOptions(
        tuple(quirk or ()),
        profile,
        seed,
        light,
        memory,
        platform,
        tuple(model or ()),
        tuple(file.resolve() for file in catalogue or ()),
        tuple(compute or ()),
        fast_forward,
        trainer_workers,
        trainer_nproc,
        sampler,
    )
    try:
        command_line(words)  # before a folder is made for it
        made = Path(tempfile.mkdtemp(prefix="ftsim-")) if memory else None
        root = made or state_dir or default_state_dir()
        mapped = variables(map or ())
        again = "" if memory else shlex.join(["ftsim", *sys.argv[1:]])
        root = root.expanduser().resolve()
        exec_program(words, state_dir=root, options=options, env=mapped, tinker=tinker, again=again)
    except (RunError, MapError) as error:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        fail(str(error), 2)
