"""Looking for holes in a checkpoint manager: histories of a run on a real emulator, until one goes wrong.

    from ftsim.testing import check_checkpoint_manager

    def test_my_checkpoints_never_lose_a_run():
        check_checkpoint_manager(MyCheckpoints)

`MyCheckpoints(client, fw_client, *, trainer_id, log_path, lora_rank)` has `save(name, *, resumable, promotable,
data_consumed)`, `resume()`, and `promote_latest(output_model_id, base_model)`. As a state machine of Hypothesis:

    class Mine(CheckpointManagerMachine):
        factory = staticmethod(MyCheckpoints)

    TestMine = Mine.TestCase
"""

import contextlib
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ftsim.testing.draws import beside_clients
from ftsim.testing.faults import ManagerFault
from ftsim.testing.histories import KNOWN_TO_HURT, ON_EVERY_RANK, OPTIONAL
from ftsim.testing.progress import Progress
from ftsim.testing.rules import BY_ID, chosen
from ftsim.testing.runs import Factory, Run
from ftsim.testing.search import Findings
from ftsim.testing.strategies import (
    KILLED,
    Crash,
    Event,
    Killed,
    Promote,
    Save,
    ServiceSwitch,
    Train,
    renamed,
    save_histories,
)

__all__ = ["SWITCHES", "CheckpointManagerMachine", "ManagerFault", "check_checkpoint_manager"]
SWITCHES = (
    ServiceSwitch("rows.page_size_cap", 2),
    ServiceSwitch("rows.drop_false", True),
    ServiceSwitch("rows.extra_type", "CHECKPOINT_TYPE_UNHEARD_OF"),
    ServiceSwitch("clock.skew_s", -300.0),
    ServiceSwitch("clock.skew_s", 300.0),
)
"""Quirks of ordinary days. A manager that polls can bear more: `ServiceSwitch("rows.visible_after_lists", 2)`."""

RUNS = 4
"""The number of histories made up after the well-known ones; 60 before a release."""
MACHINE_RUNS, MACHINE_STEPS = 25, 8
"""The bounds of a machine's `TestCase`: some twenty seconds for a manager without a hole."""


def check_checkpoint_manager(
    factory: Factory,
    *,
    runs: int = RUNS,
    lora_ranks: Sequence[int] = (0, 4),
    switches: Sequence[ServiceSwitch] = SWITCHES,
    rules: Collection[str] | None = None,
    ignore: Collection[str] = (),
    weather: Sequence[ServiceSwitch] | None = None,
) -> None:
    """Play the well-known histories and, if they show nothing, `runs` others, the same every time.

    Raises `ManagerFault`: the first rule that is broken with the shortest history that shows it, then the others.
    `rules` are ids of `ftsim.testing.rules.RULES` (None: those that every manager must keep), less those of `ignore`.
    `factory` is called once for every process of a run: `factory(client, fw_client, trainer_id=..., log_path=...,
    lora_rank=...)`, with `sleep=` where that is a parameter whose default is `time.sleep`. `weather` is the deprecated
    name of `switches`.
    """
    __tracebackhide__ = True
    switches = renamed("weather=", "switches=", weather, switches)
    wanted = chosen(rules, ignore)
    optional = OPTIONAL if any(not BY_ID[one].default for one in wanted) else ()
    histories = [(rank, events) for rank in lora_ranks[:1] for events in (*KNOWN_TO_HURT, *optional)]
    histories += [(rank, events) for rank in lora_ranks[1:] for events in ON_EVERY_RANK]
    with Progress(len(histories) + runs) as progress:
        findings = Findings(factory, wanted, progress)
        for rank, events in histories:
            findings.try_out(rank, events)
        if runs and lora_ranks and not findings:
            _search(factory, runs, lora_ranks, switches, wanted, findings)
    fault = findings.fault()
    if fault is not None:
        raise fault from fault.__cause__


def _search(
    factory: Factory,
    runs: int,
    lora_ranks: Sequence[int],
    switches: Sequence[ServiceSwitch],
    rules: Collection[str],
    findings: Findings,
) -> None:
    """Play histories that Hypothesis makes up, until one shows a fault."""

    @settings(
        max_examples=runs,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    @given(st.sampled_from(list(lora_ranks)), save_histories(switches=switches, kills=True))
    def search(rank: int, events: list[Event]) -> None:
        findings.try_out(rank, events)
        if findings:
            raise _Enough

    with contextlib.suppress(_Enough), beside_clients():
        search()


class _Enough(BaseException):
    """Ends the search, which is not to shorten what it found: `shorten` knows what an event is."""


_PASTS: tuple[tuple[Event, ...], ...] = ((), *KNOWN_TO_HURT)
"""Drawn through a wide range of numbers: of a few choices Hypothesis repeats the same ones, run after run."""


class CheckpointManagerMachine(RuleBasedStateMachine):
    """The same as a state machine: set `factory`; `switches` may set in, `held_to` and `ignore` choose rules.

    `TestCase.settings` are bounded: MACHINE_RUNS runs of up to MACHINE_STEPS events, a failure not shortened. Ask
    for more with `Mine.TestCase.settings = settings(Mine.TestCase.settings, max_examples=200)`.
    """

    factory: ClassVar[Factory]
    lora_ranks: ClassVar[Sequence[int]] = (0, 4)
    switches: ClassVar[Sequence[ServiceSwitch]] = SWITCHES
    held_to: ClassVar[Collection[str] | None] = None
    ignore: ClassVar[Collection[str]] = ()
    run: Run

    def __init_subclass__(cls, **options: Any) -> None:
        """An event takes a real trainer and tenths of a second; Hypothesis' own bounds mean half an hour of them."""
        super().__init_subclass__(**options)
        cls.switches = renamed("the attribute weather", "switches", vars(cls).get("weather"), cls.switches)
        cls.TestCase.settings = settings(
            max_examples=MACHINE_RUNS,
            stateful_step_count=MACHINE_STEPS,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=set(Phase) - {Phase.shrink, Phase.explain},
        )

    def teardown(self) -> None:
        if hasattr(self, "run"):
            self.run.close()

    @initialize(
        rank=st.runner().flatmap(lambda machine: st.sampled_from(list(machine.lora_ranks))),
        past=st.integers(0, 9_999).map(lambda number: _PASTS[number % len(_PASTS)]),
    )
    def begin(self, rank: int, past: Sequence[Event]) -> None:
        """Most runs have one of the well-known histories behind them, which chance alone seldom finds."""
        self.run = Run(type(self).factory, rank, rules=chosen(self.held_to, self.ignore))
        for event in past:
            self.run.play(event)

    @rule(batches=st.integers(1, 3))
    def train(self, batches: int) -> None:
        self.run.play(Train(batches))

    @precondition(lambda machine: machine.run.step > 0)
    @rule(axes=st.sampled_from([(True, False), (True, True), (False, True)]), coarse=st.booleans())
    def save(self, axes: tuple[bool, bool], coarse: bool) -> None:
        self.run.play(Save(*axes, coarse))

    @rule()
    def crash(self) -> None:
        self.run.play(Crash())

    @rule()
    def crash_while_resuming(self) -> None:
        self.run.play(Crash(while_resuming=True))

    @precondition(lambda machine: machine.run.step > 0)
    @rule(axes=st.sampled_from([(True, False), (True, True), (False, True)]), killed=st.sampled_from(KILLED))
    def crash_while_saving(self, axes: tuple[bool, bool], killed: Killed) -> None:
        self.run.play(Save(*axes, killed=killed))

    @precondition(lambda machine: machine.run.can_promote)
    @rule()
    def promote(self) -> None:
        self.run.play(Promote())

    @precondition(lambda machine: machine.switches)
    @rule(switch=st.runner().flatmap(lambda machine: st.sampled_from(list(machine.switches))))
    def turn_on(self, switch: ServiceSwitch) -> None:
        self.run.play(switch)


def __getattr__(name: str) -> Any:
    if name == "WEATHER":
        return renamed(f"{__name__}.WEATHER", f"{__name__}.SWITCHES", SWITCHES, SWITCHES)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
