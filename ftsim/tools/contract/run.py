"""Runs the checks in order and gathers what they found."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import httpx

from ftsim.tools.contract import creating, facts, pool as pooled, reading, serving
from ftsim.tools.contract.creating import CreatedJob, deleted_at_the_end
from ftsim.tools.contract.pool import PoolStage, ended_at_the_end
from ftsim.tools.contract.session import Outcome, Report, Session, Skip

Part = Literal["read", "job", "deployment", "pool"]
OPTIONS: Mapping[Part, str] = {
    "job": "--allow-create",
    "deployment": "--allow-deployment",
    "pool": "--allow-pool",
}
COSTS: Mapping[Part, str] = {
    "read": "nothing",
    "job": "a trainer job from its create to its delete, usually many minutes of its accelerators",
    "deployment": "one replica of a deployment for some minutes, beside the job",
    "pool": "no accelerator: some ten tokens; all places of the pool are taken for some seconds",
}
COST_WARNING = (
    "--allow-create makes a trainer job, takes some steps on four tokens, saves checkpoints, promotes two models, "
    "cancels and resumes the job. On a real service the job is billed for its accelerators from create to delete, "
    "usually many minutes, and saved files may be billed too. --allow-deployment serves its snapshot on one replica "
    "meanwhile, which is billed by the minute. --allow-pool opens training sessions and takes all places of the pool "
    "for some seconds: let no other run need one. Everything is deleted at the end; should the check be interrupted, "
    "delete what begins with ftsim-contract by hand."
)


VERIFIED: Mapping[str, str] = {}
"""Checks that agreed with the live service, and the day of the report that says so: none was ever run against it."""


class Check(NamedTuple):
    """A check by name, the sections of docs/wire.md that it compares with, the part that it belongs to."""

    name: str
    wire: str
    run: Callable[[Any], None]
    part: Part

    @property
    def creates(self) -> bool:
        return self.part != "read"

    @property
    def cost(self) -> str:
        """Say what its part costs on a real service."""
        return COSTS[self.part]

    @property
    def verified(self) -> str:
        """The day on which it agreed with the live service; empty as long as it never did."""
        return VERIFIED.get(self.name, "")

    @property
    def about(self) -> str:
        return (self.run.__doc__ or "").split("\n")[0]


def _checks(part: Part, *table: tuple[str, Callable[[Any], None]]) -> tuple[Check, ...]:
    return tuple(Check(run.__name__.replace("_", " "), wire, run, part) for wire, run in table)


CHECKS = (
    *_checks(
        "read",
        ("1.4", reading.one_account), ("1.2", reading.unknown_key), ("1.1", reading.bearer_alone),
        ("1.2", reading.other_account), ("1.11", reading.lists_of_what_is_retired),
        ("1.8", reading.unknown_job), ("1.5", reading.unknown_model), ("1.12", reading.unknown_deployment),
        ("1.9", reading.unknown_jobs_checkpoints), ("1.7", reading.jobs), ("1.5", reading.models),
        ("1.12", reading.deployments), ("1.6", reading.training_shapes), ("1.6", reading.eight_to_a_node),
        ("1.5", reading.base_model), ("1.9, 5.3", reading.checkpoints),
    ),
    *_checks(
        "job",
        ("1.7", facts.refused_jobs), ("1.7, 4.1", creating.create), ("1.7", creating.create_again),
        ("1.9", facts.no_rows_yet), ("2.4, 2.5", creating.open_model), ("2.5", facts.created_once),
        ("2.9", facts.idle_step), ("2.8, 2.9", creating.step), ("2.7, 2.8", facts.forward_changes_nothing),
        ("2.8", facts.weights_are_ones), ("2.8", facts.unknown_loss_setting), ("2.6", facts.result_again),
        ("2.7", creating.resend), ("2.6, 2.8", creating.bad_datum), ("2.10, 5.3", creating.save),
        ("1.9", facts.restore_reference), ("5.1", facts.names_of_saves), ("5.1", facts.saved_again),
        ("5.2", facts.sampler_is_no_state), ("2.10, 5.2", creating.load), ("1.10", creating.promote_refused),
        ("1.10", facts.both_spellings), ("1.8", facts.accelerator_seconds), ("1.11", facts.retired_creates),
        ("3.2", facts.model_nobody_serves),
    ),
    *_checks(
        "deployment",
        ("1.12", serving.deploy), ("3.3", serving.unknown_snapshot), ("3.3", serving.words_of_reset),
        ("3.1, 3.2", serving.stream_names_snapshot), ("3.1", serving.certain_token),
        ("3.1", serving.what_penalties_count), ("2.8", serving.routes_of_a_token), ("3.2", serving.model_not_served),
        ("3.3", serving.ledger), ("4.2", serving.scaled_to_zero),
    ),
    *_checks(
        "job",
        ("1.10, 5.7", creating.promote), ("1.5", facts.files_of_the_model), ("1.10, 2.11", facts.untouched_adapter),
    ),
    *_checks("deployment", ("1.5", serving.model_in_use)),
    *_checks(
        "job",
        ("2.6", facts.polls_in_time), ("4.1", facts.cancelled_and_resumed), ("1.8", creating.delete),
    ),
    *_checks(
        "pool",
        ("2.12", pooled.adapters_only), ("1.11, 5.1", pooled.names_on_the_pool), ("1.11", pooled.state_of_a_session),
        ("2.12", pooled.sampled_elsewhere), ("1.11, 2.12", pooled.rows_of_an_ended_session),
        ("2.12", pooled.a_full_pool),
    ),
)  # fmt: skip


def run(
    session: Session, *, stage: CreatedJob | None = None, deploy: bool = False, pool: PoolStage | None = None
) -> Report:
    """Carry out the checks that read; with a `stage` those of its job, and of a deployment of it; those of the `pool`.

    Raises httpx.TransportError when nobody answers the very first question: there is no server to report on.
    """
    for check in CHECKS:
        if not check.creates:
            _carry_out(session, check, session)
    subjects: dict[Part, CreatedJob | PoolStage] = {}
    with contextlib.ExitStack() as stack:
        if stage is not None and session.account:
            subjects["job"] = stack.enter_context(deleted_at_the_end(stage))
            subjects |= {"deployment": stage} if deploy else {}
        if pool is not None and session.account:
            subjects["pool"] = stack.enter_context(ended_at_the_end(pool))
        for check in CHECKS:
            if (subject := subjects.get(check.part)) is not None:
                session.report.created = True
                _carry_out(session, check, subject)
            elif check.creates:
                why = f"{OPTIONS[check.part]} was not given" if session.account else "no account is known"
                session.report.outcomes.append(Outcome(check.name, check.wire, "skipped", why))
    return session.report


def _carry_out(session: Session, check: Check, subject: Session | CreatedJob | PoolStage) -> None:
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
