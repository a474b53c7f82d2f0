"""Recipes in this process that end at a chosen call to the SDK, as abruptly as a process can without dying."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from fireworks.training.sdk import DeploymentManager, FiretitanServiceClient, TrainerJobManager
from fireworks.training.sdk.client import FiretitanSamplingClient, FiretitanTrainingClient

from ftsim.training import trainers

CALLS = (
    (TrainerJobManager, "create"),
    (FiretitanServiceClient, "create_training_client"),
    (FiretitanTrainingClient, "forward"),
    (FiretitanTrainingClient, "forward_backward_custom"),
    (FiretitanTrainingClient, "optim_step"),
    (FiretitanTrainingClient, "save_state"),
    (FiretitanTrainingClient, "load_state_with_optimizer"),
    (FiretitanTrainingClient, "save_weights_for_sampler_ext"),
)
SAMPLING_CALLS = (
    *CALLS,
    (FiretitanTrainingClient, "forward_backward"),
    (FiretitanSamplingClient, "sample"),
    (DeploymentManager, "create_or_get"),
    (DeploymentManager, "hotload"),
    (DeploymentManager, "delete"),
)


class Interrupted(BaseException):
    """Not an `Exception`, so that nobody handles it."""


class Calls:
    """Counts the calls above; the one numbered `at` raises instead of being made, or with `after` once it is made."""

    def __init__(self, at: int | None, *, after: bool) -> None:
        self.at, self.after = at, after
        self.made: list[str] = []

    def through(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            number = len(self.made)
            self.made.append(call.__name__)
            if number == self.at and not self.after:
                raise Interrupted
            answer = call(*args, **more)
            if number == self.at:
                raise Interrupted
            return answer

        return counted


@contextmanager
def counting(
    at: int | None = None, *, after: bool = False, watched: Sequence[tuple[type, str]] = CALLS
) -> Iterator[Calls]:
    """Count the calls made inside; with `at`, the program inside is interrupted and nothing is cleaned up."""
    calls = Calls(at, after=after)
    with pytest.MonkeyPatch.context() as patch:
        if at is not None:
            patch.setattr(trainers, "cancel", lambda *args, **more: None)  # the dead release nothing
            patch.setattr(DeploymentManager, "delete", lambda *args, **more: None)
        for owner, name in watched:
            patch.setattr(owner, name, calls.through(getattr(owner, name)))
        yield calls


def interrupt(
    main: Callable[[Any], Any], config: Any, at: int, *, after: bool, watched: Sequence[tuple[type, str]] = CALLS
) -> None:
    """Run `main` up to its call number `at` (0-based)."""
    with pytest.raises(Interrupted), counting(at, after=after, watched=watched):
        main(config)
