"""Counters of tokens outlive a process that is killed, and are never counted twice."""

import os
import signal
from pathlib import Path

import httpx
import pytest

from emulator import Emulator
from emulator.state.tally import FILE
from emulator.state.usage import METERS
from tests.doubles import BASE, DictBackend
from tests.http.tinker.test_service import Client
from tests.server_process import start

KEY = "fw-ftsim-local"
ASKED = {"model": BASE, "prompt": [1, 2, 3], "max_tokens": 4, "ignore_eos": True}


def counted(emulator: Emulator) -> dict[str, int]:
    rows = emulator.platform.usages.rows(emulator.account)
    return {name: sum(getattr(row, name) for row in rows) for name in ("requests", *METERS)}


def opened(folder: Path) -> Emulator:
    return Emulator(DictBackend(folder / "backend"), state_dir=folder, api_key=KEY)


def ask(http: httpx.Client, times: int = 1) -> None:
    for _ in range(times):
        http.post("/v1/completions", json=ASKED).raise_for_status()


def expected(completions: int, steps: int) -> dict[str, int]:
    told = {"requests": completions + steps, "prefilled": 3 * completions, "cached": 0}
    return {**told, "sampled": 4 * completions, "trained": 3 * steps}


@pytest.mark.parametrize("before", [1, 203])
def test_what_was_answered_is_counted_after_a_kill(tmp_path: Path, before: int) -> None:
    steps = 0
    for life in range(2):
        process, url = start(tmp_path)
        try:
            with httpx.Client(base_url=url, headers={"X-Api-Key": KEY}, timeout=60) as http:
                ask(http, before)
                client = Client(http)
                for _ in range(2):
                    client.step()
                    steps += 1
                if life:  # a read stores them, and more come after it
                    assert http.get("/v1/accounts/local/billing/summary").status_code in (200, 400)
                    ask(http)
            os.kill(process.pid, signal.SIGKILL)
        finally:
            process.kill()
            process.communicate()
        with opened(tmp_path) as emulator:
            assert counted(emulator) == expected((life + 1) * before + life, steps)
            assert counted(emulator) == counted(emulator)
    with opened(tmp_path) as emulator:
        assert counted(emulator) == expected(2 * before + 1, steps)


def test_torn_and_changed_lines_are_left_out(tmp_path: Path) -> None:
    with opened(tmp_path) as emulator, httpx.Client(base_url=emulator.url, headers={"X-Api-Key": KEY}) as http:
        ask(http, 2)
        lines = (tmp_path / FILE).read_bytes().split(b"\n")
        assert len(lines) == 3
    assert (tmp_path / FILE).read_bytes() == b""
    grown = lines[-1].replace(b'"requests":2', b'"requests":9')
    assert grown != lines[-1]
    (tmp_path / FILE).write_bytes(b"\n".join([b"", lines[1], grown, lines[2][:-5]]))
    with opened(tmp_path) as emulator:
        assert counted(emulator) == expected(2, 0)


def test_a_reset_forgets_them_for_good(tmp_path: Path) -> None:
    with opened(tmp_path) as emulator, httpx.Client(base_url=emulator.url, headers={"X-Api-Key": KEY}) as http:
        ask(http, 3)
        kept = (tmp_path / FILE).read_bytes()
        emulator.reset()
        assert kept
        assert (tmp_path / FILE).read_bytes() == b""
        ask(http)
        assert counted(emulator) == expected(1, 0)


def test_where_the_file_cannot_be_made_counting_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with opened(tmp_path) as emulator, httpx.Client(base_url=emulator.url, headers={"X-Api-Key": KEY}) as http:
        ask(http, 3)
        assert counted(emulator) == expected(3, 0)
