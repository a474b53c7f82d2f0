"""`ftsim state`."""

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftsim.cli import upkeep
from ftsim.cli.console import ApiKey, AsJson, StateDir, Url, fail, tell

if TYPE_CHECKING:
    import httpx

    from emulator.platform.archive import Archive

app = typer.Typer(
    no_args_is_help=True, help="Save, restore, compare, verify and repair all an emulator has; open a failure's bundle."
)
upkeep.add_to(app)
File = Annotated[Path, typer.Argument(help="The archive.")]
SHOWN = 12
BASE_MODEL = "accounts/fireworks/models/qwen3-8b"


@app.command("save")
def save_state(
    file: File, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None, state_dir: StateDir = None
) -> None:
    """Save everything but what lives on trainers only."""
    with _emulator(url, api_key, state_dir) as client:
        _fetch(client, file)
    archive = _open(file)
    tell({"file": file} | _counts(archive), as_json, f"{file}: {_summary(archive)}")


@app.command("restore")
def restore_state(
    file: File, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None, state_dir: StateDir = None
) -> None:
    """Replace everything by a saved state or the state of a bundle."""
    archive = _open(file)
    with _emulator(url, api_key, state_dir, new=True) as client, file.open("rb") as body:
        _check(client.put("/_ftsim/snapshot", content=body))
    tell({"restored": file} | _counts(archive), as_json, f"restored: {_summary(archive)}")


@app.command("import")
def import_listing(
    file: Annotated[Path, typer.Argument(help="A saved listing: rows as the SDK or the API gives them; - is stdin.")],
    job: Annotated[str | None, typer.Option(help="The job or session that is meant, or its id.")] = None,
    base_model: Annotated[str, typer.Option(help="The base model of its rows.")] = BASE_MODEL,
    lora_rank: Annotated[int | None, typer.Option(help="Its LoRA rank; 8 where its rows are of LoRA training.")] = None,
    without_blobs: Annotated[bool, typer.Option("--without-blobs", help="Rows without any files behind them.")] = False,
    light: Annotated[bool, typer.Option("--light", help="Files of the light backend, without torch.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Bring in the rows of a job or session that was listed elsewhere, or data sets and managed jobs.

    The job is there and runs, its rows have their names, kinds and times, and files of their kinds, which hold the base
    model's weights: a client meets the incident that the listing is of. Data sets and managed jobs can be read."""
    from ftsim.inspect.imported import imported

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
        found = imported(text, job=job, base_model=base_model, lora_rank=lora_rank, blobs=not without_blobs)
    except (OSError, ValueError) as error:
        fail(f"{file}: {error}", 2)
    with _emulator(url, api_key, state_dir, new=True, light=light) as client:
        names = _check(client.post("/_ftsim/import", json=found.body)).json()["names"]
        for text in found.switches:
            _turn_on(client, text)
    rows = f", {len(found.body['rows'])} rows" if found.owner else ""
    lines = [f"imported {', '.join(names)}{rows}", *(f"  {note}" for note in found.notes)]
    if found.switches:
        words = " ".join(f"--quirk {shlex.quote(text)}" for text in found.switches)
        lines.append(f"  so that lists look as the saved one did: ftsim run {words} PROGRAM")
    told = {"imported": names, "notes": list(found.notes), "switches": list(found.switches)}
    tell(told, as_json, *lines)


def _turn_on(client: "httpx.Client", text: str) -> None:
    """Turn a switch on for as long as the emulator runs."""
    from emulator.quirks import profiles
    from emulator.quirks.table import QUIRKS

    spec = profiles.parse(text, {quirk.name: quirk for quirk in QUIRKS})
    _check(client.post("/_ftsim/quirks", json={"name": spec.name, "value": spec.value, "where": dict(spec.where)}))


@app.command("diff")
def diff_states(
    one: File,
    other: Annotated[Path | None, typer.Argument(help="Another archive; the emulator by default.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Say what differs, field by field; the exit status is 0 when nothing does."""
    import tempfile

    from emulator.platform.differences import differences

    with tempfile.TemporaryDirectory() as folder:
        if other is None:
            other = Path(folder) / "now.zip"
            with _emulator(url, api_key, state_dir) as client:
                _fetch(client, other)
        found = differences(_open(one), _open(other))
    told = [{"path": path, "one": mine, "other": theirs} for path, mine, theirs in found]
    tell({"differences": told}, as_json, *(f"{path}: {mine!r} -> {theirs!r}" for path, mine, theirs in found))
    raise SystemExit(1 if found else 0)


@app.command("open")
def open_bundle(
    file: File,
    began: Annotated[
        Path | None,
        typer.Option("--from", metavar="STATE", help="The state in which its journal began.", show_default=False),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Also put its state into this folder, to look around.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay the bundle of a failed test up to the failure.

    Says first whether every answer is the same here (then the exit status is 0), then what failed, what was asked last,
    and which versions differ."""
    from ftsim.cli.journal import _show, backend_for
    from ftsim.inspect.states import is_light, open_bundle as opened_by

    opened = opened_by(file, backend_for(light=is_light(file)), began)
    differences = [*map(str, opened.replay.differences), *opened.replay.skipped] if opened.replay else []
    if as_json:
        told = {"reproduced": opened.reproduced, "verdict": opened.verdict, "failure": opened.failure}
        tell(told | {"exchanges": len(opened.exchanges), "versions": opened.versions, "differences": differences}, True)
    else:
        print(opened.verdict)
        print(f"\n{opened.failure.rstrip() or 'no failure is recorded'}")
        print(f"\nlast of {len(opened.exchanges)} exchanges:")
        _show(opened.exchanges[-SHOWN:])
        for package, (there, here) in opened.versions.items():
            print(f"{package}: {there} there, {here} here")
        for line in differences:
            print(line)
    if state_dir is not None:
        with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
            restore_state(file, state_dir=state_dir)
    raise SystemExit(0 if opened.reproduced else 1)


def _open(file: Path) -> "Archive":
    from emulator.core.errors import InvalidArgument
    from emulator.platform.archive import Archive

    try:
        return Archive.open(file)
    except InvalidArgument as error:
        fail(error.message)


def _counts(archive: "Archive") -> dict[str, int]:
    found = {f"{kind}s": len(entities) for kind, entities in archive.entities.items() if entities}
    return found | {"blobs": len(archive.files), "blobs_left_out": len(archive.left_out)}


def _summary(archive: "Archive") -> str:
    counts = [f"{len(found)} {kind}s" for kind, found in archive.entities.items() if found]
    without = f"{len(archive.left_out)} blobs left out" if archive.left_out else ""
    return ", ".join([*counts, f"{len(archive.files)} blobs", *([without] if without else [])])


@contextlib.contextmanager
def _emulator(
    url: str | None, api_key: str | None, state_dir: Path | None, *, new: bool = False, light: bool = False
) -> Iterator["httpx.Client"]:
    """A connection to an emulator's control API; `new` allows a state folder that nobody has used.

    `light` starts one without torch where none runs.
    """
    import httpx

    from ftsim.cli.service import emulator_of
    from ftsim.process.attendance import Attendance, default_state_dir
    from ftsim.process.run import RunError, ServerOptions, join_server

    with contextlib.ExitStack() as stack:
        if url is None and new:
            root = (state_dir or default_state_dir()).expanduser().resolve()
            try:
                options = ServerOptions(light=True) if light else None
                record, registered = join_server(Attendance(root), options=options)
            except RunError as error:
                fail(str(error))
            stack.callback(registered.leave)
            url, api_key = record.url, record.api_key
        elif url is None:
            url, api_key = stack.enter_context(emulator_of(state_dir))
        headers = {"X-Api-Key": api_key or ""}
        yield stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=600, trust_env=False))


def _fetch(client: "httpx.Client", file: Path) -> None:
    """Write the archive to `file`; nothing is left of it when it does not come whole."""
    aside = file.with_name(f".{file.name}.unfinished")
    try:
        with client.stream("GET", "/_ftsim/snapshot") as answer, aside.open("wb") as out:
            if answer.status_code != 200:
                answer.read()
                _check(answer)
            for chunk in answer.iter_bytes():
                out.write(chunk)
        aside.replace(file)
    except OSError as error:
        fail(f"{file}: {error.strerror or error}")
    finally:
        aside.unlink(missing_ok=True)


def _check(answer: "httpx.Response") -> Any:
    if answer.status_code != 200:
        try:
            message = answer.json()["message"]
        except (ValueError, KeyError, TypeError):
            message = f"HTTP {answer.status_code}: only an emulator has a state to save"
        fail(str(message))
    return answer
