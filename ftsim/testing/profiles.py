"""Hypothesis profiles: `dev` (seconds, repeatable), `ci` (hundreds of machine runs), `mutants` (small, no shrinking).

HYPOTHESIS_PROFILE chooses one; without it `dev` is used.
"""

import os

from hypothesis import HealthCheck, Phase, settings

VARIABLE = "HYPOTHESIS_PROFILE"
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
PROFILES = {
    "dev": settings(
        max_examples=50, stateful_step_count=25, deadline=None, derandomize=True, database=None,
        suppress_health_check=_SLOW,
    ),
    "ci": settings(
        max_examples=300, stateful_step_count=30, deadline=None, print_blob=True, suppress_health_check=_SLOW
    ),
    "mutants": settings(
        max_examples=40, stateful_step_count=25, deadline=None, derandomize=True, database=None,
        phases=(Phase.explicit, Phase.generate), report_multiple_bugs=False, suppress_health_check=_SLOW,
    ),
}  # fmt: skip


def load() -> str:
    """Register the profiles and load the one in HYPOTHESIS_PROFILE; raises InvalidArgument for a name that is none."""
    for name, profile in PROFILES.items():
        settings.register_profile(name, profile)
    name = os.environ.get(VARIABLE, "dev")
    settings.load_profile(name)
    return name


def machine_runs(*, dev: int = 8, ci: int = 150, steps: int = 25) -> settings:
    """Settings for a state machine that talks to a server: so many runs of so many steps in each profile."""
    name = os.environ.get(VARIABLE, "dev")
    runs = {"dev": dev, "ci": ci, "mutants": dev}[name]
    return settings(PROFILES[name], max_examples=runs, stateful_step_count=steps)
