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

from collections.abc import Sequence
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ftsim.testing.runs import Factory, ManagerFault, Run, play, shorten
from ftsim.testing.strategies import Crash, Event, Promote, Save, ServiceSwitch, Train, renamed, save_histories

__all__ = ["SWITCHES", "CheckpointManagerMachine", "ManagerFault", "check_checkpoint_manager"]
SWITCHES = (
    ServiceSwitch("rows.page_size_cap", 2),
    ServiceSwitch("rows.drop_false", True),
    ServiceSwitch("rows.extra_type", "CHECKPOINT_TYPE_UNHEARD_OF"),
    ServiceSwitch("clock.skew_s", -300.0),
    ServiceSwitch("clock.skew_s", 300.0),
)
"""Quirks of ordinary days. A manager that polls can bear more: `ServiceSwitch("rows.visible_after_lists", 2)`."""

MACHINE_RUNS, MACHINE_STEPS = 25, 8
"""The bounds of a machine's `TestCase`: some twenty seconds for a manager without a hole."""

_BOTH = Save(resumable=True, promotable=True)
_RESUMABLE = Save(resumable=True, promotable=False)
_COARSE = Save(resumable=True, promotable=False, coarse=True)
KNOWN_TO_HURT: tuple[tuple[Event, ...], ...] = (
    (Train(1), _RESUMABLE, Crash()),
    (Train(1), _RESUMABLE, Train(1), _RESUMABLE, Crash(), Train(1), _BOTH, Promote()),
    (Train(1), _COARSE, Train(1), _RESUMABLE, Crash()),
    (Train(1), Save(True, True, coarse=True), Train(1), _BOTH, Promote()),
    (Train(1), _RESUMABLE, Train(1), Save(False, True), Crash(), Train(1), _BOTH, Promote()),
    (Train(8), _RESUMABLE, Train(2), _RESUMABLE, Crash()),
    (Train(1), _RESUMABLE, Crash(), _RESUMABLE, Train(1), Crash()),
    (Train(1), _BOTH, Train(1), Save(False, True), Crash(), Promote()),
    (Train(1), _RESUMABLE, Train(1), Save(False, True), Crash(), Promote()),
)
"""Histories that have hurt a manager before; they are tried first."""


def check_checkpoint_manager(
    factory: Factory,
    *,
    runs: int = 50,
    lora_ranks: Sequence[int] = (0, 4),
    switches: Sequence[ServiceSwitch] = SWITCHES,
    weather: Sequence[ServiceSwitch] | None = None,
) -> None:
    """Try `runs` histories after the well-known ones, the same every time; raises `ManagerFault` with a short one.

    `factory` is called once for every process of a run: `factory(client, fw_client, trainer_id=..., log_path=...,
    lora_rank=...)`. Torch trains a tiny model, so a history takes some tenths of a second. `weather` is the deprecated
    name of `switches`.
    """
    switches = renamed("weather=", "switches=", weather, switches)
    for rank in lora_ranks:
        for events in KNOWN_TO_HURT:
            _judge(factory, rank, events)
    if not runs:
        return

    @settings(
        max_examples=runs, deadline=None, derandomize=True, database=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck), print_blob=False, report_multiple_bugs=False,
    )  # fmt: skip
    @given(st.sampled_from(list(lora_ranks)), save_histories(switches=switches))
    def search(rank: int, events: list[Event]) -> None:
        found = play(factory, rank, events)
        if found is not None:
            raise _Found(rank, found)

    try:
        search()
    except _Found as found:
        raise shorten(factory, found.rank, found.fault) from None


class _Found(BaseException):
    """Carries a fault past the search, which is not to shorten it: `shorten` knows what an event is."""

    def __init__(self, rank: int, fault: ManagerFault) -> None:
        self.rank = rank
        self.fault = fault


def _judge(factory: Factory, rank: int, events: Sequence[Event]) -> None:
    found = play(factory, rank, events)
    if found is not None:
        raise shorten(factory, rank, found)


class CheckpointManagerMachine(RuleBasedStateMachine):
    """The same as a state machine: set `factory`; `switches` are quirks that may set in.

    `TestCase.settings` are bounded: MACHINE_RUNS runs of up to MACHINE_STEPS events, a failure not shortened. Ask
    for more with `Mine.TestCase.settings = settings(Mine.TestCase.settings, max_examples=200)`.
    """

    factory: ClassVar[Factory]
    lora_ranks: ClassVar[Sequence[int]] = (0, 4)
    switches: ClassVar[Sequence[ServiceSwitch]] = SWITCHES
    run: Run

    def __init_subclass__(cls, **options: Any) -> None:
        """An event takes a real trainer and tenths of a second; Hypothesis' own bounds mean half an hour of them."""
        super().__init_subclass__(**options)
        cls.switches = renamed("the attribute weather", "switches", vars(cls).get("weather"), cls.switches)
        cls.TestCase.settings = settings(
            max_examples=MACHINE_RUNS, stateful_step_count=MACHINE_STEPS, deadline=None, report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck), phases=set(Phase) - {Phase.shrink, Phase.explain},
        )  # fmt: skip

    def teardown(self) -> None:
        if hasattr(self, "run"):
            self.run.close()

    @initialize(
        rank=st.runner().flatmap(lambda machine: st.sampled_from(list(machine.lora_ranks))),
        past=st.sampled_from([(), *KNOWN_TO_HURT]),
    )
    def begin(self, rank: int, past: Sequence[Event]) -> None:
        """Most runs have one of the well-known histories behind them, which chance alone seldom finds."""
        self.run = Run(type(self).factory, rank)
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
