"""A disk that takes one write less, wherever that is: it is told, nothing acknowledged is lost, and the next works."""

import errno
import mmap
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.server import Emulator
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import Wire
from tests.journal.test_journal import JOBS
from tests.state.power import COMPILER
from tests.state.test_power import Acknowledged, serving, what_is_lost

SOURCE = Path(__file__).parent / "fail_once.c"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C compiler, and Linux"),
]


class Disk:
    """A folder of which one call fails, the `number`th from when `fail` is called."""

    def __init__(self, root: Path, folder: Path) -> None:
        library, control = folder / "fail_once.so", folder / "control"
        subprocess.run([str(COMPILER), "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
        control.write_bytes(bytes(4096))
        with control.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 4096)
        self.environment = {"LD_PRELOAD": str(library), "FAIL_CONTROL": str(control), "FAIL_ROOT": str(root)}

    def fail(self, number: int, code: int) -> None:
        self._shared[64:1064] = bytes(1000)
        self._shared[:8] = struct.pack("ii", number, code)

    def heal(self) -> str:
        """Let everything pass again; returns the call that failed, "" when none did."""
        self._shared[:4] = bytes(4)
        return bytes(self._shared[64:1064]).split(b"\0")[0].decode()


def attempt(http: httpx.Client, job: str, told: Acknowledged) -> list[str]:
    """Create a job, save twice, promote, as far as that goes, and note what is acknowledged; returns the refusals."""
    name = f"accounts/local/rlorTrainerJobs/{job}"
    refused: list[str] = []

    def asked(path: str, body: Any) -> bool:
        answer = http.post(path, json=body)
        if answer.status_code != 200:
            assert answer.status_code == 507, answer.text
            refused.append(answer.text)
        return answer.status_code == 200

    made = {"trainingConfig": {"baseModel": BASE}}
    path = f"{JOBS}?rlorTrainerJobId={job}"
    assert asked(path, made) or asked(path, made)
    told.jobs.append(name)
    wire = Wire(http, job)
    for number, (verb, row) in enumerate((("save_weights", "step-1"), ("save_weights_for_sampler", "s-0a1b2c3d"))):
        saved = wire.run(verb, number + 1, path=row, **({"checkpoint_type": "base"} if number else {}))
        if "path" in saved:
            told.rows.append(f"{name}/checkpoints/{row}")
        else:
            assert saved["error_class"] == "StorageFailed", saved
            refused.append(str(saved))
    if f"{name}/checkpoints/s-0a1b2c3d" in told.rows:
        body = {"output_model": f"accounts/local/models/m-{job}", "trainer_job_id": name, "base_model": BASE}
        if asked("/v1/accounts/local/checkpoints/s-0a1b2c3d:promote", body):
            told.models.append(body["output_model"])
    return refused


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_whatever_call_towards_the_disk_fails_it_is_told_and_the_next_works(tmp_path: Path, code: int) -> None:
    root, told, number = tmp_path / "state", Acknowledged(), 0
    disk = Disk(root, tmp_path)
    with (
        serving(root, disk.environment) as (_, url),
        httpx.Client(base_url=url, headers={"X-Api-Key": "fw-ftsim-local"}, timeout=60) as http,
    ):
        while True:
            number += 1
            disk.fail(number, code)
            refused = attempt(http, f"j{number}", told)
            failed = disk.heal()
            assert http.get("/healthz").json() == {"status": "ok"}, failed
            assert Wire(http, f"j{number}").run("save_weights", 1, path="after").get("path") == "after", failed
            told.rows.append(f"accounts/local/rlorTrainerJobs/j{number}/checkpoints/after")
            if not failed:
                break
            assert len(refused) == 1, (failed, refused)
    assert number > 40
    with Emulator(DictBackend(tmp_path / "scratch"), state_dir=root) as emulator:
        assert emulator.platform.lost == []
    assert what_is_lost(root, told, tmp_path / "scratch") == []
