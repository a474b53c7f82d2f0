"""Ctrl-C while the vendor's client hands over a request: the run says so, and goes on from its last checkpoint."""

import inspect
import time
from pathlib import Path
from typing import Any

import pytest
from fireworks.training.sdk._core.lib.internal_client_holder import InternalClientHolder

from emulator.server import Emulator
from ftsim.training.interrupts import named_interrupts, was_interrupted
from ftsim.training.recipes import sft_loop
from tests.training.runs import files, rows
from tests.training.test_going_on import fields


def interrupted_handing_over(patch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """Press Ctrl-C once the client's thread has begun the request that is the `number`th of its kind."""
    hand_over, seen = InternalClientHolder.run_coroutine_threadsafe, list[str]()

    def handed_over(holder: InternalClientHolder, coroutine: Any) -> Any:
        future = hand_over(holder, coroutine)
        asked = coroutine.cr_frame.f_locals.get("coro") if coroutine.cr_frame else None
        if getattr(asked, "__qualname__", "").split(".")[1:2] == [call]:
            seen.append(call)
            if len(seen) == number:
                while inspect.getcoroutinestate(coroutine) != inspect.CORO_SUSPENDED:
                    time.sleep(0.0005)
                raise KeyboardInterrupt
        return future

    patch.setattr(InternalClientHolder, "run_coroutine_threadsafe", handed_over)


@pytest.mark.parametrize(("call", "number"), [("optim_step", 2), ("save_state", 1), ("_save_sampler_snapshot", 1)])
def test_a_run_that_is_interrupted_as_it_asks_says_so_and_ends_as_if_it_had_not_been(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, call: str, number: int
) -> None:
    runs = [sft_loop.Config(**fields(tmp_path / name, tokenizer_folder)) for name in ("whole", "cut")]
    whole = sft_loop.main(runs[0])
    with pytest.MonkeyPatch.context() as patch:
        interrupted_handing_over(patch, call, number)
        with pytest.raises(KeyboardInterrupt):
            sft_loop.main(runs[1])
    cut = sft_loop.main(runs[1])
    assert (whole["resumed_from"], cut["steps"]) == (None, whole["steps"])
    last = f"step-{whole['steps']}"
    states = [files(rows(emulator, done["job_id"])[last], "*.distcp") for done in (whole, cut)]
    assert states[0] == states[1]
    assert states[0]


def test_an_interrupt_is_found_behind_whatever_took_its_place() -> None:
    def fail() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise ValueError("another context")

    with pytest.raises(KeyboardInterrupt), named_interrupts():
        fail()


def test_an_error_of_its_own_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="a fault"), named_interrupts():
        raise ValueError("a fault")
    assert not was_interrupted(None)
