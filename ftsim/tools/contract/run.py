"""Runs the checks in order and gathers what they found."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx

from ftsim.tools.contract import creating, reading
from ftsim.tools.contract.creating import CreatedJob, deleted_at_the_end
from ftsim.tools.contract.session import Outcome, Report, Session, Skip

COST_WARNING = (
    "--allow-create makes a trainer job, takes one step, saves three checkpoints and promotes a model. On a real "
    "service the job is billed for its accelerators from create to delete, usually many minutes, and saved files may "
    "be billed too. Everything is deleted at the end; should the check be interrupted, delete what begins with "
    "ftsim-contract by hand."
)


VERIFIED: Mapping[str, str] = {}
"""Checks that agreed with the live service, and the day of the report that says so: none was ever run against it."""


class Check(NamedTuple):
    """A check by name, the sections of docs/wire.md that it compares with, whether it creates."""

    name: str
    wire: str
    run: Callable[[Any], None]
    creates: bool

    @property
    def verified(self) -> str:
        """The day on which it agreed with the live service; empty as long as it never did."""
        return VERIFIED.get(self.name, "")

    @property
    def about(self) -> str:
        return (self.run.__doc__ or "").split("\n")[0]


def _checks(creates: bool, *table: tuple[str, Callable[[Any], None]]) -> tuple[Check, ...]:
    return tuple(Check(run.__name__.replace("_", " "), wire, run, creates) for wire, run in table)


CHECKS = (
    *_checks(
        False,
        ("1.4", reading.one_account), ("1.2", reading.unknown_key), ("1.2", reading.other_account),
        ("1.8", reading.unknown_job), ("1.5", reading.unknown_model), ("1.12", reading.unknown_deployment),
        ("1.9", reading.unknown_jobs_checkpoints), ("1.7", reading.jobs), ("1.5", reading.models),
        ("1.12", reading.deployments), ("1.6", reading.training_shapes), ("1.5", reading.base_model),
        ("1.9, 5.3", reading.checkpoints),
    ),
    *_checks(
        True,
        ("1.7, 4.1", creating.create), ("1.7", creating.create_again), ("2.4, 2.5", creating.open_model),
        ("2.8, 2.9", creating.step), ("2.7", creating.resend), ("2.6, 2.8", creating.bad_datum),
        ("2.10, 5.3", creating.save), ("2.10, 5.2", creating.load), ("1.10", creating.promote_refused),
        ("1.10, 5.7", creating.promote), ("1.8", creating.delete),
    ),
)  # fmt: skip


def run(session: Session, *, stage: CreatedJob | None = None) -> Report:
    """Carry out the checks that read, and with a `stage` those that create too.

    Raises httpx.TransportError when nobody answers the very first question: there is no server to report on.
    """
    for check in CHECKS:
        if not check.creates:
            _carry_out(session, check, session)
    if stage is None or not session.account:
        why = "no account is known" if stage else "--allow-create was not given"
        session.report.outcomes += [Outcome(c.name, c.wire, "skipped", why) for c in CHECKS if c.creates]
        return session.report
    with deleted_at_the_end(stage):
        for check in CHECKS:
            if check.creates:
                _carry_out(session, check, stage)
    return session.report


def _carry_out(session: Session, check: Check, subject: Session | CreatedJob) -> None:
    session.check, session.wire = check.name, check.wire
    before = len(session.report.drift)
    result, why = "agrees", ""
    try:
        if check.run is not reading.one_account and not session.account:
            raise Skip("no account is known")
        check.run(subject)
    except Skip as missing:
        result, why = "skipped", str(missing)
    except (httpx.HTTPError, TimeoutError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, httpx.TransportError) and not session.report.outcomes:
            raise
        result, why = "broken", f"{type(error).__name__}: {error}"
    if len(session.report.drift) > before:
        result = "differs"
    session.report.outcomes.append(Outcome(check.name, check.wire, result, why))
