"""The names of endpoints, which quirks select by."""

from pathlib import Path

import httpx
import pytest

from emulator.core import endpoints
from emulator.core.clock import Clock
from emulator.core.errors import InvalidArgument
from emulator.quirks.engine import Quirks
from emulator.quirks.table import QUIRKS
from emulator.server import Emulator
from tests.doubles import DictBackend


def test_every_verb_of_a_trainer_can_be_selected(tmp_path: Path) -> None:
    with Emulator(DictBackend(tmp_path)) as emulator:
        answer = httpx.get(f"{emulator.url}/_ftsim/openapi.json", headers={"X-Api-Key": emulator.api_key}, timeout=60)
        described = answer.json()
        paths = [path for path in described["paths"] if path.startswith("/training/v1/") and "/api/v1/" in path]
        verbs = {path.rpartition("/api/v1/")[2] for path in paths}
        assert emulator.platform.training.verbs < verbs
    assert verbs <= set(endpoints.NAMES)


@pytest.mark.parametrize("name", ["promote", "optim_step", "client/config", "GET /v1/accounts/local/deployments"])
def test_a_call_that_can_be_made_can_be_selected(name: str) -> None:
    Quirks(Clock(), QUIRKS).set("http.fail", 503, endpoint=name)


@pytest.mark.parametrize("name", ["promot", "", "GET", "PROMOTE", "/v1/accounts"])
def test_an_endpoint_that_no_call_goes_to_is_refused(name: str) -> None:
    quirks = Quirks(Clock(), QUIRKS)
    with pytest.raises(InvalidArgument, match=r"unknown endpoint of quirk http.fail: .*list_checkpoints"):
        quirks.set("http.fail", 503, endpoint=name)
    assert not quirks.active()
