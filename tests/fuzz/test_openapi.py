"""The OpenAPI document knows every route and every verb of the gateway, and what it promises is what is answered."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route

from emulator.core.endpoints import ENDPOINTS
from emulator.http.app import create_app
from emulator.http.gateway import routes as gateway
from emulator.server import Emulator
from tests.doubles import DictBackend
from tests.inspect.test_replay import train
from tests.journal.test_journal import JOBS

PAGES = {"/", "/_ftsim/ui"}
"""Shown to people in a browser; no client of the service asks for them."""


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path)) as emulator:
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}, timeout=60) as client:
        yield client


def test_every_route_and_verb_is_described(emu: Emulator, http: httpx.Client) -> None:
    document = http.get("/_ftsim/openapi.json").json()
    app = create_app(emu.platform, keys=emu.keys)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    for route in app.routes:
        assert isinstance(route, Route)
        if "{path:path}" in route.path or "{verb:path}" in route.path or route.path in PAGES:
            continue
        for method in (route.methods or set()) - {"HEAD"}:
            assert (method, route.path) in described
    assert described == {(row.method, row.path) for row in ENDPOINTS}
    assert all(gateway.VERBS.find("POST", verb) for verb in emu.platform.training.verbs)


@pytest.mark.parametrize(
    ("route", "path"),
    [
        ("/v1/accounts/{account}/rlorTrainerJobs", JOBS),
        ("/v1/accounts/{account}/rlorTrainerJobs/{job}", f"{JOBS}/j1"),
        ("/v1/accounts/{account}/rlorTrainerJobs/{owner}/checkpoints", f"{JOBS}/j1/checkpoints"),
        ("/v1/accounts/{account}/models/{model}", "/v1/accounts/local/models/m1"),
    ],
)
def test_real_answers_are_what_the_document_says(http: httpx.Client, route: str, path: str) -> None:
    train(http)
    described = http.get("/_ftsim/openapi.json").json()["paths"][route]["get"]["responses"]
    answer = http.get(path)
    schema = described["200"]["content"]["application/json"]["schema"]
    assert not list(Draft202012Validator(schema).iter_errors(answer.json()))
    assert list(Draft202012Validator(schema).iter_errors({"other": 1}))
    refused = http.get(path.replace("local", "other")).json()
    assert not list(
        Draft202012Validator(described["default"]["content"]["application/json"]["schema"]).iter_errors(refused)
    )
