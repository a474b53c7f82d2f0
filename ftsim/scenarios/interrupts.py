"""Failures of a program that somebody interrupts."""

import inspect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, still_upstream
from ftsim.scenarios.support.stage import Stage, train
from ftsim.training.interrupts import was_interrupted


@scenario("F25", "Ctrl-C while a request is handed over comes out as a ValueError", upstream=SDK_1_2_28)
def ctrl_c_becomes_a_value_error(stage: Stage) -> Report:
    """An interrupt between the first line of a call and its return closes what the client's thread has begun."""
    client = stage.client()
    train(client, 0)
    with _interrupted():
        error = _raised(client.save_state, "step-1")
    hidden = isinstance(error, ValueError) and was_interrupted(error)
    still_upstream(SDK_1_2_28, hidden, f"a save that was interrupted: {error!r}")

    client = stage.client("job-2")
    train(client, 0)
    checkpoints = stage.checkpoints(client, "job-2")
    checkpoints.save("step-1", data_consumed=8)
    train(client, 1)
    with _interrupted():
        ours = _raised(lambda: checkpoints.save("step-2", data_consumed=16))
    claim(isinstance(ours, KeyboardInterrupt), f"our save ended with {ours!r}")
    resumed = stage.checkpoints(stage.client("job-2"), "job-2").resume()
    claim(resumed and (resumed.step, resumed.data_consumed) in ((1, 8), (2, 16)), f"resumed {resumed}")
    return Report(
        sees=[f"{type(error).__name__}: {error}", "a KeyboardInterrupt in its chain alone"],
        right=["TrainingCheckpoints raises KeyboardInterrupt", f"a new client goes on from step {resumed.step}"],
    )


@contextmanager
def _interrupted() -> Iterator[None]:
    """Inside, this thread is interrupted once the client's thread has begun what it handed over."""
    from fireworks.training.sdk._core.lib.internal_client_holder import InternalClientHolder

    hand_over, here = InternalClientHolder.run_coroutine_threadsafe, threading.get_ident()

    def handed_over(holder: Any, coroutine: Any) -> Any:
        future = hand_over(holder, coroutine)
        if threading.get_ident() == here:
            while inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                time.sleep(0)
            raise KeyboardInterrupt
        return future

    InternalClientHolder.run_coroutine_threadsafe = handed_over
    try:
        yield
    finally:
        InternalClientHolder.run_coroutine_threadsafe = hand_over


def _raised(call: Any, *args: Any) -> BaseException | None:
    try:
        call(*args)
    except BaseException as error:
        return error
    return None
