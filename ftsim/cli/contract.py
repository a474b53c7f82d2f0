"""`ftsim contract`."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from ftsim.cli.console import AsJson, fail, tell


def contract(
    base_url: Annotated[
        str | None,
        typer.Option(help="Any server that speaks the API; an emulator of its own by default.", show_default=False),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="FIREWORKS_API_KEY", help="Key for --base-url.", show_default=False)
    ] = None,
    allow_create: Annotated[
        bool, typer.Option("--allow-create", help="Also create a trainer job and a model. This may cost money.")
    ] = False,
    allow_deployment: Annotated[
        bool, typer.Option("--allow-deployment", help="With --allow-create, also serve what the job saves.")
    ] = False,
    allow_pool: Annotated[
        bool, typer.Option("--allow-pool", help="Also train on the serverless pool, and fill it for some seconds.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before creating.")] = False,
    base_model: Annotated[
        str, typer.Option(help="Model to train with --allow-create.")
    ] = "accounts/fireworks/models/qwen3-8b",
    shape: Annotated[str | None, typer.Option(help="Training shape to train it on.", show_default=False)] = None,
    deployment_shape: Annotated[
        str | None, typer.Option(help="Deployment shape to serve it on.", show_default=False)
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write FILE.json and FILE.md.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    listing: Annotated[bool, typer.Option("--list", help="Name the checks and leave.")] = False,
) -> None:
    """Compare a server with the wire contract.

    Read-only unless one of the --allow options is given. Says field by field what is answered differently; the exit
    status is 0 when nothing is."""
    import httpx

    from ftsim.tools.contract import CHECKS, COST_WARNING, PoolStage, run
    from ftsim.tools.contract.creating import CreatedJob
    from ftsim.tools.contract.session import Session

    if listing and as_json:
        told = [{"name": one.name, "about": one.about, "wire": one.wire, "creates": one.creates} for one in CHECKS]
        tell({"checks": told}, True)
        return
    if listing:
        for check in CHECKS:
            verified = f"verified {check.verified}" if check.verified else "never verified"
            what = f"{check.part:10} {verified:14} WIRE {check.wire:10}"
            print(f"{what} {check.name}: {check.about} Costs {check.cost}.")
        return
    with contextlib.ExitStack() as stack:
        if base_url is None:
            import ftsim

            emulator = stack.enter_context(ftsim.Emulator())
            base_url, api_key = emulator.url, emulator.api_key
        elif allow_create or allow_pool:
            print(COST_WARNING, file=sys.stderr)
            if not yes and not typer.confirm("Go on?"):
                fail("nothing was created")
        if not api_key:
            fail(f"no key for {base_url}: give --api-key or set FIREWORKS_API_KEY")
        try:
            session = Session(base_url, api_key)
            stack.callback(session.http.close)
            poll_s = 0.05 if base_url.startswith("http://127.") else 5.0
            stage = CreatedJob(session, base_model, shape, poll_s, deployment_shape=deployment_shape)
            pool = PoolStage(session, base_model) if allow_pool else None
            found = run(session, stage=stage if allow_create else None, deploy=allow_deployment, pool=pool)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            fail(f"{base_url} does not answer ({error}): give the address of a server that speaks the API")
    if report is not None:
        report.with_suffix(".json").write_text(found.json(), "utf-8")
        report.with_suffix(".md").write_text(found.markdown(), "utf-8")
    print(found.json() if as_json else found.markdown(), end="")
    raise SystemExit(0 if found.agrees else 1)
