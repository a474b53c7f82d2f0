"""`ftsim journal --follow` shows what is asked while it is asked."""

import signal
import subprocess
import sys

import httpx

from emulator.server import Emulator
from tests.conftest import Ftsim


def _interruptible() -> None:
    """Let Ctrl-C reach a child of a suite that runs in the background, where shells have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_follow_shows_what_is_asked_from_now_on(emu: Emulator, on: list[str]) -> None:
    headers = {"X-Api-Key": emu.api_key}
    httpx.get(f"{emu.url}/v1/accounts/acct1/models", headers=headers)
    command = [sys.executable, "-m", "ftsim", "journal", "--follow", "--path", "acct1", *on]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_interruptible
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline().rstrip().endswith("GET    /v1/accounts/acct1/models")
        httpx.get(f"{emu.url}/v1/accounts", headers=headers)
        httpx.get(f"{emu.url}/v1/accounts/acct1/rlorTrainerJobs", headers=headers)
        assert following.stdout.readline().rstrip().endswith("GET    /v1/accounts/acct1/rlorTrainerJobs")
        following.send_signal(signal.SIGINT)
        try:
            rest, errors = following.communicate(timeout=20)
        finally:
            following.kill()
    assert (rest, errors, following.returncode) == ("", "", 130)


def test_follow_goes_with_filters_alone(ftsim: Ftsim, on: list[str]) -> None:
    done = ftsim("journal", "--follow", "--json", *on)
    assert done.exit_code == 2
    assert "filters alone" in done.stderr
