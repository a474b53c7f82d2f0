"""`ftsim bench`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ftsim.cli.console import AsJson


def bench(
    as_json: AsJson = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this measurement; may be repeated.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Name the measurements and leave.")] = False,
    against: Annotated[
        str | None,
        typer.Option(metavar="REF", help="Measure what people wait for, by turns with the wheel of another commit."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="With --against: how many turns.")] = 5,
    scale: Annotated[bool, typer.Option("--scale", help="Measure how cost grows, an exponent for each thing.")] = False,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --against or --scale: write its part of the page, and its picture."),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --against: keep rows there, and measure those alone that are not."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Say where the time of one measurement of --against goes.")
    ] = None,
) -> None:
    """Measure what the emulator costs.

    Ratios to the same work done without it, all in one run; with --against, to another commit of it."""
    from ftsim.tools.bench import show
    from ftsim.tools.bench.report import names_none

    if scale:
        raise SystemExit(_scale(only or [], page, as_json=as_json, listing=listing))
    if profile is None and against is None:
        raise SystemExit(show(only or [], as_json=as_json, listing=listing))
    from ftsim.process.environment import PACKAGE_ROOT
    from ftsim.tools.bench import against as other

    names = list(other.TARGETS) if profile is None else [profile]
    if listing:
        print("\n".join(names))
        raise SystemExit(0)
    wanted = [profile] if profile is not None else only or names
    if names_none(wanted, other.TARGETS):
        raise SystemExit(2)
    try:
        if profile is not None:
            other.measured(Path(sys.executable), profile, PACKAGE_ROOT, profile=True)
            return
        assert against is not None
        raise SystemExit(_compare(against, wanted, rounds, page, rows, as_json=as_json))
    except other.CannotCompareError as error:
        print(f"ftsim: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _scale(only: list[str], page: Path | None, *, as_json: bool, listing: bool) -> int:
    """Print a row for each thing of which there can be more."""
    import json

    from ftsim.tools.bench import performance_page
    from ftsim.tools.bench.report import names_none
    from ftsim.tools.bench.scale import AXES, grown, picture, table

    if listing:
        print("\n".join(AXES))
        return 0
    if names_none(only, AXES, "there is no {!r} to grow"):
        return 2
    found = []
    for one in grown(only or list(AXES)):
        found.append(one)
        if not as_json:
            times = ", ".join(f"{size:,}: {ms:.3g} ms" for size, ms in one.times.items())
            print(f"{one.name:12} {one.exponent:5.2f}   {times}", flush=True)
    if as_json:
        print(json.dumps({one.name: {"exponent": one.exponent, "ms": one.times} for one in found}, indent=1))
    if page is not None:
        section = performance_page.scale_section(table(found), os.cpu_count() or 1, os.getloadavg()[0])
        page.write_text(performance_page.with_scale(page.read_text("utf-8"), section), encoding="utf-8")
        drawn = page.parent / "img" / "scale.svg"
        drawn.parent.mkdir(exist_ok=True)
        drawn.write_text(picture(found), encoding="utf-8")
    return 0


def _compare(ref: str, names: list[str], rounds: int, page: Path | None, file: Path | None, *, as_json: bool) -> int:
    """Print a row for each measurement; 0 when every target is met and no row failed."""
    import json
    from dataclasses import asdict

    from ftsim.tools.bench import against as other, performance_page

    before = other.kept(file, ref) if file is not None else []
    done = [row for row in before if row.name in names]
    if not as_json:
        for row in done:
            print(f"{other.line(row)}  (kept)")

    def write_page() -> None:
        if page is not None:
            whole = {row.name: row for row in (*before, *done)}
            text = performance_page.page([*whole.values()], ref, os.cpu_count() or 1)
            if page.exists() and (section := performance_page.scale_of(page.read_text("utf-8"))):
                text = performance_page.with_scale(text, section)
            page.write_text(text, encoding="utf-8")

    write_page()
    for row in other.compare(ref, [name for name in names if name not in {row.name for row in done}], rounds):
        done.append(row)
        if file is not None:
            other.keep(file, ref, row)
        if not as_json:
            print(other.line(row), flush=True)
        write_page()
    if as_json:
        told = [asdict(row) | ({} if row.failed else {"ratio": row.ratio}) for row in done]
        print(json.dumps({"rows": told}, indent=1))
    return 0 if all(row.ok for row in done) else 1
