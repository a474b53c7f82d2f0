"""Operations of the service that the emulator lacks are refused by name, and nothing else is."""

import re

import httpx
import pytest

from emulator.core import unserved
from emulator.core.endpoints import ENDPOINTS, pattern
from emulator.server import Emulator


def concrete(path: str, account: str) -> str:
    """A path with ids in the place of its parameters."""
    return re.sub(r"{\w+}", "some-id", path.replace("{account}", account))


def test_each_operation_is_refused_with_a_sentence_of_its_own(emu: Emulator, http: httpx.Client) -> None:
    for one in unserved.operations():
        answer = http.request(one.method, concrete(one.path, emu.account))
        assert answer.status_code == 501, one
        assert answer.json()["message"].startswith(f"{one.operation} is not emulated: "), one
    answer = http.get(f"/v1/accounts/{emu.account}/nothingOfTheKind")
    assert answer.status_code == 404
    assert "no such path" in answer.text


def test_none_of_them_is_served_and_every_reason_is_used() -> None:
    assert {one.subject for one in unserved.operations()} == set(unserved.REASONS)
    served = [(row.method, pattern(row.path)) for row in ENDPOINTS]
    for one in unserved.operations():
        path = concrete(one.path, "mine")
        assert not any(method == one.method and found.fullmatch(path) for method, found in served), one


def test_without_a_key_nothing_is_told(emu: Emulator) -> None:
    answer = httpx.get(f"{emu.url}/v1/accounts/{emu.account}/creditRedemptions", trust_env=False)
    assert answer.status_code == 401


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_another_method_of_such_a_path_is_not_known(emu: Emulator, http: httpx.Client, method: str) -> None:
    assert http.request(method, f"/v1/accounts/{emu.account}/creditRedemptions").status_code == 404
