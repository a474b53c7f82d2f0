"""`ftsim record`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftsim.cli.console import fail

if TYPE_CHECKING:
    from ftsim.process.record import Recording


def record(
    to: Annotated[str, typer.Option(metavar="URL", help="Address of the service that is asked.")],
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8081,
    host: Annotated[str, typer.Option(help="Address to bind; anything but loopback is open to others.")] = "127.0.0.1",
    file: Annotated[Path, typer.Option(help="Where the journal goes.")] = Path("recorded.jsonl"),
) -> None:
    """Stand before any service and keep what passes as a journal, without keys, until Ctrl-C.

    Nothing is added, repeated or cut short on the way. `ftsim journal FILE`, `ftsim doctor --from FILE` and
    `ftsim journal FILE --replay` read what was kept."""
    from emulator.core.errors import PlatformError
    from ftsim.process import record as recorder
    from ftsim.process.stop import Stop

    def up(recording: "Recording") -> None:
        print(f"ftsim: {recording.url} stands before {to}; {file} holds what passes; Ctrl-C stops it")
        for name, value in recorder.environment(recording.url).items():
            print(f"  export {name}={value}")
        sys.stdout.flush()

    try:
        count = recorder.record(to, file, host=host, port=port, announce=up, stop=Stop())
    except (ValueError, OSError, PlatformError) as error:
        fail(str(error))
    print(f"ftsim: {count} exchanges are in {file}")
