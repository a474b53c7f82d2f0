"""`ftsim doctor`."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftsim.cli.console import ApiKey, AsJson, ListingFile, StateDir, Url, fail

if TYPE_CHECKING:
    from ftsim.inspect.doctor import Diagnosis
    from ftsim.inspect.messages import Match

SHOWN = 5


def doctor(
    message: Annotated[
        str | None,
        typer.Argument(
            help="An error message, a log or a traceback; - is stdin. With --machine, a program.", show_default=False
        ),
    ] = None,
    job: Annotated[str | None, typer.Option(help="Job or session whose listing is judged.", show_default=False)] = None,
    listing: ListingFile = None,
    machine: Annotated[
        bool, typer.Option("--machine", help="Look at this machine, and at a program, which is read and not run.")
    ] = False,
    for_service: Annotated[
        bool, typer.Option("--for-service", help="With --machine: what would be refused at the service.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """From symptom to cause.

    With a MESSAGE: the entries of the failure catalogue that it is the symptom of. Without: a judgement of the whole
    listing of --job or --from, else of the newest job, row by row. Leaves with 0 when all is sound or the message is
    known, with 1 when there is trouble or nothing is known of the message, with 2 when the listing cannot be read.

    With --machine: versions, the generation of the vendor's client, variables, and the names in a program that are not
    in the catalogue; --for-service adds names, lengths, settings and quotas that the service would refuse."""
    if machine or for_service:
        if job or listing:
            fail("--machine looks at a machine, --job and --from at a listing: give one of them", 2)
        raise SystemExit(_machine(message, for_service, as_json))
    if message is not None:
        if job or listing:
            fail("give a MESSAGE, or a listing by --job or --from, not both", 2)
        raise SystemExit(_message(sys.stdin.read() if message == "-" else message, as_json))
    raise SystemExit(_listing(job, listing, as_json, url, api_key, state_dir))


def _machine(program: str | None, for_service: bool, as_json: bool) -> int:
    from ftsim.compute.vllm import installed
    from ftsim.inspect.machine import look
    from ftsim.inspect.program import Reading, UnreadableProgram, read

    found = look(for_service=for_service)
    try:
        reading = Reading() if program is None else read(Path(program), for_service=for_service)
    except UnreadableProgram as error:
        fail(str(error), 2)
    troubles = (*found.troubles, *reading.troubles)
    engine = installed.version()
    versions = dict(found.versions) | ({"vllm": engine} if engine else {})
    if as_json:
        told = {
            "versions": versions,
            "client": found.client,
            "variables": dict(found.variables),
            "names": reading.names,
            "serverless": reading.pooled if program else None,
            "troubles": [asdict(trouble) for trouble in troubles],
        }
        print(json.dumps(told, indent=1))
    else:
        print(f"versions   {', '.join(f'{name} {version}' for name, version in versions.items())}")
        print(f"client     {found.client}")
        print(f"variables  {', '.join(f'{name}={value}' for name, value in found.variables.items()) or 'none'}")
        for name, listed in reading.names.items():
            print(f"name       {name}: {'in the catalogue' if listed else 'not in the catalogue'}")
        for trouble in troubles:
            print(f"{trouble.entry or '-':<4} {trouble.where}: {trouble.sentence}")
        if not troubles:
            print("sound")
    return 1 if troubles else 0


def _message(text: str, as_json: bool) -> int:
    from ftsim.inspect.messages import diagnose

    found = diagnose(text)
    if as_json:
        print(json.dumps({"matches": [asdict(match.entry) | {"who": match.who} for match in found]}, indent=1))
    elif found:
        for match in found[:SHOWN]:
            _show(match)
        if found[SHOWN:]:
            print(f"less likely: {', '.join(match.entry.id for match in found[SHOWN:])}")
    else:
        print("no entry of the failure catalogue has this symptom")
    return 0 if found else 1


def _show(match: "Match") -> None:
    from ftsim.scenarios import find

    entry = match.entry
    print(f"{entry.id}  {entry.title}  (said by {match.who})")
    for label, text in (("sees", entry.sees), ("cause", entry.cause), ("cure", entry.cure), ("switch", entry.switch)):
        if text:
            print(f"  {label + ':':<8}{text}")
    if find(entry.id):
        print(f"  {'try:':<8}ftsim reproduce {entry.id}")
    print()


def _listing(
    job: str | None, listing: Path | None, as_json: bool, url: str | None, api_key: str | None, state_dir: Path | None
) -> int:
    from ftsim.cli.explain import of_owner
    from ftsim.inspect.doctor import judge
    from ftsim.inspect.listing import is_cut, parse

    if listing is not None:
        try:
            text = sys.stdin.read() if str(listing) == "-" else listing.read_text("utf-8")
            found = judge(of_owner(parse(text), job), cut=is_cut(text))
        except (OSError, ValueError) as error:
            fail(f"{listing}: {error}", 2)
    else:
        from ftsim.cli.service import connect
        from ftsim.inspect.owners import find

        try:
            with connect(url, api_key, state_dir) as service:
                rows, now = service.rows(find(service, job))
        except SystemExit:
            raise SystemExit(2) from None  # it was said why the listing cannot be read
        found = judge(rows, now=time.time() if now is None else now)
    if as_json:
        print(json.dumps(_plain(found), indent=1))
    else:
        _print(found)
    return 1 if found.troubles else 0


def _plain(found: "Diagnosis") -> dict[str, Any]:
    rows = [
        {
            "id": verdict.row.id,
            "kind": verdict.row.short_type,
            "resumable": verdict.resumable,
            "promotable": verdict.promotable,
            "session": verdict.row.suffix or None,
            "branch": verdict.branch,
            "cut_off": verdict.cut_off,
        }
        for verdict in found.verdicts
    ]
    takes = {"resume": found.resume_takes, "promote": found.promote_takes, "promote_by_text": found.text_takes}
    return {"rows": rows, "takes": takes, "troubles": [asdict(trouble) for trouble in found.troubles]}


def _print(found: "Diagnosis") -> None:
    from ftsim.cli.console import print_wide
    from ftsim.inspect.tables import columns

    table = columns("checkpoint", "kind", "resumable", "promotable", "session", "branch")
    for verdict in found.verdicts:
        branch = f"{verdict.branch}, cut off" if verdict.cut_off else str(verdict.branch)
        row = verdict.row
        table.add_row(row.id, row.short_type, verdict.resumable, verdict.promotable, row.suffix or "-", branch)
    if found.verdicts:
        print_wide(table)
        print()
    print(f"resume takes   {found.resume_takes or 'nothing'}")
    print(f"promote takes  {found.promote_takes or 'nothing'}")
    for trouble in found.troubles:
        print(f"{trouble.entry:<4} {trouble.sentence}")
    if not found.troubles:
        print("sound")
