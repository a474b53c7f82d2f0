"""The service that a command talks to: the one at its --url, else the emulator of its state folder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ftsim.cli.console import fail

if TYPE_CHECKING:
    from ftsim.inspect.owners import Owner
    from ftsim.inspect.service import Service

METADATA = "metadata.sqlite"


@contextlib.contextmanager
def connect(url: str | None, api_key: str | None, state_dir: Path | None) -> "Iterator[Service]":
    """The service at `url`, else the emulator of the state folder, which is started when none runs.

    Leaves with a message when the service refuses something inside the block.
    """
    from ftsim.inspect.service import ServiceError, open_service

    with contextlib.ExitStack() as stack:
        if url is None:
            url, api_key = stack.enter_context(emulator_of(state_dir))
        elif not api_key:
            fail(f"no key for {url}: give --api-key or set FIREWORKS_API_KEY")
        try:
            with open_service(url, api_key or "") as service:
                yield service
        except ServiceError as error:
            fail(str(error))


def owner_of(service: "Service", text: str | None) -> "Owner":
    """The job or session that `text` means, the newest without it; leaves with a message when there is none."""
    from ftsim.inspect.owners import find, owners

    name = find(service, text)
    for owner in owners(service):
        if owner.name == name:
            return owner
    fail(f"there is no job and no session {name!r}; `ftsim jobs` lists them")


@contextlib.contextmanager
def emulator_of(state_dir: Path | None) -> Iterator[tuple[str, str]]:
    """Address and key of the emulator of a state folder, kept running meanwhile."""
    from ftsim.process.attendance import Attendance, default_state_dir
    from ftsim.process.run import RunError, join_server

    root = (state_dir or default_state_dir()).expanduser().resolve()
    if not (root / METADATA).exists():
        fail(f"no emulator has used the state folder {root} yet: give --state-dir, or --url with --api-key")
    try:
        record, client = join_server(Attendance(root))
    except RunError as error:
        fail(str(error))
    try:
        yield record.url, record.api_key
    finally:
        client.leave()
