"""docs/notebooks.md in a real kernel: a running event loop, an interrupted cell, a kernel that is restarted."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.server import Emulator
from emulator.state.server_record import ServerRecord
from ftsim.compute.backend import TorchBackend
from ftsim.compute.models import hub
from ftsim.process.environment import in_environment, program_environment

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/notebooks.md").read_text("utf-8")
NOTEBOOK = json.loads((ROOT / "fixtures/examples/train.ipynb").read_text("utf-8"))
CELLS = [cell["source"] for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
WAIT_S = 180


def test_the_notebook_has_the_cells_of_the_page() -> None:
    assert [block.strip() for block in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.S | re.M)][:3] == CELLS


def test_an_emulator_lives_in_the_process_of_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n([^`]*Emulator\([^`]*)^```", PAGE, flags=re.M)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with in_environment({}):
        exec(compile(block, "docs/notebooks.md", "exec"), names)
        address = os.environ["FIREWORKS_BASE_URL"]
    assert names["emulator"].url == address
    names["emulator"].stop()
    assert (tmp_path / "state" / "metadata.sqlite").is_file()


class Kernel:
    """A kernel, and what a person does with it."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self.client = self._connected()

    def _connected(self) -> Any:
        client = self.manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=WAIT_S)
        return client

    def run(self, cell: str, *, interrupt_at: str = "", restart_at: str = "") -> tuple[str, str]:
        """Return what a cell says, and its error; it is interrupted, or its kernel restarted, once it says so."""
        asked, said, error = self.client.execute(cell), "", ""
        while True:
            message = self.client.get_iopub_msg(timeout=WAIT_S)
            content = message["content"]
            if message["parent_header"].get("msg_id") != asked:
                continue
            if message["msg_type"] in ("stream", "display_data"):  # the recipes' lines are displayed, as rich does it
                said += content.get("text", "") + content.get("data", {}).get("text/plain", "")
            if message["msg_type"] == "error":
                error = content["ename"]
                print(*content["traceback"], sep="\n")  # shown where the test fails
            if interrupt_at and interrupt_at in said:
                interrupt_at = ""
                self.manager.interrupt_kernel()
            if restart_at and restart_at in said:
                self.restart()
                return said, "restarted"
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                return said, error

    def restart(self) -> None:
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self.client = self._connected()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    manager: Any = pytest.importorskip("jupyter_client.manager").KernelManager(kernel_name="python3")
    pytest.importorskip("ipykernel")
    with Emulator(TorchBackend(), seed=3) as emulator:
        record = ServerRecord(emulator.url, os.getpid(), emulator.api_key, emulator.account)
        environment = program_environment(os.environ, record, hub.build(tmp_path / "hub"))
        manager.start_kernel(env=environment, cwd=str(tmp_path))
        made = Kernel(manager)
        try:
            yield made
        finally:
            made.client.stop_channels()
            manager.shutdown_kernel(now=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the client library, which is not ours
def test_a_run_survives_an_interrupted_cell_and_a_restarted_kernel(kernel: Kernel) -> None:
    looped = "import asyncio\nassert asyncio.get_running_loop().is_running()"
    for cell in (looped, CELLS[0]):
        assert kernel.run(cell) == ("", "")
    said, error = kernel.run(CELLS[1], interrupt_at="checkpoint step-4 is saved")
    assert error == "KeyboardInterrupt", said
    assert "is ready" not in said
    said, error = kernel.run(CELLS[1], restart_at="checkpoint step-12 is saved")
    assert error == "restarted", said
    assert "step-4" in said or "step-8" in said, "it goes on from a checkpoint"
    said, error = kernel.run(CELLS[0] + "\n" + CELLS[1])
    assert error == "", said
    assert "24 steps, went on from" in said
    assert "went on from None" not in said
    said, error = kernel.run(CELLS[1])
    assert "complete already" in said, (said, error)
    assert float(kernel.run("print(" + CELLS[2] + ")")[0]) > 0
