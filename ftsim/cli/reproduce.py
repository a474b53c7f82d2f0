"""`ftsim reproduce`."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftsim.cli.console import AsJson, fail

if TYPE_CHECKING:
    from ftsim.scenarios import Outcome, Scenario


def reproduce(
    identifiers: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Entries of docs/failures.md, such as D6.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show what can be reproduced.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Reproduce everything.")] = False,
    as_json: AsJson = False,
) -> None:
    """Cause a known failure of production: what the user sees, the exchanges that matter, what a right client does."""
    from ftsim.scenarios import attempt, find, scenarios, shared_backend

    if listed:
        _list(scenarios(), as_json)
        return
    chosen = list(scenarios()) if everything else [_found(find(text), text) for text in identifiers or []]
    if not chosen:
        fail("say what to reproduce: an id such as D6, --all, or --list", 2)
    shared_backend()  # seconds of imports, which are no scenario's
    outcomes = []
    for scenario in chosen:
        outcomes.append(attempt(scenario))
        if not as_json:
            (_line if everything else _tell)(outcomes[-1])
    failed = [outcome.scenario.id for outcome in outcomes if outcome.error]
    if as_json:
        print(json.dumps([_record(outcome) for outcome in outcomes], indent=2))
    elif everything:
        seconds = sum(outcome.seconds for outcome in outcomes)
        print(f"{len(outcomes) - len(failed)} of {len(outcomes)} reproduced in {seconds:.1f} s")
    if failed:
        fail(f"not as described: {', '.join(failed)}")


def _found(scenario: "Scenario | None", text: str) -> "Scenario":
    if scenario is None:
        fail(f"{text}: no such entry; ftsim reproduce --list shows all", 2)
    return scenario


def _list(found: "tuple[Scenario, ...]", as_json: bool) -> None:
    if as_json:
        print(json.dumps([{"id": s.id, "title": s.title, "upstream": s.upstream} for s in found], indent=2))
        return
    for scenario in found:
        upstream = f"  [{scenario.upstream}]" if scenario.upstream else ""
        print(f"{scenario.id:<4}  {scenario.title}{upstream}")


def _line(outcome: "Outcome") -> None:
    mark = "FAIL" if outcome.error else "ok"
    print(f"{outcome.scenario.id:<4}  {mark:<4}  {outcome.seconds:5.2f} s  {outcome.error or outcome.scenario.title}")


def _tell(outcome: "Outcome") -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    scenario, report = outcome.scenario, outcome.report

    def section(heading: str, lines: list[str]) -> None:
        console.print(Text(heading, style="bold"))
        for line in lines:
            console.print(Padding(Text(line), (0, 0, 0, 2)))

    console.print(Text(f"{scenario.id}: {scenario.title}", style="bold cyan"))
    if scenario.upstream:
        console.print(Text(f"known upstream in {scenario.upstream}", style="dim"))
    if report is None:
        console.print(Text(f"not as described: {outcome.error}", style="red"))
        return
    record = report.as_json()
    section("What the user sees", record["sees"])
    section("The exchanges that matter", [line for shown in record["exchanges"] for line in _exchange(shown)])
    section("What a right client does", record["right"])
    console.print(Text(f"reproduced in {outcome.seconds:.2f} s", style="dim"))


def _exchange(shown: dict[str, Any]) -> list[str]:
    lines = [f"{shown['method']} {shown['path']} -> {shown['status'] or 'no answer'}"]
    lines += [f"  > {shown['request']}"] if shown["request"] else []
    return lines + ([f"  < {shown['response']}"] if shown["response"] else [])


def _record(outcome: "Outcome") -> dict[str, Any]:
    scenario, report = outcome.scenario, outcome.report
    return {
        "id": scenario.id,
        "title": scenario.title,
        "upstream": scenario.upstream,
        "reproduced": not outcome.error,
        "seconds": round(outcome.seconds, 3),
        "error": outcome.error,
        **(report.as_json() if report else {}),
    }
