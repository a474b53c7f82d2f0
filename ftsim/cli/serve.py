"""`ftsim serve`."""

import gc
from pathlib import Path
from typing import Annotated, Literal

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
    account_keys,
    model_folders,
)


def serve(
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to bind; anything but loopback is open to others.")] = "127.0.0.1",
    state_dir: StateDir = None,
    memory: Annotated[bool, typer.Option("--memory", help="Keep nothing on disk after the end.")] = False,
    light: Light = False,
    seed: Annotated[int, typer.Option(help="Fixes ids, and with them whatever is derived from ids.")] = 0,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="FTSIM_API_KEY", help="The key that clients must send; the state folder's own by default."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name under which it may be reached, besides addresses and localhost.")
    ] = None,
    model: ModelFolders = None,
    catalogue: CatalogueFiles = None,
    compute: Compute = None,
    trainer_workers: TrainerWorkers = None,
    trainer_nproc: TrainerNproc = None,
    trainer_nnodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Machines that a trainer is spread over, this one among them (FTSIM_TRAINER_NNODES); 1 by default.",
            show_default=False,
        ),
    ] = None,
    trainer_rdzv_endpoint: Annotated[
        str | None,
        typer.Option(
            help="Where they meet: an address of this machine (FTSIM_TRAINER_RDZV_ENDPOINT).", metavar="HOST:PORT"
        ),
    ] = None,
    sampler: SamplerOption = None,
    warm: Annotated[bool, typer.Option("--warm", help="Import torch at once, not with the first trainer.")] = False,
    quirk: QuirkOptions = None,
    platform: Platform = None,
    profile: Profile = None,
    print_env: Annotated[
        Literal["sh", "fish", "docker", "github"],
        typer.Option("--print-env", help="Print the variables of a client as these read them."),
    ] = "sh",
    env_file: Annotated[
        Path | None, typer.Option(help="Write the variables into this file too.", show_default=False)
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(envvar="FTSIM_DATABASE", help="Rows on a server: postgresql+psycopg://USER@HOST/NAME."),
    ] = None,
    blobs: Annotated[
        str | None, typer.Option(envvar="FTSIM_BLOBS", help="With --database: the folder of checkpoints and models.")
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="With --database: other processes use it too, each has some accounts.")
    ] = False,
    address: Annotated[
        str, typer.Option(envvar="FTSIM_ADDRESS", help="With --share: the URL at which other processes reach this one.")
    ] = "",
    account_key: Annotated[
        list[str] | None,
        typer.Option(envvar="FTSIM_ACCOUNT_KEYS", help="ACCOUNT=KEY: the key of a further account; may be repeated."),
    ] = None,
    lease: Annotated[float, typer.Option(min=1, help="With --database: seconds until a dead process is.")] = 5.0,
    until_deserted: Annotated[bool, typer.Option("--until-deserted", hidden=True)] = False,
    discard: Annotated[bool, typer.Option("--discard", hidden=True)] = False,
) -> None:
    """Run the emulator until Ctrl-C."""
    gc.disable()  # importing makes objects that all stay: looking for garbage meanwhile is a tenth of the start
    from emulator.server import Emulator
    from ftsim.process import serve as server

    def up(emulator: Emulator) -> None:
        gc.freeze()
        gc.enable()
        if not until_deserted or env_file is not None:  # who starts a server for a program reads its announcement
            server.say(emulator, print_env, env_file)

    try:
        status = server.serve(
            state_dir=state_dir,
            memory=memory,
            light=light,
            host=host,
            port=port,
            seed=seed,
            api_key=api_key,
            allow_hosts=allow_host or [],
            models=model_folders(model or []),
            catalogue=catalogue or [],
            compute=compute or [],
            trainer_workers=trainer_workers,
            trainer_nproc=trainer_nproc,
            trainer_nnodes=trainer_nnodes,
            trainer_rdzv_endpoint=trainer_rdzv_endpoint,
            sampler=sampler,
            warm=warm,
            until_deserted=until_deserted,
            discard=discard,
            quirks=quirk or [],
            profile=profile,
            platform=platform,
            database=database,
            blobs=blobs,
            lease_s=lease,
            share=share,
            address=address,
            keys=account_keys(account_key or []),
            announce=up,
        )
    finally:
        gc.enable()
    raise SystemExit(status)
