"""`ftsim serve`: the emulator as a process of its own, until Ctrl-C, SIGTERM or, for `ftsim run`, its last client."""

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator.backend import Backend, BackendError
from emulator.core import threads
from emulator.core.errors import PlatformError, StorageFailed
from emulator.core.ids import secret
from emulator.quirks.platforms import ALIASES
from emulator.server import Emulator
from emulator.state.accounts import LENGTH_S
from emulator.state.homes import servers_of
from emulator.state.server_record import ServerRecord
from ftsim import local
from ftsim.extras import MissingExtraError, require
from ftsim.process.attendance import Attendance, default_state_dir
from ftsim.process.environment import Format, added, lines
from ftsim.process.nodes import invitation, nodes_of
from ftsim.process.stop import Stop, by_signals

SWITCH_S = 0.0005
"""Seconds for which a trainer may keep the event loop from answering: a tenth of Python's default."""
PATIENCE_S = 10.0
"""Seconds that a server which programs have asked for waits for the one before it, which is just ending."""


def serve(
    *,
    state_dir: Path | None = None,
    memory: bool = False,
    light: bool = False,
    host: str = "127.0.0.1",
    port: int = 8080,
    seed: int = 0,
    api_key: str | None = None,
    allow_hosts: Sequence[str] = (),
    models: Mapping[str, Path] | None = None,
    catalogue: Sequence[Path] = (),
    compute: Sequence[str] = (),
    trainer_workers: int | None = None,
    trainer_nproc: int | None = None,
    trainer_nnodes: int | None = None,
    trainer_rdzv_endpoint: str | None = None,
    sampler: str | None = None,
    warm: bool = False,
    until_deserted: bool = False,
    discard: bool = False,
    quirks: Sequence[str] = (),
    profile: str | None = None,
    platform: str | None = None,
    database: str | None = None,
    blobs: str | None = None,
    lease_s: float = LENGTH_S,
    share: bool = False,
    address: str = "",
    keys: Mapping[str, str] | None = None,
    announce: Callable[[Emulator], None] | None = None,
) -> int:
    """Serve until told to stop; returns the exit status.

    `memory` keeps nothing; `light` computes without torch and without a model; `compute` says how models are computed,
    `trainer_workers` in how many processes of their own trainers compute, `trainer_nproc` how many ranks each of these
    has, with `trainer_nnodes` machines they meet at the endpoint, and `sampler` is what draws tokens (None: as the
    environment says);
    `platform` is a date; `profile` and then `quirks`, written `name=value@job=j1,times=1`, are on from the start;
    `database` and `blobs` keep the state on servers, under leases of `lease_s` seconds, and a state folder then is only
    for what need not outlive the process; with `share` others use them, too, and reach this one at `address`; `keys`
    are those of further accounts; `announce` is called once it is up. With `discard` the state folder is deleted at the
    end.
    """
    ranks = trainer_nproc if trainer_nproc != 1 else None
    spread, drawn = trainer_nnodes if trainer_nnodes != 1 else None, sampler if sampler != "torch" else None
    about = {"compute": compute, "trainer-workers": trainer_workers, "trainer-nproc": ranks, "trainer-nnodes": spread}
    for name, given in (about | {"sampler": drawn}).items():
        if light and given:
            print(f"ftsim: --{name} is about models, and --light has none: leave one of them out", file=sys.stderr)
            return 1
    if memory and database:
        print("ftsim: --memory keeps nothing, and --database everything: leave one of them out", file=sys.stderr)
        return 1
    named = state_dir or (None if database else default_state_dir())
    root = None if memory or named is None else named.expanduser().resolve()
    stop, lost = Stop(), threading.Event()

    def leave() -> None:
        lost.set()
        stop.set()

    sys.setswitchinterval(SWITCH_S)
    with by_signals(stop):
        try:
            with contextlib.ExitStack() as stack:
                kept_here = None if database else root
                how = {"compute": compute, "workers": trainer_workers, "nproc": trainer_nproc, "sampler": sampler}
                nodes = None if light else nodes_of(kept_here, trainer_nnodes, trainer_rdzv_endpoint)
                emulator = local.Emulator(
                    "light" if light else stack.enter_context(_backend(root, {**how, "nodes": nodes})),
                    state_dir=root,
                    host=host,
                    port=port,
                    seed=seed,
                    api_key=api_key or (secret() if memory else None),
                    allow_hosts=tuple(allow_hosts),
                    models=models or {},
                    catalogue=tuple(catalogue),
                    platform=platform or ALIASES.get(profile or ""),
                    prepare=lambda made: _turn_on(made, profile, quirks),
                    patience_s=PATIENCE_S if until_deserted else 0.0,
                    keys=keys,
                    servers=servers_of(database, blobs, api_key, lease_s, share, address),
                )
                emulator.on_lost = leave
                stack.enter_context(emulator)
                if nodes is not None:
                    nodes.listen()  # the folders that nodes must see are there now
                    print(invitation(nodes, emulator.platform.blobs.home), file=sys.stderr)
                (announce or say)(emulator)
                if warm:
                    threads.start(lambda: _warm(emulator.platform.backend, torch=not light), "warm")
                if until_deserted and root is not None:
                    Attendance(root).serve_until_deserted(os.getpid(), stop)
                else:
                    stop.wait()
                if lost.is_set():
                    raise StorageFailed(emulator.platform.world.store.trouble)
            if discard and root is not None:  # where it did not start, whoever started it reads why in server.log
                shutil.rmtree(root, ignore_errors=True)
        except (PlatformError, BackendError, MissingExtraError, _ComputeError) as refusal:
            print(f"ftsim: {str(refusal).removeprefix('ftsim: ')}", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"ftsim: the state folder {root} cannot be used: {error.strerror or error}", file=sys.stderr)
            return 1
    return 0


def _warm(backend: Backend, *, torch: bool) -> None:
    """Import what computes; this process is nobody else's, so torch comes without what no stand-in needs."""
    if torch:
        from ftsim.compute import libraries

        libraries.import_torch()
    backend.warm()


class _ComputeError(Exception):
    """A text of `--compute` that says nothing."""


@contextlib.contextmanager
def _backend(root: Path | None, how: Mapping[str, Any]) -> Iterator[Backend]:
    """Real models, computed in the ways that these texts say; raises _ComputeError, MissingExtraError."""
    require("train", "real models")
    from ftsim.compute.backend import TorchBackend

    try:
        folder = None if root is None else root / "base-models"
        backend = TorchBackend(folder, **how)
    except ValueError as error:
        options = "--compute, --trainer-workers, --trainer-nproc, --sampler"
        raise _ComputeError(f"{options}, or their variables: {error}") from None
    with contextlib.closing(backend):
        yield backend


def _turn_on(emulator: Emulator, profile: str | None, quirks: Sequence[str]) -> None:
    """Raises InvalidArgument, which is a PlatformError."""
    if not profile and not quirks:
        return
    from emulator.quirks import profiles

    if profile:
        profiles.apply(emulator.quirks, profile)
    for text in quirks:
        profiles.parse(text, emulator.quirks.table).apply(emulator.quirks)


def say(emulator: Emulator, form: Format = "sh", file: Path | None = None) -> None:
    """Print where it listens and what a client's environment needs, and write the latter into a file too.

    The file is its reader's alone, as there is a key in it; what stands in a $GITHUB_ENV stays.
    """
    print(f"ftsim: listening on {emulator.url} (account {emulator.account}); Ctrl-C stops it", flush=True)
    record = ServerRecord(emulator.url, os.getpid(), emulator.api_key, emulator.account)
    variables = _tokenizers(emulator.platform.blobs.home / "hub")
    printed = lines(added(os.environ, record, variables), form)
    if file is not None:
        mode = os.O_APPEND if form == "github" else os.O_TRUNC
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | mode, 0o600), "w", encoding="utf-8") as opened:
            opened.write("".join(f"{line}\n" for line in printed))
    for line in printed:
        print(f"  {line}")
    print(f"ftsim: console {emulator.console_url()} (good once; `ftsim open` gives another link)")
    sys.stdout.flush()


def _tokenizers(folder: Path) -> dict[str, str]:
    """Variables by which a program finds the hub's tokenizers in `folder`; none where no disk takes them."""
    from ftsim.compute.models import hub

    try:
        return hub.build(folder)
    except OSError as error:
        print(
            f"ftsim: {folder} cannot be written ({error.strerror}): the hub's names are no tokenizers", file=sys.stderr
        )
        return {}
