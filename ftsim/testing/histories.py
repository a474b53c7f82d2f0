"""Histories that have hurt a checkpoint manager before; each is played, whatever the others show."""

from ftsim.testing.strategies import Crash, Event, Promote, Save, ServiceSwitch, Train

_BOTH = Save(resumable=True, promotable=True)
_RESUMABLE = Save(resumable=True, promotable=False)
_PROMOTABLE = Save(resumable=False, promotable=True)
_COARSE = Save(resumable=True, promotable=False, coarse=True)
_STEP = Train(1)

FAILING_LIST = ServiceSwitch("http.fail", 503, {"endpoint": "list_checkpoints"}, times=20)
LATE_ROWS = ServiceSwitch("rows.visible_after_lists", 2)

KNOWN_TO_HURT: tuple[tuple[Event, ...], ...] = (
    (_STEP, Crash()),
    (Train(1, dropped=1), _RESUMABLE, Crash()),
    (_STEP, _RESUMABLE, Train(1, dropped=1), _RESUMABLE, Crash(), _STEP, _BOTH, Promote()),
    (_STEP, _BOTH, _STEP, _BOTH, Promote()),
    (_STEP, _BOTH, _STEP, _RESUMABLE, Promote()),
    (_STEP, _COARSE, _STEP, _RESUMABLE, Crash()),
    (_STEP, Save(True, True, coarse=True), _STEP, _BOTH, Promote()),
    (_STEP, _RESUMABLE, _STEP, _PROMOTABLE, Crash(), _STEP, _BOTH, Promote()),
    (Train(8), _RESUMABLE, Train(2), _RESUMABLE, Crash()),
    (_STEP, _RESUMABLE, Crash(), _RESUMABLE, _STEP, _RESUMABLE, Crash()),
    (_STEP, _BOTH, _STEP, _PROMOTABLE, Crash(), Promote()),
    (_STEP, _RESUMABLE, _STEP, _PROMOTABLE, Crash(), Promote()),
    (_STEP, _RESUMABLE, _STEP, Save(True, True, killed="before"), _STEP, _BOTH, Crash(), Promote()),
    (_STEP, _RESUMABLE, _STEP, Save(True, True, killed="between"), _STEP, _BOTH, Promote()),
    (_STEP, _RESUMABLE, _STEP, Save(True, False, killed="after"), _STEP, _RESUMABLE, Crash()),
    (_STEP, _RESUMABLE, _STEP, _RESUMABLE, Crash(while_resuming=True)),
    (ServiceSwitch("rows.page_size_cap", 2), _STEP, _RESUMABLE, _STEP, _BOTH, _STEP, _RESUMABLE, Promote(), Crash()),
    (
        ServiceSwitch("rows.drop_false", True),
        ServiceSwitch("rows.extra_type", "CHECKPOINT_TYPE_UNHEARD_OF"),
        _STEP,
        _BOTH,
        _STEP,
        _RESUMABLE,
        Promote(),
        Crash(),
    ),
    (ServiceSwitch("clock.skew_s", -300.0), _STEP, _BOTH, Promote(), Crash()),
    (_STEP, _RESUMABLE, FAILING_LIST, Crash()),
    (_STEP, _BOTH, _STEP, LATE_ROWS, _BOTH, Promote()),
)
"""Played on the first rank; the first are the shortest ones of the plain rules."""

ON_EVERY_RANK = tuple(KNOWN_TO_HURT[at] for at in (1, 3, 7, 10, 13, 15))
"""Played on the other ranks too: what differs there is what is saved, loaded and promoted, not how rows are listed."""

OPTIONAL: tuple[tuple[Event, ...], ...] = (
    (ServiceSwitch("save.on_duplicate", "strict"), _STEP, _RESUMABLE, Crash(), _RESUMABLE, _STEP, _RESUMABLE, Crash()),
    (_STEP, _RESUMABLE, _STEP, LATE_ROWS, _RESUMABLE, Crash()),
    (_STEP, _RESUMABLE, FAILING_LIST, Crash()),
    (
        _STEP,
        _BOTH,
        _STEP,
        ServiceSwitch("http.lose_reply", "after", {"endpoint": "save_weights"}, times=1),
        _BOTH,
        Promote(),
        Crash(),
    ),
    (_STEP, _BOTH, ServiceSwitch("http.fail", 429, {"endpoint": "promote"}, times=2), Promote()),
)
"""Played as well where a rule is asked for that is not a default."""
