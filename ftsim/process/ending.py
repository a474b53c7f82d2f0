"""Sees to a program's end: says in one line what the emulator refused it most, and ends its training sessions.

`ftsim run` becomes the program. A program in Python says the line itself, as the last thing it does (shims call
`at_exit`), so that it stands before the shell's prompt. For any other, and for one that is killed, this file is also a
small process of its own beside it: it waits for the program's end, reads the journal, writes to the program's stderr,
and has the sessions ended whose places on the pool nobody needs any more. It imports nothing but Python's own library,
starts fast, and is nobody's child, so that a program which waits for all its children does not wait for it.
"""

import atexit
import contextlib
import json
import os
import select
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

_ENDING = "FTSIM_ENDING"
"""Tells the program that `ftsim run` becomes how to say the lines itself."""
_TIMEOUT_S = 5.0
_POLL_S = 0.1
_SHOWN = 10_000
"""Newest exchanges that are read; the journal keeps no more."""
_WORDS = {"completions": "completions", "chat_completions": "chat completions"}
_LONGEST = 300
"""Characters of a reason that stay."""


def mark(url: str, key: str) -> int:
    """The number of the newest exchange of an emulator's journal; -1 where there is none to be read."""
    try:
        return max((int(one["began"]) for one in _exchanges(url, key, 1)), default=0)
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def line(url: str, key: str, since: int) -> str:
    """Tell what was refused most since the exchange numbered `since`; "" when all went well or nothing can be read."""
    if since < 0:
        return ""
    try:
        found = [one for one in _exchanges(url, key, _SHOWN) if int(one["began"]) > since]
        return told(found)
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def told(exchanges: list[dict[str, Any]]) -> str:
    """The line about exchanges, as the journal's JSON has them; "" when none of their endpoints was mostly refused.

    An endpoint counts when more than half of its requests were refused, the last of them too: a retry that went well
    is no reason. That something does not exist (404 to GET or DELETE) or exists already (409) is an answer.
    """
    by_endpoint: dict[str, list[dict[str, Any]]] = {}
    for one in exchanges:
        if one["status"] and not str(one["path"]).startswith("/_ftsim"):
            by_endpoint.setdefault(str(one["endpoint"]), []).append(one)
    worst, most = "", 0
    for endpoint, all_of_it in by_endpoint.items():
        refused = [one for one in all_of_it if _refused(one)]
        if len(refused) > most and 2 * len(refused) > len(all_of_it) and _refused(all_of_it[-1]):
            most = len(refused)
            reason = Counter(map(_reason, refused)).most_common(1)[0][0]
            name = _WORDS.get(endpoint, f"requests of {endpoint}")
            worst = f"{most} of {len(all_of_it)} {name} were refused: {reason}"
    return worst


def end_sessions(url: str, key: str, program: str) -> None:
    """End the training sessions of a program that is gone; where that cannot be done, they expire by themselves."""
    with contextlib.suppress(OSError):
        ask(f"{url}/_ftsim/programs/{program}:end", key, b"{}")


def watch(url: str, key: str, descriptor: int, program: str, state_dir: Path, again: str = "") -> dict[str, str]:
    """Start the process that says the line when the process which calls this has ended, whatever it becomes.

    It also ends the sessions that were opened with the key that carries the mark `program`. `descriptor` is the
    registration at the emulator: holding it keeps the journal there until it has been read. `again` is the command that
    goes on with the run. Returns variables by which the program, if it is Python's, says the lines itself.
    """
    import subprocess

    since, pid = mark(url, key), os.getpid()
    if since < 0 or pid == 1:  # whose end is that of all processes
        return {}
    said = state_dir / f".ended-{pid}-{since}"
    command = [sys.executable, "-I", "-S", str(Path(__file__)), str(pid), url, str(since), program, str(said)]
    subprocess.run(
        command,
        env={"FIREWORKS_API_KEY": key},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        check=False,
    )
    about = {"pid": pid, "url": url, "since": since, "said": str(said), "again": again}
    return {_ENDING: json.dumps(about)}


def at_exit() -> None:
    """Let this process say the lines at its end, where it is the very one that `ftsim run` became."""
    about = json.loads(os.environ.get(_ENDING, "{}"))
    if about.get("pid") != os.getpid():
        return
    interrupted: list[bool] = []
    hook = sys.excepthook

    def noticed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        hook(kind, error, trace)
        behind: BaseException | None = error  # the vendor's client may put an error of its own before the interrupt
        while behind is not None and not isinstance(behind, KeyboardInterrupt):
            behind = behind.__cause__ or behind.__context__
        if behind is not None:
            interrupted.append(True)

    sys.excepthook = noticed
    key = os.environ.get("FIREWORKS_API_KEY", "")  # the program may set another one later
    atexit.register(_end, about, key, interrupted)


def _end(about: Mapping[str, Any], key: str, interrupted: Sequence[bool]) -> None:
    if about["pid"] != os.getpid():  # a fork of the program ends
        return
    said = line(about["url"], key, about["since"])
    with contextlib.suppress(OSError):
        os.close(os.open(about["said"], os.O_CREAT | os.O_WRONLY, 0o600))  # the watcher need not say it
    lines = [said] if said else []
    lines += [f"interrupted; to go on: {about['again']}"] if interrupted and about["again"] else []
    for text in lines:
        print(f"ftsim: {text}", file=sys.stderr, flush=True)


def _exchanges(url: str, key: str, limit: int) -> list[dict[str, Any]]:
    return list(json.loads(ask(f"{url}/_ftsim/journal?limit={limit}", key))["exchanges"])


def ask(url: str, key: str, body: bytes | None = None, timeout_s: float = _TIMEOUT_S) -> bytes:
    """Ask the emulator, with POST where there is a body; raises OSError, TimeoutError where it takes too long."""
    from http.client import HTTPConnection, HTTPException  # slow to import, and at the end of a program there mostly

    host, slash, path = url.removeprefix("http://").partition("/")
    headers = {"X-Api-Key": key, "Content-Type": "application/json"}
    connection = HTTPConnection(host, timeout=timeout_s)
    try:
        connection.request("GET" if body is None else "POST", slash + path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
    except HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
    if answer.status >= 300:
        raise ConnectionError(f"HTTP {answer.status}")
    return said


def _refused(one: dict[str, Any]) -> bool:
    missing = one["status"] == 404 and one["method"] in ("GET", "HEAD", "DELETE")
    return int(one["status"]) >= 400 and one["status"] != 409 and not missing


def _reason(one: dict[str, Any]) -> str:
    """The message of an answer, on one line; its status where it has none."""
    try:
        body = json.loads(one["response"])
        error = body.get("error", body) if isinstance(body, dict) else body
        said = (error.get("message") or error.get("detail")) if isinstance(error, dict) else error
    except ValueError:
        said = one["response"]
    text = " ".join(str(said or "").split()) or f"HTTP {one['status']}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _wait_for(pid: int, parent: int) -> None:
    """Wait for the end of a process; `parent` is a pidfd of it, or -1 where the system has none."""
    if parent >= 0:
        select.select([parent], [], [])
        return
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            pass
        time.sleep(_POLL_S)


def _main(pid: int, url: str, since: int, program: str, said_file: Path) -> None:
    """Leave the program's children and its terminal's signals, wait for its end, and do what is to be done then."""
    try:
        parent = os.pidfd_open(pid)
    except (AttributeError, OSError):
        parent = -1
    if os.fork():
        os._exit(0)
    os.setsid()
    _wait_for(pid, parent)
    key = os.environ["FIREWORKS_API_KEY"]
    if said_file.exists():
        with contextlib.suppress(OSError):
            said_file.unlink()
    elif said := line(url, key, since):
        print(f"ftsim: {said}", file=sys.stderr, flush=True)
    end_sessions(url, key, program)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
