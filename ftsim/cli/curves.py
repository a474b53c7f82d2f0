"""`ftsim curves`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ftsim.cli.console import ApiKey, AsJson, JobArgument, StateDir, Url, fail, print_wide


def curves(
    job: JobArgument = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write them as event files of TensorBoard.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Show what every optimizer step of a run measured, whatever program took it (an emulator only).

    A session begins when a model is made or a checkpoint is loaded; what only the program knows, such as a reward, is
    shown where the program told it."""
    from ftsim.cli.service import connect
    from ftsim.inspect.curves import lines, write_logs
    from ftsim.inspect.owners import find
    from ftsim.training.errors import ConfigError
    from ftsim.training.reporting import TensorBoard, writers_named

    try:
        writers_named("tensorboard" if tensorboard else None)
    except ConfigError as error:
        fail(str(error))
    with connect(url, api_key, state_dir) as service:
        name = find(service, job)
        told = service.get("/_ftsim/curves", owner=name)
    found = lines(told)
    if tensorboard is not None:
        for folder in write_logs(found, tensorboard, TensorBoard):
            print(folder)
    elif as_json:
        print(json.dumps({"job": name} | told, indent=1))
    elif not found:
        print(f"{name.rsplit('/', 1)[-1]} has taken no optimizer step yet")
    else:
        from ftsim.inspect.tables import columns

        numbers = ("steps", "first", "last", "lowest", "highest")
        drawn = columns("figure", "of", *numbers, numbers=numbers)
        for (of, figure), points in found.items():
            values = [value for _, value in points]
            shown = (values[0], values[-1], min(values), max(values))
            drawn.add_row(figure, of, str(len(points)), *(f"{value:.6g}" for value in shown))
        print_wide(drawn)
