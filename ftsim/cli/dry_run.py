"""`ftsim train --dry-run`: what a run would do, worked out from its data and the state folder, which stays as it is."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftsim.cli.console import fail, model_folders
from ftsim.process.run import ServerOptions, check_options

if TYPE_CHECKING:
    from emulator.state.database import Database


def check_server(options: ServerOptions, root: Path) -> None:
    """Print how the emulator would be started; raises RunError and PlatformError for options that it would refuse."""
    from emulator.platform.models.catalogue import Catalogue
    from emulator.server import read_platform

    if not (words := options.words()):
        return
    date = read_platform(options.platform) if options.platform else platform_of_state(root)
    catalogue = Catalogue.load(*options.catalogues, platform=date)
    for name, folder in model_folders(list(options.models)).items():
        catalogue.add_model(name, folder)
    check_options(root, options)
    print(f"emulator: started with {' '.join(words)}")


def tell(config: Any, recipe_module: Any, root: Path) -> None:
    """Print rows and bytes, steps, saves and what will be promoted; leaves with status 1 where a run would not start.

    Raises `ValueError` and `CheckpointError` as the recipe would.
    """
    from ftsim.training.checkpoints.identity import as_begun
    from ftsim.training.config import is_set
    from ftsim.training.outlook import outlook
    from ftsim.training.trainers import DEFAULT_SEQ_LEN

    for line in as_begun(config):
        print(line)
    if config.infra.training_shape_id and not config.max_seq_len:
        print(f"the training shape may hold other lengths: rows are counted with at most {DEFAULT_SEQ_LEN} tokens")
    found = outlook(config, recipe_module.recipe(config), config.max_seq_len or DEFAULT_SEQ_LEN, print)
    print(f"rows: {found.rows}, {found.dropped} of them dropped; {bytes_of(config.dataset)} bytes in {config.dataset}")
    print(f"steps: {found.steps}, of which {found.done} are done")
    print(f"saves: {', '.join(found.saves) or 'none'}")
    if found.weights is not None:
        print(f"weights that can be promoted: {found.weights}-SESSION")
    if not config.output_model_id:
        print("model: none, since output_model_id is not set")
        return
    taken = models(root)
    if is_set(config, "output_model_id"):
        state = "taken" if config.output_model_id in taken else "free"
        print(f"model: {config.output_model_id}, which is {state}")
        if state == "taken" and found.done < found.steps:
            fail(f"output_model_id {config.output_model_id!r} is taken: choose another id, or delete that model")
    else:
        names = itertools.chain([""], (f"-{count}" for count in itertools.count(2)))
        free = next(name for end in names if (name := config.output_model_id + end) not in taken)
        print(f"model: {free if found.done < found.steps else config.output_model_id}, which is free or this run's own")


def bytes_of(dataset: str) -> int:
    """Returns the size of all files of a data set."""
    from ftsim.training.data.files import opened, shards

    total = 0
    for path in shards(dataset):
        with opened(path) as stored:
            total += stored.seek(0, 2)
    return total


def models(root: Path) -> set[str]:
    """Returns the ids of the models in a state folder, whether or not an emulator serves it."""
    with _stored(root) as store:
        return {name.rpartition("/")[2] for name, _ in store.all("model")} if store else set()


def platform_of_state(root: Path) -> str:
    """Returns the date of the platform in a state folder, the newest when none is noted there."""
    from emulator.core.catalogue import NEWEST

    with _stored(root) as store:
        return str(((store and store.read("meta", "platform")) or {}).get("date", NEWEST))


@contextmanager
def _stored(root: Path) -> Iterator["Database | None"]:
    """The metadata of a state folder to read, None where there is none."""
    from emulator.state.database import Database
    from emulator.state.folder import METADATA

    if not (root / METADATA).exists():
        yield None
        return
    store = Database(root / METADATA, read_only="a dry run only looks")
    try:
        yield store
    finally:
        store.close()
