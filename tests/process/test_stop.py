"""A signal that comes at any moment of a wait ends it."""

import subprocess
import sys
import threading
import time

from ftsim.process.stop import Stop

WAITS = """
import random, signal
from ftsim.process.stop import Stop

chance = random.Random(3)
for _ in range(300):
    stop = Stop()
    signal.signal(signal.SIGALRM, lambda *_: stop.set())
    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 4e-5))
    assert stop.wait()
print("done")
"""


def test_a_signal_may_come_while_the_wait_begins() -> None:
    """With `threading.Event` in its place this hangs, mostly before the hundredth wait."""
    done = subprocess.run([sys.executable, "-c", WAITS], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr


def test_another_thread_may_say_it_and_a_wait_may_be_short() -> None:
    stop = Stop()
    assert not stop.wait(0.01)
    assert not stop.is_set()
    threading.Timer(0.05, stop.set).start()
    began = time.monotonic()
    assert stop.wait(10)
    assert time.monotonic() - began < 5
    assert stop.is_set()
    assert stop.wait(0)
