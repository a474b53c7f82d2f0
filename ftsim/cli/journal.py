"""`ftsim journal`."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ftsim.cli.console import ApiKey, AsJson, StateDir, Url, fail

if TYPE_CHECKING:
    from emulator.backend import Backend
    from emulator.journal.file import Saved
    from emulator.journal.journal import Event, Exchange

SHOWN = 40
POLL_S = 0.5


def journal(
    file: Annotated[Path | None, typer.Argument(help="A saved journal instead of an emulator's.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(help="Only this endpoint, such as promote.")] = None,
    method: Annotated[str | None, typer.Option(help="Only this HTTP method.", show_default=False)] = None,
    path: Annotated[str | None, typer.Option(help="Only paths that contain this.", show_default=False)] = None,
    status: Annotated[
        str | None, typer.Option(help="Only this status; 4xx and 5xx are classes.", show_default=False)
    ] = None,
    quirked: Annotated[bool, typer.Option("--quirked", help="Only exchanges that a quirk touched.")] = False,
    tail: Annotated[
        int, typer.Option(metavar="N", help="The newest N, equal failures in a row as one; 0 is all.")
    ] = SHOWN,
    har: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them as an HTTP archive.", show_default=False)
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the whole journal, to replay it.", show_default=False)
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what is asked from now on, until Ctrl-C.")
    ] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Replay the whole journal; compare the answers.")] = False,
    began: Annotated[
        Path | None,
        typer.Option("--from", metavar="STATE", help="The state in which a replay begins.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Show what the emulator was asked.

    Each exchange with its time, the world changes it caused and the quirks that touched it. Of an emulator that runs,
    else what the last ones on the state folder left, else a file."""
    from emulator.journal.journal import Exchange, groups

    if follow:
        if file or har or save or replay or as_json:
            fail("--follow shows what an emulator is asked: it goes with filters alone", 2)
        _follow(
            lambda: _read(_lines(None, url, api_key, state_dir)).entries,
            lambda entry: _wanted(entry, endpoint or [], method, path, status, quirked),
        )
    lines = _lines(file, url, api_key, state_dir)
    if save is not None:
        save.write_bytes(b"".join(lines))
    found = _read(lines)
    if replay:
        raise SystemExit(_replay(found, began))
    filtering = bool(endpoint or method or path or status or quirked or har)
    chosen = [
        entry
        for entry in found.entries
        if (
            _wanted(entry, endpoint or [], method, path, status, quirked)
            if isinstance(entry, Exchange)
            else not filtering
        )
    ]
    if tail:
        chosen = [entry for group in groups(chosen)[-tail:] for entry in group]
    if har is not None:
        from emulator.journal.har import har as archive

        exchanges = [entry for entry in chosen if isinstance(entry, Exchange)]
        har.write_text(json.dumps(archive(exchanges, base_url=url or "http://127.0.0.1"), indent=1))
        print(f"{len(exchanges)} exchanges are in {har}")
    elif as_json:
        from emulator.journal.file import as_json as plain
        from emulator.journal.redact import Redactor

        print(json.dumps([plain(entry, Redactor()) for entry in chosen], indent=1))
    elif save is None:
        _show(chosen)


def _follow(read: "Callable[[], Sequence[Exchange | Event]]", wanted: "Callable[[Exchange], bool]") -> NoReturn:
    """Show exchanges as they end, until Ctrl-C."""
    from emulator.journal.journal import Exchange

    shown: set[int] = set()
    first = True
    while True:
        entries = read()
        there = {entry.began for entry in entries}
        if shown - there and max(shown) > max(there, default=0):  # the emulator was reset, or is another one
            shown.clear()
        ended = [entry for entry in entries if isinstance(entry, Exchange) and entry.ended and entry.began not in shown]
        shown = (shown & there) | {entry.began for entry in ended}
        _show([entry for entry in ended if wanted(entry)][-SHOWN if first else 0 :])
        sys.stdout.flush()
        first = False
        time.sleep(POLL_S)


def _wanted(
    entry: "Exchange", endpoints: Sequence[str], method: str | None, path: str | None, status: str | None, quirked: bool
) -> bool:
    shape = f"{entry.status // 100}xx"
    return (
        (not endpoints or entry.endpoint in endpoints)
        and (method is None or entry.method == method.upper())
        and (path is None or path in entry.path)
        and (status is None or status.lower() in (str(entry.status), shape))
        and (bool(entry.quirks) or not quirked)
    )


def _lines(file: Path | None, url: str | None, api_key: str | None, state_dir: Path | None) -> list[bytes]:
    """The lines of a journal: of a file, of a service that runs, or of what a stopped one left."""
    from ftsim.process.attendance import Attendance, default_state_dir

    if file is not None:
        try:
            return file.read_bytes().splitlines(keepends=True)
        except OSError as error:
            fail(f"{file}: {error.strerror}")
    if url is not None:
        return _fetch(url, api_key or "")
    root = (state_dir or default_state_dir()).expanduser().resolve()
    record = Attendance(root).server() if root.is_dir() else None
    if record is not None:
        from ftsim.process.run import _answers

        if _answers(record):
            return _fetch(record.url, record.api_key)
    left = sorted((root / "journals").glob("*.jsonl"))
    if not left:
        fail(f"no emulator has left a journal in {root} yet")
    return left[-1].read_bytes().splitlines(keepends=True)


def _fetch(url: str, api_key: str) -> list[bytes]:
    import httpx

    try:
        with httpx.Client(trust_env=False, timeout=60) as client:
            answer = client.get(f"{url}/_ftsim/journal", params={"format": "lines"}, headers={"X-Api-Key": api_key})
    except httpx.HTTPError as error:
        fail(f"{url} does not answer: {error}")
    if answer.status_code != 200:
        fail(f"{url} gives no journal (HTTP {answer.status_code}): only an emulator keeps one")
    return answer.content.splitlines(keepends=True)


def _read(lines: Sequence[bytes]) -> "Saved":
    from emulator.core.errors import InvalidArgument
    from emulator.journal.file import read

    try:
        return read(lines)
    except InvalidArgument as error:
        fail(error.message)


def _replay(saved: "Saved", began: Path | None) -> int:
    from emulator.core.errors import InvalidArgument
    from ftsim.inspect.replay import replay
    from ftsim.inspect.states import restored

    try:
        found = replay(saved, backend_for(light=bool(saved.header.get("light"))), prepare=restored(began))
    except InvalidArgument as error:
        fail(error.message)
    for line in (*map(str, found.differences), *found.skipped):
        print(line)
    print(f"{found.compared} answers compared, {len(found.differences)} differences, {len(found.skipped)} not asked")
    return 0 if found.identical else 1


def backend_for(*, light: bool) -> "Backend":
    """The backend that a journal was written with; raises MissingExtraError where it is not installed."""
    if light:
        from emulator.light import LightBackend

        return LightBackend()
    from ftsim.extras import require

    require("train", "a replay with real models")
    from ftsim.compute.backend import TorchBackend

    return TorchBackend()


def _show(entries: Sequence["Exchange | Event"]) -> None:
    from emulator.core.clock import rfc3339
    from emulator.journal.journal import Event, groups

    for group in groups(entries):
        entry, last = group[0], group[-1]
        stamp = rfc3339(entry.at, 3)[11:-1]
        if isinstance(entry, Event):
            print(f"{stamp}  by hand: {entry.what} {_brief(entry.detail)}")
            continue
        print(
            f"{stamp}  {entry.status or '---'}  {1000 * entry.seconds:7.1f} ms  {entry.method:6} {entry.path}"
            + (f"  [{entry.error}]" if entry.error else "")
            + (f"  ×{len(group)}, until {rfc3339(last.at, 3)[11:-1]}" if last is not entry else "")
        )
        if entry.unread:
            print(f"{'':14}fields that nothing reads: {entry.unread}")
        for change in entry.changes:
            print(f"{'':14}{change.how} {change.kind} {change.name}")
        for touch in entry.quirks:
            print(f"{'':14}quirk {touch.name}={touch.value!r}")


def _brief(detail: dict[str, Any]) -> str:
    if "changes" in detail:
        return ", ".join(f"{change['how']} {change['kind']} {change['name']}" for change in detail["changes"])
    where = " ".join(f"{key}={value}" for key, value in (detail.get("where") or {}).items())
    return f"{detail.get('name')}={detail.get('value')!r} {where}".rstrip()
