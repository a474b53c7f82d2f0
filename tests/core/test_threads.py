"""A process ends by itself, whatever the threads behind it are doing when its program is over."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_thread_in_the_middle_of_a_tensor_operation_is_waited_for() -> None:
    done = run(
        """
        import time

        import torch

        from emulator.core import threads

        def work():
            weight, until = torch.randn(64, 64, requires_grad=True), time.monotonic() + 0.3
            while time.monotonic() < until:
                (weight @ weight).sum().backward()
            print("finished")

        threads.start(work, "work")
        time.sleep(0.05)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "finished\n", "")


def test_an_emulator_that_nobody_stops_is_stopped_at_the_end(tmp_path: Path) -> None:
    done = run(
        """
        import sys
        from emulator import Emulator

        emulator = Emulator(state_dir=sys.argv[1]).start()
        with emulator.world.change():
            pass
        """,
        str(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "server.json").exists()


@pytest.mark.slow
def test_a_program_that_ends_while_its_trainer_computes_ends_well() -> None:
    """Five times, since it would not go wrong every time."""
    program = """
        import ftsim
        from ftsim.testing.clients import Clients, batch
        from ftsim.testing.tiny import NAME, tiny_model

        emulator = ftsim.Emulator(models={NAME: tiny_model()}).start()
        clients = Clients(emulator.url, emulator.api_key, emulator.account)
        clients.manager.create(clients.job_config("job-1", 4))
        client = clients.training_client("job-1", 4)
        for _ in range(3):
            client.forward_backward(batch() * 2000, "cross_entropy")
        """
    for _ in range(5):
        done = run(program)
        assert done.returncode == 0, done.stderr


AT_THE_END = """
import atexit
from emulator.core import threads

atexit.register(lambda: threads.start(lambda: print("done"), "late"))
"""


def test_work_that_is_started_as_the_interpreter_ends_is_done() -> None:
    """From Python 3.12 on no thread begins then."""
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("done\n", "")
